"""The simulated cluster: nodes that drive the daemon's own Fetching, Serving and Placement.

Nothing here decides whom to ask or to serve; it carries messages and bytes (see links.py), and
keeps count. All nodes share one Placement, as nodes with the same view of the members would.
"""

from __future__ import annotations

import gc
from math import inf
from random import Random

from bench.sim.links import PIECE, QUARTERS, Clock, Link, Transfer
from bench.sim.model import Result, Settings
from bench.sim.node import BLOB, Node
from bench.sim.tally import tally
from registryd.cluster.choosing import UPSTREAM
from registryd.cluster.fetching import Ask, AskUpstream, Drop, Fetching, Limits
from registryd.cluster.geometry import Geometry
from registryd.cluster.peers import Failure
from registryd.cluster.placement import Placement
from registryd.cluster.serving import Answers, Queue, Redirect, Refuse, Request, Serve


class Cluster:
    """One storm, from the first request to the last byte."""

    def __init__(self, settings: Settings, limits: Limits | None = None) -> None:
        self.settings = settings
        self.limits = limits or Limits(flowing=settings.slots)
        self.clock = Clock()
        self.random = Random(settings.seed)
        self.geometry = Geometry(settings.size, settings.chunk)
        self.result = Result(settings)
        names = [f"n{index:05d}" for index in range(settings.nodes)]
        self.placement = Placement(names)
        self.nodes = [
            Node(index, name, settings, self.placement) for index, name in enumerate(names)
        ]
        self.by_name = {node.name: node for node in self.nodes}
        self.upstream = Link(settings.upstream)
        self.left = settings.asking
        self.finished: set[int] = set()
        #: How often a node looks at what stalls: twice in the usual time of a chunk.
        self.tick = settings.slots * settings.chunk / settings.link / 2
        self.holders: tuple[str, ...] = ()

    def run(self, limit: float = 100.0) -> Result:
        """Play the storm; ``limit`` in floors, after which whoever is not done is unfinished."""
        gc.disable()
        try:
            self._set_up()
            horizon = self.settings.floor * limit + 100
            while self.left and self.clock.now < horizon:
                before = self.clock.count
                self.clock.run(min(horizon, self.clock.now + self.settings.floor / 10 + 0.1))
                if self.clock.count == before and not self.left:
                    break
                self.clock.now = max(self.clock.now, 0.0) + 1e-9
        finally:
            gc.enable()
        self.result.unfinished, self.result.events = self.left, self.clock.count
        tally(self.result, self.nodes, self.upstream)
        return self.result

    def _set_up(self) -> None:
        settings, random = self.settings, self.random
        order = random.sample(range(settings.nodes), settings.nodes)
        askers, rest = order[: settings.asking], order[settings.asking :]
        for index in random.sample(order, int(settings.nodes * settings.slow)):
            self.nodes[index].slow = True
            self.nodes[index].up.capacity /= settings.slowness
            self.nodes[index].down.capacity /= settings.slowness
        self.holders = tuple(self.nodes[index].name for index in rest[: settings.holders])
        for index in rest[: settings.holders]:
            self._begin(self.nodes[index], here=range(self.geometry.count))
        for index in askers:
            self.nodes[index].asker = True
            self.clock.at(random.random() * settings.spread, self._join, self.nodes[index])
        for index in random.sample(order, int(settings.nodes * settings.killed)):
            self.clock.at(settings.kill_at * settings.floor, self._kill, self.nodes[index])

    def _begin(self, node: Node, wants: object = None, here: range = range(0)) -> Fetching:
        node.fetching = Fetching(
            BLOB,
            self.geometry,
            self.placement,
            node.peers,
            limits=self.limits,
            wants=None if wants is None else (),
            here=here,
            holders=self.holders[:8],
        )
        return node.fetching

    def _join(self, node: Node) -> None:
        if not node.alive:
            return
        if node.fetching is None:
            self._begin(node)
        else:
            node.fetching.want_all()
        self._pump(node)
        self.clock.at(self.clock.now + self.tick * (1 + self.random.random()), self._tick, node)

    # Requests.

    def _pump(self, node: Node) -> None:
        """Do what the node's rules say now."""
        fetching, now = node.fetching, self.clock.now
        if fetching is None:
            return
        for step in fetching.steps(now):
            if isinstance(step, Ask):
                self.clock.at(now + self.settings.latency, self._asked, node, step)
            elif isinstance(step, AskUpstream):
                self._ask_upstream(node, step)
            else:
                self._drop(node, step)
        due = fetching.due()
        if due is not None and due < node.wake:
            node.wake = due
            self.clock.at(due, self._woken, node)

    def _woken(self, node: Node) -> None:
        node.wake = float("inf")
        if node.alive and node.fetching is not None:
            node.fetching.passed(self.clock.now)
            self._pump(node)

    def _asked(self, asker: Node, step: Ask) -> None:
        """A request reaches a peer."""
        peer, now = self.by_name[step.node], self.clock.now
        self.result.requests += 1
        peer.asked_in[int(now)] += 1
        if not peer.alive:
            self.clock.at(now + self.settings.latency, self._failed, asker, step, Failure.GONE)
            return
        if not asker.alive:
            return
        fetching = peer.fetching or self._begin(peer, wants=())
        free = asker.serving.free
        offset = max(step.offset, int(self._reach(asker, step.chunk)))
        request = Request(
            asker.name, BLOB, step.chunk, offset, step.hops, free, step.relay, step.owed
        )
        answer: Serve | Redirect | Queue | Refuse
        if step.chunk in fetching.here:
            answer = peer.serving.ask(request, None, now)
        elif fetching.demand(step.chunk, now, owed=step.owed):
            answer = peer.serving.ask(request, self._here(peer, step.chunk), now)
        else:
            owner = fetching.owner(step.chunk, now)
            answer = Refuse() if owner in {None, peer.name} else Redirect(str(owner))
        peer.clients[asker.index, step.chunk] = None
        if not isinstance(answer, Queue):
            self._answer(peer, asker, step.chunk, answer)
        self._pump(peer)

    def _answers(self, peer: Node, answers: Answers) -> None:
        for request, answer in answers:
            self._answer(peer, self.by_name[request.asker], request.chunk, answer)

    def _answer(
        self, peer: Node, asker: Node, chunk: int, answer: Serve | Redirect | Refuse
    ) -> None:
        then = self.clock.now + self.settings.latency
        if isinstance(answer, Serve):
            transfer = Transfer(peer.index, asker.index, chunk, peer.up, asker.down)
            peer.clients[asker.index, chunk] = transfer
            self.clock.at(then, self._served, transfer)
            return
        peer.clients.pop((asker.index, chunk), None)
        if isinstance(answer, Redirect):
            self.clock.at(then, self._redirected, asker, chunk, peer.name, answer.node)
        else:
            step = Ask(chunk, peer.name)
            self.clock.at(then, self._failed, asker, step, Failure.REFUSED)

    def _redirected(self, asker: Node, chunk: int, node: str, to: str) -> None:
        if asker.alive and asker.fetching is not None:
            asker.fetching.redirected(chunk, node, to, self.clock.now)
            self._pump(asker)

    def _failed(self, asker: Node, step: Ask, failure: Failure) -> None:
        if asker.alive and asker.fetching is not None:
            asker.fetching.failed(step.chunk, step.node, failure, self.clock.now)
            self._pump(asker)

    def _drop(self, node: Node, step: Drop) -> None:
        """The node ends a request of its own."""
        if step.node == UPSTREAM:
            source = None
        else:
            source = self.by_name[step.node]
            source.serving.withdrawn(node.name, BLOB, step.chunk)
            source.clients.pop((node.index, step.chunk), None)
        for transfer in list(node.coming.get(step.chunk, ())):
            if transfer.sender == (-1 if source is None else source.index):
                self._end(transfer)

    # Bytes.

    def _served(self, transfer: Transfer) -> None:
        """A peer's 206 reaches the asker."""
        node, peer = self.nodes[transfer.receiver], self.nodes[transfer.sender]
        fetching = node.fetching
        if fetching is None:
            return
        offset = fetching.wanted_from(transfer.chunk, peer.name)
        live = peer.alive and node.alive
        if live and offset is not None and self._behind(peer, node, transfer.chunk):
            fetching.failed(transfer.chunk, peer.name, Failure.REFUSED, self.clock.now)
            offset = None
        if not live or offset is None or peer.clients.get((node.index, transfer.chunk)) is None:
            transfer.over = True
            peer.clients.pop((node.index, transfer.chunk), None)
            if peer.alive:
                self._answers(peer, peer.serving.ended(self.clock.now))
            return
        node.coming.setdefault(transfer.chunk, []).append(transfer)
        self._start(transfer, offset)
        if self.random.random() < self.settings.loss:
            self.clock.at(self.clock.now + self.tick / 2, self._cut, transfer)

    def _ask_upstream(self, node: Node, step: AskUpstream) -> None:
        transfer = Transfer(-1, node.index, step.chunk, self.upstream, node.down)
        node.coming.setdefault(step.chunk, []).append(transfer)
        self.result.upstream_requests += 1
        then = self.clock.now + 2 * self.settings.upstream_latency
        self.clock.at(then, self._start, transfer, step.offset)

    def _start(self, transfer: Transfer, offset: int) -> None:
        if not transfer.over:
            transfer.start(offset, self.geometry.length(transfer.chunk), self.clock.now)
            self._look(transfer)

    def _limit(self, transfer: Transfer) -> float:
        """How much of the chunk the sender could have sent by now."""
        if transfer.sender < 0:
            return transfer.size
        peer = self.nodes[transfer.sender]
        if peer.fetching is not None and transfer.chunk in peer.fetching.here:
            return transfer.size
        return min(self._reach(peer, transfer.chunk) - PIECE, transfer.size - 1.0)

    def _at_most(self, transfer: Transfer, pause: float) -> float:
        """The rate that a sender has bytes for: what it has beyond us, and what comes to it."""
        if transfer.sender < 0:
            return inf
        peer = self.nodes[transfer.sender]
        if peer.fetching is not None and transfer.chunk in peer.fetching.here:
            return inf
        comes = max((each.rate for each in peer.coming.get(transfer.chunk, ())), default=0.0)
        ahead = self._reach(peer, transfer.chunk) - PIECE - transfer.got
        return comes + max(ahead, PIECE) / pause

    def _behind(self, peer: Node, node: Node, chunk: int) -> bool:
        """Whether a sender fell behind while the asker was in its queue (said with the 206)."""
        if peer.fetching is not None and chunk in peer.fetching.here:
            return False
        return self._here(peer, chunk) <= self._reach(node, chunk)

    def _here(self, node: Node, chunk: int) -> int:
        """How much of it a node has for certain, when it was last looked at."""
        return int(max((each.got for each in node.coming.get(chunk, ())), default=0))

    def _reach(self, node: Node, chunk: int) -> float:
        """How much of a chunk that is still coming a node has."""
        now, reached = self.clock.now, 0.0
        for each in node.coming.get(chunk, ()):
            reached = max(reached, min(each.size, each.got + each.rate * (now - each.seen)))
        return reached

    def _look(self, transfer: Transfer) -> None:
        """See what came, and share the links anew."""
        if transfer.over:
            return
        now = self.clock.now
        transfer.advance(now, self._limit(transfer))
        if transfer.got >= transfer.size - 0.5:
            self._finish(transfer)
            return
        if not transfer.flowing and transfer.got >= min(transfer.offset + PIECE, transfer.size):
            self._first(transfer)
            if transfer.over:
                return
        pause = 2 * self.tick / QUARTERS
        transfer.share(self._at_most(transfer, pause))
        left = transfer.size - transfer.got
        if not transfer.flowing:
            left = min(left, PIECE - (transfer.got - transfer.offset) + 1)
        if transfer.rate > 0:
            pause = min(pause, max(left / transfer.rate, 0.0005))
        self.clock.at(now + (pause if transfer.rate > 0 else pause / 4), self._look, transfer)

    def _first(self, transfer: Transfer) -> None:
        """The first bytes are here: who waits for them can be answered."""
        node = self.nodes[transfer.receiver]
        transfer.flowing = True
        if node.fetching is None:
            return
        source, sender = self._source(transfer), self.nodes[transfer.sender].fetching
        through = sender is None or transfer.chunk not in sender.here
        passing_on = transfer.sender >= 0 and through
        node.fetching.flowing(transfer.chunk, source, self.clock.now, passing_on=passing_on)
        self._answers(node, node.serving.here(BLOB, transfer.chunk, self.clock.now))
        self._pump(node)

    def _source(self, transfer: Transfer) -> str:
        return UPSTREAM if transfer.sender < 0 else self.nodes[transfer.sender].name

    def _finish(self, transfer: Transfer) -> None:
        """Everything has come."""
        if not transfer.flowing:
            self._first(transfer)
        now, node, fetching = self.clock.now, self.nodes[transfer.receiver], None
        if not transfer.over:
            self._end(transfer)
            fetching = node.fetching
        if fetching is not None:
            fetching.arrived(transfer.chunk, self._source(transfer), now)
            if fetching.done and node.asker and node.index not in self.finished:
                self.finished.add(node.index)
                (self.result.slow if node.slow else self.result.healthy).append(now)
                self.left -= 1
            self._pump(node)

    def _end(self, transfer: Transfer) -> None:
        """A transfer is over, well or badly, and its place is free."""
        if transfer.over:
            return
        now, node = self.clock.now, self.nodes[transfer.receiver]
        if transfer.open:
            transfer.advance(now, self._limit(transfer))
        transfer.stop()
        node.coming[transfer.chunk].remove(transfer)
        if transfer.sender >= 0:
            peer = self.nodes[transfer.sender]
            peer.clients.pop((node.index, transfer.chunk), None)
            if peer.alive:
                self._answers(peer, peer.serving.ended(now))

    # What goes wrong, and time.

    def _tick(self, node: Node) -> None:
        fetching, now = node.fetching, self.clock.now
        if not node.alive or fetching is None:
            return
        for chunk, transfers in node.coming.items():
            for each in transfers:
                if each.flowing:
                    came = each.got + each.rate * (now - each.seen)
                    came = max(each.got, min(came, self._limit(each)))
                    fetching.reached(chunk, self._source(each), int(came), now)
        fetching.passed(now)
        self._answers(node, node.serving.passed(now))
        self._pump(node)
        if self.left:
            self.clock.at(now + self.tick, self._tick, node)

    def _cut(self, transfer: Transfer) -> None:
        if not transfer.over:
            self._break(transfer, Failure.CUT)

    def _break(self, transfer: Transfer, failure: Failure) -> None:
        """A connection ends within the chunk: what came stays."""
        node, peer = self.nodes[transfer.receiver], self.nodes[transfer.sender]
        if node.fetching is not None:
            reached = int(transfer.got)
            node.fetching.reached(transfer.chunk, peer.name, reached, self.clock.now)
        self._end(transfer)
        self.clock.at(
            self.clock.now + self.settings.latency,
            self._failed,
            node,
            Ask(transfer.chunk, peer.name),
            failure,
        )

    def _kill(self, node: Node) -> None:
        """A node is gone at once; its peers see their connections end."""
        node.alive = False
        if node.asker and (node.fetching is None or not node.fetching.done):
            self.left -= 1
        for transfer in [each for line in list(node.coming.values()) for each in line]:
            self._end(transfer)
        for (index, chunk), served in list(node.clients.items()):
            if served is not None and served in self.nodes[index].coming.get(chunk, ()):
                self._break(served, Failure.GONE)
            else:
                step = Ask(chunk, node.name)
                self.clock.at(
                    self.clock.now + self.settings.latency,
                    self._failed,
                    self.nodes[index],
                    step,
                    Failure.GONE,
                )
        self.clock.at(self.clock.now + self.settings.detect, self.placement.leave, node.name)
