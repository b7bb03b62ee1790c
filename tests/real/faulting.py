"""What goes wrong in a cluster: nodes that differ, and an upstream that knows who asks and counts.

Invariants:
- each node has a door of its own to the upstream, so that the upstream can tell them apart;
- what came from the upstream is counted by chunk, by the upstream itself;
- nothing waits for time to pass: a request that shall be slow stops at a gate.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from typing_extensions import override

from cache.content import Digest
from registryd.cluster.geometry import Geometry
from registryd.cluster.placement import Placement, blob_key
from tests.fakes.http import Reply, Seen
from tests.fakes.members import HOST, Site
from tests.fakes.registry import FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.real.cluster import Node, free_ports
from tests.real.runtimes import Ran
from tests.real.stories import UP, blobs_of, daemon

#: The image that everybody pulls.
REPOSITORY, IMAGE = "a", f"{UP}/a:1"
#: Chunks of its only layer; the last one is shorter.
CHUNKS = 10
SIZE = (CHUNKS - 1) * Geometry(1).chunk + 1_000_003
#: A daemon's patience: long enough for a busy machine, too short to wait for its last try.
TRANSFER = {"attempts": 3, "connect_timeout": "2s", "stall_timeout": "20s"}

_RANGE = re.compile(r"bytes=(\d+)-")


@cache
def _base() -> bytes:
    return random.Random(11).randbytes(SIZE)


def layer(claim: Callable[[Digest], object] = lambda digest: True) -> bytes:
    """A layer for whose digest something holds: who owns which of its chunks depends on that."""
    for number in range(1000):
        content = number.to_bytes(8, "big") + _base()[8:]
        if claim(Digest.of(content)):
            return content
    raise AssertionError("no such layer was found")


def owned(digest: Digest, names: Sequence[str], owner: str) -> list[int]:
    """The chunks of a layer that a node owns among these."""
    placement, blob = Placement(names), blob_key(digest)
    return [chunk for chunk in range(CHUNKS) if placement.ranked(blob, chunk, 1) == (owner,)]


@dataclass
class Hold:
    """The first request for the byte at ``offset`` stops there until ``gate`` is set."""

    digest: str
    offset: int
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when a request has come that will stop; its door and how it is counted.
    door: int = 0
    counted_as: str = ""
    #: Bytes that this request sends before it stops.
    before: int = 0


class Upstream(FakeRegistry):
    """The registry. ``refuses`` is asked of each door's request, and may answer in its place."""

    def __init__(
        self, *, users: dict[str, str] | None = None, tokens: FakeTokenServer | None = None
    ) -> None:
        super().__init__(users=users, tokens=tokens)
        self.by_door: list[tuple[int, Seen]] = []
        self.refuses: Callable[[int, Seen], Reply | None] = lambda door, seen: None
        self.holds: list[Hold] = []
        #: Where each answer with bytes of a blob began, by its name in ``sent``.
        self._starts: dict[str, tuple[str, int]] = {}

    def put(self, content: bytes, *, tag: str = "1") -> str:
        """An image of one layer; the layer's digest."""
        self.add_image(REPOSITORY, tag, content)
        return str(Digest.of(content))

    def hold(self, digest: str, offset: int) -> Hold:
        """Let the next request for this byte stop before it."""
        self.holds.append(Hold(digest, offset))
        return self.holds[-1]

    async def held(self, hold: Hold, pulling: asyncio.Task[dict[int, Ran]]) -> None:
        """Wait until a request has stopped; all that it was to send by then is on its way."""

        def stopped() -> bool:
            return bool(hold.door) and self.sent[hold.counted_as] >= hold.before

        async with asyncio.timeout(30):
            while not stopped():
                assert not pulling.done(), pulling.result()
                await asyncio.sleep(0.01)

    def chunk_bytes(self, digest: str) -> Counter[int]:
        """The bytes of each chunk of a layer that were sent so far."""
        geometry, counted = Geometry(SIZE), Counter[int]()
        for name, (of, start) in self._starts.items():
            stop = start + self.sent[name]
            for chunk in geometry.covering(start, stop) if of == digest else ():
                first, last = geometry.span(chunk)
                counted[chunk] += min(last, stop) - max(first, start)
        return counted

    def doors(self, pattern: str) -> Counter[int]:
        """How often each door was asked for what the pattern finds."""
        return Counter(door for door, seen in self.by_door if re.search(pattern, seen.line))

    @override
    async def respond(self, request: web.BaseRequest) -> Reply:
        assert request.transport is not None
        door = request.transport.get_extra_info("sockname")[1]
        seen = self.requests[-1]
        self.by_door.append((door, seen))
        refused = self.refuses(door, seen)
        if refused is not None:
            return refused
        answer = await super().respond(request)
        if answer.counted_as:
            self._count(request, answer, door)
        return answer

    def _count(self, request: web.BaseRequest, answer: Reply, door: int) -> None:
        match = _RANGE.match(request.headers.get("Range", ""))
        start, digest = int(match[1]) if match else 0, answer.counted_as
        answer.counted_as = f"{digest}#{len(self._starts)}"
        self._starts[answer.counted_as] = digest, start
        for hold in self.holds:
            inside = start <= hold.offset < start + len(answer.body)
            if not hold.door and hold.digest == digest and inside:
                answer.gate, answer.gate_at = hold.gate, hold.offset - start
                hold.door, hold.counted_as, hold.before = door, answer.counted_as, answer.gate_at

    @asynccontextmanager
    async def at(self, sock: socket.socket) -> AsyncIterator[Upstream]:
        """Listen on a socket of somebody's making as long as the context lasts."""
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.01)
        await runner.setup()
        try:
            await web.SockSite(runner, sock).start()
            yield self
        finally:
            for hold in self.holds:
                hold.gate.set()
            await runner.cleanup()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass
class Crew:
    """The nodes n1, n2 ... by their numbers; ``names`` has their ids, and those of other members.

    ``doors`` has the port by which each of them reaches the upstream.
    """

    folder: Path
    site: Site
    upstream: Upstream
    names: list[str]
    ports: list[int]
    doors: dict[int, int] = field(default_factory=dict)
    nodes: dict[int, Node] = field(default_factory=dict)

    def __getitem__(self, number: int) -> Node:
        return self.nodes[number]

    def of_door(self, door: int) -> Node:
        """The node that comes by a door."""
        return next(self.nodes[number] for number, its in self.doors.items() if its == door)

    async def pull(self, *numbers: int, image: str = IMAGE) -> dict[int, Ran]:
        """Pull on these nodes (all, where none is named) at the same time."""
        chosen = numbers or tuple(self.nodes)
        rans = await asyncio.gather(
            *(asyncio.to_thread(self.nodes[number].pull, image) for number in chosen)
        )
        return dict(zip(chosen, rans, strict=True))

    def good(self, rans: Mapping[int, Ran]) -> None:
        """All of these have succeeded."""
        for number, ran in rans.items():
            assert ran.code == 0, f"n{number}: {ran.err}\n{self.logs()}"

    async def have(self, digest: str, *numbers: int) -> None:
        """These nodes (all, where none is named) hold a blob, and nothing wrong."""
        for number in numbers or tuple(self.nodes):
            found = await asyncio.to_thread(blobs_of, self.nodes[number].daemon.root)
            assert digest in found, f"n{number}\n{self.logs()}"

    async def metric(self, name: str, *numbers: int) -> float:
        """The sum of a metric over these nodes (all, where none is named)."""
        chosen = [self.nodes[number].daemon.socket for number in numbers or tuple(self.nodes)]
        values = await asyncio.gather(
            *(_metric(each, f"registryd_cluster_{name}") for each in chosen)
        )
        return sum(values)

    async def until(self, name: str, value: float, *numbers: int) -> None:
        """Wait until the sum of a metric over these nodes (all, where none is named) is this."""
        async with asyncio.timeout(60):
            while await self.metric(name, *numbers) != value:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.05)

    async def check_cost(
        self, digest: str, *numbers: int, most: int = 1, untold: Collection[int] = ()
    ) -> Counter[int]:
        """No chunk came more than ``most`` times more than needed, and these nodes say so.

        ``untold`` are chunks of which one node may have lost what it had: nobody tells of that.
        Gives the bytes that came again, by chunk.
        """
        geometry, sent = Geometry(SIZE), self.upstream.chunk_bytes(digest)
        again = +Counter({c: n - geometry.length(c) for c, n in sent.items()})
        times = {chunk: -(-count // geometry.length(chunk)) for chunk, count in again.items()}
        told = await self.metric("double_fetches_total", *numbers)
        words = f"again={again} told={told}\n{self.logs()}"
        assert max(times.values(), default=0) <= most, words
        assert sum(n for chunk, n in times.items() if chunk not in untold) <= told, words
        return again

    def logs(self) -> str:
        """What all nodes have said, for a test that fails."""
        return "\n".join(f"--- n{n} {node.id}\n{node.daemon.log}" for n, node in self.nodes.items())


async def _metric(sock: Path, name: str) -> float:
    """The sum of a metric's samples, by the unix socket: no network is needed for it."""
    connector = aiohttp.UnixConnector(str(sock))
    async with (
        aiohttp.ClientSession("http://node", connector=connector) as session,
        session.get("/metrics") as answer,
    ):
        text = await answer.text()
    found = re.findall(rf"^{name}(?:{{.*}})? ([0-9.e+-]+)$", text, re.MULTILINE)
    return sum(map(float, found))


@asynccontextmanager
async def crew(
    folder: Path,
    upstream: Upstream,
    count: int,
    *,
    site: Site | None = None,
    others: Sequence[str] = (),
    hosts: Sequence[str] = (),
    own: Callable[[int, Crew], Mapping[str, Any]] = lambda number, crew: {},
) -> AsyncIterator[Crew]:
    """So many nodes, and ``others`` on their list of peers; ``hosts`` are theirs, if not loopback.

    ``own`` gives the sections that are a node's own, its ``"registry"``, its ``"files"``, with
    ``"before"`` what is put before its command and ``"root"`` its cache.
    None may have logged a traceback by the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if site is None:
        site = await asyncio.to_thread(Site.make, folder / "site")
    ports = free_ports(count)
    names = [f"{host}:{port}" for host, port in zip(hosts or [HOST] * count, ports, strict=True)]
    names += others
    async with AsyncExitStack() as stack:
        made = Crew(folder, site, upstream, names, ports)
        for number in range(1, count + 1):
            await stack.enter_async_context(upstream.serve())
            made.doors[number] = upstream.port
        await stack.enter_async_context(_opened(upstream))
        await stack.enter_async_context(_running(made, range(1, count + 1), own))
        yield made
    for node in made.nodes.values():
        assert "Traceback" not in _ours(node.daemon.log), node.daemon.log


def _ours(log: str) -> str:
    """A log without what uvloop says when a TLS connection is closed while it reads: no error."""
    return re.sub(r"(?m)^.* Fatal error on SSL protocol\n(?:(?!\d{4}-\d\d-).*\n?)*", "", log)


@asynccontextmanager
async def _opened(upstream: Upstream) -> AsyncIterator[None]:
    """All gates are open in the end."""
    try:
        yield
    finally:
        for hold in upstream.holds:
            hold.gate.set()


@asynccontextmanager
async def _running(
    made: Crew, numbers: Sequence[int], own: Callable[[int, Crew], Mapping[str, Any]]
) -> AsyncIterator[None]:
    """The daemons, begun and ended at the same time."""
    stacks = {number: ExitStack() for number in numbers}

    def begin(number: int) -> None:
        made.nodes[number] = stacks[number].enter_context(_node(made, number, own(number, made)))

    try:
        await asyncio.gather(*(asyncio.to_thread(begin, number) for number in numbers))
        made.nodes = dict(sorted(made.nodes.items()))
        yield
    finally:
        await asyncio.gather(*(asyncio.to_thread(each.close) for each in stacks.values()))


@contextmanager
def _node(made: Crew, number: int, sections: Mapping[str, Any]) -> Iterator[Node]:
    own = dict(sections)
    name, port = f"n{number}", made.ports[number - 1]
    listen = made.names[number - 1]
    files = own.pop("files", None) or made.site.node(name, listen.rpartition(":")[0], days=365)
    more = {key: own.pop(key) for key in ("before", "root") if key in own}
    cluster = {
        "listen": listen,
        "ca_file": files.ca_file,
        "cert": files.cert,
        "key": files.key,
        **own.pop("cluster", {"peers": made.names}),
    }
    registry = {"endpoint": f"http://{HOST}:{made.doors[number]}", **own.pop("registry", {})}
    whole = {"registries": {UP: registry}, "transfer": TRANSFER, "cluster": cluster, **own}
    with daemon(made.folder / name, whole, **more) as running:
        yield Node(name, running, files, port)
