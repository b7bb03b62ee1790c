"""Story: NATS dies in the middle, a network falls in two, clocks are an hour off."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from cache.content import Digest
from registryd.cluster.geometry import Geometry
from tests.fakes.members import HOST, NOW, Site
from tests.fakes.tokens import FakeTokenServer
from tests.real.faulting import SIZE, Crew, Hold, Upstream, crew, layer, owned
from tests.real.nats import nats_server
from tests.real.netns import UPSTREAM, address, two_sides
from tests.real.runtimes import Ran
from tests.real.stories import UP

GEOMETRY = Geometry(SIZE)
#: Debian's libfaketime: what it is loaded into sees another wall clock, and the same intervals.
FAKETIME = sorted(
    library
    for program in (shutil.which("faketime") or "",)
    for library in Path(program).parent.parent.glob("lib/*/faketime/libfaketimeMT.so.1")
)


def layers(count: int) -> list[bytes]:
    """So many layers that have other digests."""
    seen: set[Digest] = set()

    def new(digest: Digest) -> bool:
        fresh = digest not in seen
        seen.add(digest)
        return fresh

    return [layer(new) for _ in range(count)]


def middle(upstream: Upstream, digest: str, names: list[str], owner: str) -> Hold:
    """A stop in the middle of a chunk that this node has to get."""
    chunk = owned(Digest.parse(digest), names, owner)[0]
    return upstream.hold(digest, GEOMETRY.span(chunk)[0] + GEOMETRY.chunk // 2)


async def stopped_in_the_middle(
    nodes: Crew, upstream: Upstream
) -> tuple[str, Hold, asyncio.Task[dict[int, Ran]]]:
    """A pull of a layer whose first node's chunk has stopped. On a busy machine the request that
    is to stop may be given up for another one before: then another layer is taken."""
    tried: set[Digest] = set()
    while True:
        content = layer(lambda it: it not in tried and owned(it, nodes.names, nodes.names[0]))
        tried.add(Digest.of(content))
        digest, tag = upstream.put(content, tag=str(len(tried))), len(tried)
        hold = middle(upstream, digest, nodes.names, nodes.names[0])
        pulling = asyncio.create_task(nodes.pull(image=f"{UP}/a:{tag}"))
        try:
            await upstream.held(hold, pulling)
        except AssertionError:
            if len(tried) == 3 or not pulling.done():
                raise
            hold.gate.set()
            nodes.good(await pulling)
        else:
            return digest, hold, pulling


async def test_nats_dies_and_comes_back(tmp_path: Path) -> None:
    """Killed in the middle of a pull: nodes go on with whom they know, and meet it again later."""
    upstream, names = Upstream(), ["n1", "n2", "n3"]
    contents = layers(3)
    contents[0] = layer(lambda digest: owned(digest, names, "n1"))
    digests = [upstream.put(content, tag=f"{tag}") for tag, content in enumerate(contents)]
    with nats_server(tmp_path / "nats") as nats:

        def own(number: int, made: Crew) -> Mapping[str, Any]:
            return {"cluster": {"nats": [nats.url], "address": HOST}}

        async with crew(tmp_path, upstream, 3, own=own) as nodes:
            await nodes.until("nodes", 9)
            hold = middle(upstream, digests[0], names, "n1")
            pulling = asyncio.create_task(nodes.pull(image=f"{UP}/a:0"))
            await upstream.held(hold, pulling)
            await asyncio.to_thread(nats.kill)
            hold.gate.set()
            nodes.good(await pulling)
            await nodes.until("connected", 0)

            nodes.good(await nodes.pull(image=f"{UP}/a:1"))
            await asyncio.to_thread(nats.start)
            await nodes.until("connected", 3)
            nodes.good(await nodes.pull(image=f"{UP}/a:2"))

            await nodes.until("nodes", 9)
            for digest in digests:
                await nodes.have(digest)
            again = [await nodes.check_cost(digest) for digest in digests]
            assert not any(again), again


async def test_a_network_that_falls_in_two(tmp_path: Path) -> None:
    """Cut in the middle of a pull: each side ends right by itself. Healed, all go on as one."""
    upstream, contents = Upstream(), layers(2)
    with two_sides((1, 2), (3, 4)) as wires:
        sock = wires.listen()
        port = sock.getsockname()[1]

        def own(number: int, made: Crew) -> Mapping[str, Any]:
            endpoint = f"http://{UPSTREAM}:{port}"
            return {"before": wires.before(number), "registry": {"endpoint": endpoint}}

        hosts = [address(number) for number in (1, 2, 3, 4)]
        async with upstream.at(sock), crew(tmp_path, upstream, 4, own=own, hosts=hosts) as nodes:
            contents[0] = layer(lambda digest: owned(digest, nodes.names, nodes.names[0]))
            digests = [upstream.put(content, tag=f"{tag}") for tag, content in enumerate(contents)]
            hold = middle(upstream, digests[0], nodes.names, nodes.names[0])
            pulling = asyncio.create_task(nodes.pull(image=f"{UP}/a:0"))
            await upstream.held(hold, pulling)
            await asyncio.to_thread(wires.cut)
            hold.gate.set()
            nodes.good(await pulling)
            await asyncio.to_thread(wires.heal)
            nodes.good(await nodes.pull(image=f"{UP}/a:1"))

            for digest in digests:
                await nodes.have(digest)
            await check_both(nodes, upstream, digests)


async def test_a_network_that_heals_in_the_middle(tmp_path: Path) -> None:
    """Cut and healed while a chunk is on its way: nobody has to begin anew."""
    upstream = Upstream()
    with two_sides((1, 2), (3, 4)) as wires:
        sock = wires.listen()
        port = sock.getsockname()[1]

        def own(number: int, made: Crew) -> Mapping[str, Any]:
            endpoint = f"http://{UPSTREAM}:{port}"
            return {"before": wires.before(number), "registry": {"endpoint": endpoint}}

        hosts = [address(number) for number in (1, 2, 3, 4)]
        async with upstream.at(sock), crew(tmp_path, upstream, 4, own=own, hosts=hosts) as nodes:
            digest, hold, pulling = await stopped_in_the_middle(nodes, upstream)
            await asyncio.to_thread(wires.cut)
            await asyncio.to_thread(wires.heal)
            hold.gate.set()

            nodes.good(await pulling)

            await nodes.have(digest)
            await nodes.check_cost(digest)


async def check_both(nodes: Crew, upstream: Upstream, digests: list[str]) -> None:
    """The bound for two blobs whose double fetches the nodes count as one number.

    They may be one: which layers fit depends on ports.
    """
    told, times = await nodes.metric("double_fetches_total"), 0
    for digest in set(digests):
        for chunk, count in upstream.chunk_bytes(digest).items():
            length = GEOMETRY.length(chunk)
            assert count <= 2 * length, (digest, chunk, count)
            times += -(-count // length) - 1
    assert times <= told


async def test_clocks_that_are_an_hour_off(tmp_path: Path) -> None:
    """One node an hour ahead, one behind: certificates, beats and lent tokens are good all the
    same, and the registry sends each byte once."""
    assert FAKETIME, "libfaketime is not installed (Debian: apt install faketime)"
    tokens = FakeTokenServer()
    upstream = Upstream(tokens=tokens)
    digest = upstream.put(layer())
    off = {2: "+1h", 3: "-1h"}
    with nats_server(tmp_path / "nats") as nats:

        def own(number: int, made: Crew) -> Mapping[str, Any]:
            sections: dict[str, Any] = {"cluster": {"nats": [nats.url], "address": HOST}}
            if number in off:
                clock = f"FAKETIME={off[number]}", "DONT_FAKE_MONOTONIC=1"
                sections["before"] = ("env", f"LD_PRELOAD={FAKETIME[0]}", *clock)
            return sections

        async with tokens.serve(), crew(tmp_path, upstream, 3, own=own) as nodes:
            await nodes.until("nodes", 9)

            nodes.good(await nodes.pull())

            await nodes.have(digest)
            assert not await nodes.check_cost(digest)
            hours = {line[11:13] for line in nodes[2].daemon.log.splitlines() if line[:2] == "20"}
            here = {line[11:13] for line in nodes[1].daemon.log.splitlines() if line[:2] == "20"}
            assert not hours & here, "the clock was not off: the test means nothing"


async def test_a_certificate_of_a_clock_that_is_ahead(tmp_path: Path) -> None:
    """What an authority an hour ahead of everybody has signed is good at once."""
    upstream = Upstream()
    digest = upstream.put(layer())
    site = await asyncio.to_thread(Site.make, tmp_path / "site")

    def own(number: int, made: Crew) -> Mapping[str, Any]:
        return {"files": site.node(f"n{number}", at=NOW + timedelta(hours=1), days=365)}

    async with crew(tmp_path, upstream, 2, site=site, own=own) as nodes:
        nodes.good(await nodes.pull())

        await nodes.have(digest)
        assert SIZE == upstream.chunk_bytes(digest).total()
