"""A cluster in one process for tests of the rules: messages in any order, no bytes, no real time.

Every node has the daemon's own Fetching and Serving, and does with them what a driver must. A chunk
travels at once when it is served. Time passes only when nothing else can happen, and then only to
the end of somebody's rest: whoever waits for an answer that never comes is found out at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from random import Random

from registryd.cluster.choosing import UPSTREAM
from registryd.cluster.fetching import Ask, AskUpstream, Drop, Fetching
from registryd.cluster.geometry import Geometry
from registryd.cluster.peers import Failure, Peers
from registryd.cluster.placement import Placement
from registryd.cluster.serving import Answers, Queue, Redirect, Refuse, Request, Serve, Serving

BLOB = 42
#: Longer than any test.
LONG = 1000.0


class Small:
    """One node: its rules, and the requests that it has open by chunk and peer."""

    def __init__(self, name: str, members: Iterable[str], chunks: int) -> None:
        placement = Placement(members)
        self.name = name
        self.fetching = Fetching(BLOB, Geometry(chunks * 10, 10), placement, Peers(name))
        self.serving = Serving(name, placement)
        self.open: dict[tuple[int, str], int] = {}


class SmallWorld:
    """The nodes, the messages between them, and an upstream that answers only some."""

    def __init__(self, nodes: int, chunks: int, reaching: Iterable[str], random: Random) -> None:
        names = [f"n{index}" for index in range(nodes)]
        self.nodes = {name: Small(name, names, chunks) for name in names}
        self.reaching = set(reaching)
        self.random = random
        self.now = 0.0
        #: Successful fetches from upstream by chunk, and refused ones by node.
        self.fetched: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()
        self.gave_up: set[str] = set()
        self._mail: list[Callable[[], None]] = []
        self._serial = 0

    def told(self, bars: Mapping[str, Iterable[str]]) -> None:
        """What each node believes of the others at first, rightly or wrongly."""
        for name, believed in bars.items():
            for other in believed:
                self.nodes[name].fetching.barred(other, self.now, LONG)

    def run(self, steps: int = 20_000) -> None:
        """Play until every node has everything or has given up. Raises TimeoutError."""
        for node in self.nodes.values():
            self._pump(node)
        for _ in range(steps):
            if self._mail:
                self._mail.pop(self.random.randrange(len(self._mail)))()
            elif not self._pass_time():
                break
        waiting = [name for name, node in self.nodes.items() if not node.fetching.done]
        if set(waiting) - self.gave_up:
            raise TimeoutError(f"{waiting} wait for one another at {self.now}")

    def _pass_time(self) -> bool:
        times = [node.fetching.due() for node in self._playing()]
        then = min((time for time in times if time is not None), default=None)
        if then is None or then > LONG / 10:
            return False
        self.now = max(self.now, then)
        for node in self._playing():
            node.fetching.passed(self.now)
            self._pump(node)
        return True

    def _playing(self) -> list[Small]:
        return [node for name, node in self.nodes.items() if name not in self.gave_up]

    def _pump(self, node: Small) -> None:
        if node.fetching.hopeless(self.now):
            self._give_up(node)
        if node.name in self.gave_up:
            return
        for step in node.fetching.steps(self.now):
            if isinstance(step, Drop):
                if node.open.pop((step.chunk, step.node), None) and step.node != UPSTREAM:
                    self.nodes[step.node].serving.withdrawn(node.name, BLOB, step.chunk)
            elif isinstance(step, AskUpstream):
                self._post(node, step.chunk, UPSTREAM, lambda c=step.chunk: self._upstream(node, c))
            else:
                self._post(node, step.chunk, step.node, lambda s=step: self._asked(node, s))

    def _give_up(self, node: Small) -> None:
        self.gave_up.add(node.name)
        for chunk in range(node.fetching.geometry.count):
            self._answer(node, node.serving.lost(BLOB, chunk))

    def _post(self, node: Small, chunk: int, peer: str, then: Callable[[], None]) -> None:
        """Send, unless the request was dropped before it came."""
        self._serial += 1
        serial = node.open[chunk, peer] = self._serial
        self._mail.append(lambda: then() if node.open.get((chunk, peer)) == serial else None)

    def _upstream(self, node: Small, chunk: int) -> None:
        del node.open[chunk, UPSTREAM]
        if node.name in self.reaching:
            self.fetched[chunk] += 1
            self._arrived(node, chunk, UPSTREAM)
        else:
            self.refused[node.name] += 1
            node.fetching.failed(chunk, UPSTREAM, Failure.REFUSED, self.now)
            node.fetching.barred(node.name, self.now, LONG)
            self._answer(node, node.serving.barred(BLOB))
        self._pump(node)

    def _asked(self, asker: Small, step: Ask) -> None:
        peer = self.nodes[step.node]
        bar = asker.fetching.bar(self.now)
        if bar:
            peer.fetching.barred(asker.name, self.now, bar)
        request = Request(
            asker.name, BLOB, step.chunk, hops=step.hops, relay=step.relay, owed=step.owed
        )
        answer: Serve | Redirect | Queue | Refuse
        if peer.name in self.gave_up and step.chunk not in peer.fetching.here:
            answer = Refuse()
        elif peer.fetching.demand(step.chunk, self.now, owed=step.owed):
            reach = None if step.chunk in peer.fetching.here else 0
            answer = peer.serving.ask(request, reach, self.now)
        else:
            owner = peer.fetching.owner(step.chunk, self.now)
            away = step.owed or owner in {None, peer.name}
            answer = Refuse() if away else Redirect(str(owner))
        if not isinstance(answer, Queue):
            self._answer(peer, [(request, answer)])
        self._pump(peer)

    def _answer(self, peer: Small, answers: Answers) -> None:
        for request, answer in answers:
            asker, bar = self.nodes[request.asker], peer.fetching.bar(self.now)
            then = self._told_of(asker, request.chunk, peer, answer, bar)
            serial = asker.open.get((request.chunk, peer.name))
            self._mail.append(
                lambda t=then, a=asker, s=serial, k=(request.chunk, peer.name): (
                    t() if s is not None and a.open.get(k) == s else None
                )
            )

    def _told_of(
        self, asker: Small, chunk: int, peer: Small, answer: object, bar: float
    ) -> Callable[[], None]:
        def then() -> None:
            del asker.open[chunk, peer.name]
            if isinstance(answer, Serve):
                self._arrived(asker, chunk, peer.name)
                self._answer(peer, peer.serving.ended(self.now))
            elif isinstance(answer, Redirect):
                asker.fetching.redirected(chunk, peer.name, answer.node, self.now)
            else:
                asker.fetching.failed(chunk, peer.name, Failure.REFUSED, self.now)
                if bar:
                    asker.fetching.barred(peer.name, self.now, bar)
            self._pump(asker)

        return then

    def _arrived(self, node: Small, chunk: int, source: str) -> None:
        node.fetching.flowing(chunk, source, self.now)
        node.fetching.arrived(chunk, source, self.now)
        self._answer(node, node.serving.here(BLOB, chunk, self.now))
