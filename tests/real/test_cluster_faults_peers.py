"""Story: a member of the cluster that sends what is wrong, stalls, cuts, lies or leads in circles.

The asking node and its neighbour are real daemons; the member is ``tests.fakes.peer``. Whoever
reads from the asking node meanwhile gets right bytes, or a cut: never a wrong byte.
"""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from cache.content import Digest
from registryd.cluster.geometry import Geometry
from tests.fakes.members import Site
from tests.fakes.peer import CHUNKS as FOR_CHUNKS
from tests.fakes.peer import WORDS, FakePeer, fake_peer, other_byte
from tests.fakes.registry import FakeRegistry
from tests.real.faulting import CHUNKS, SIZE, Crew, Upstream, crew, layer, owned
from tests.real.stories import UP

GEOMETRY = Geometry(SIZE)


@dataclass
class World:
    """Two real nodes, and members that do as they like; ``theirs`` are the first one's chunks."""

    nodes: Crew
    upstream: Upstream
    peers: list[FakePeer]
    content: bytes

    @property
    def digest(self) -> str:
        """Of the only layer."""
        return str(Digest.of(self.content))

    @property
    def theirs(self) -> list[int]:
        """The chunks that the first peer owns."""
        return owned(Digest.of(self.content), self.nodes.names, self.peers[0].id)

    @property
    def lied(self) -> str:
        """What a node says that has found out the first peer."""
        return f"peer lied: node={self.peers[0].id} "

    async def read(self, number: int) -> bytes:
        """What a runtime gets of the layer at a node: all, or what came before a cut."""
        return await asyncio.to_thread(
            _read, self.nodes[number].daemon.address, f"/v2/{UP}/a/blobs/{self.digest}"
        )

    async def pull_and_read(self) -> None:
        """Pull on both nodes while runtimes read at both; every byte that is given out is right."""
        *read, rans = await asyncio.gather(self.read(1), self.read(2), self.nodes.pull())
        self.nodes.good(rans)
        for given in read:
            assert self.content[: len(given)] == given
        await self.nodes.have(self.digest)


def _read(address: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except http.client.IncompleteRead as cut:
        return cut.partial
    except ConnectionResetError:
        return b""  # a cut too: what came before it is lost to this reader
    finally:
        connection.close()


#: How often a world is made in which a relay lies, until it is caught.
RELAY_TRIES = 3

Make = Callable[..., "asyncio.Future[World]"]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Make a world with so many scripted members."""
    async with AsyncExitStack() as stack:

        async def begin(count: int = 1, *, relays: bool = False) -> World:
            place = tmp_path / f"world-{len(list(tmp_path.iterdir()))}"
            place.mkdir()
            site = await asyncio.to_thread(Site.make, place / "site")
            peers = [
                await stack.enter_async_context(fake_peer(site, f"p{number}"))
                for number in range(count)
            ]
            upstream = Upstream()
            others = [peer.id for peer in peers]
            nodes = await stack.enter_async_context(
                crew(place, upstream, 2, site=site, others=others)
            )
            content = layer(
                lambda digest: len(owned(digest, nodes.names, others[0])) >= (0 if relays else 2)
            )
            upstream.put(content)
            for peer in peers:
                peer.add(content)
            return World(nodes, upstream, peers, content)

        yield begin  # type: ignore[misc]


async def test_an_honest_one(make: Make) -> None:
    """What the member owns comes from it, and not from the registry: so much for the scene."""
    world = await make()

    await world.pull_and_read()

    assert not set(world.theirs) & set(world.upstream.chunk_bytes(world.digest))
    assert not await world.nodes.check_cost(world.digest)
    assert 0 == await world.nodes.metric("liars")


async def test_wrong_bytes_of_an_owner(make: Make) -> None:
    """Bytes that are not what their sender says of them: it is named and left out at once."""
    world = await make()
    world.peers[0].alters = other_byte

    await world.pull_and_read()

    # Not that nobody else is: on a busy machine an honest one was seen to be named beside it.
    for number in (1, 2):
        assert world.lied in world.nodes[number].daemon.log
    assert set(await world.nodes.check_cost(world.digest)) <= set(world.theirs)


async def test_wrong_bytes_of_a_relay(make: Make) -> None:
    """In a cluster with relays, one that passes on what is wrong: the owner's word shows it."""
    # On a busy machine the right bytes may come from others before the wrong ones do.
    shown = False
    for _ in range(RELAY_TRIES):
        world = await make(9, relays=True)
        digest, names = Digest.of(world.content), world.nodes.names
        liars = [peer for peer in world.peers if not owned(digest, names, peer.id)]
        for peer in liars:
            peer.alters = other_byte

        await world.pull_and_read()

        asked = [peer for peer in liars if peer.lines(FOR_CHUNKS)]
        assert asked, "no liar was asked: the test means nothing"
        shown = any(f"peer lied: node={peer.id} " in world.nodes.logs() for peer in asked)
        if shown:
            break

    assert shown


async def test_a_wrong_relay_that_promises_nothing(make: Make) -> None:
    """One that does not say that it has proven what it sends is left for a time, and not named."""
    world = await make(9, relays=True)
    world.peers[0].alters = other_byte
    world.peers[0].checked = False
    world.peers[0].speaks = "nothing"

    await world.pull_and_read()

    assert 0 == await world.nodes.metric("liars")


async def test_a_consistent_liar(make: Make) -> None:
    """An owner whose word agrees with its wrong bytes: nothing wrong becomes a blob, all the same.

    Each node that was misled fetches the whole once more, from the registry alone, sees who lied,
    and counts that as a double fetch. That is the bound: one member can cost that much, once.
    """
    world = await make()
    world.peers[0].alters = other_byte
    world.peers[0].speaks = "lie"

    rans = await world.nodes.pull()

    world.nodes.good(rans)
    await world.nodes.have(world.digest)
    assert world.lied in world.nodes.logs()
    misled = await world.nodes.metric("liars")
    assert misled >= 1
    await world.nodes.check_cost(world.digest, most=1 + int(misled))


async def test_one_that_stalls(make: Make) -> None:
    """Its chunks stop in the middle: they are finished from elsewhere, from where they are."""
    world = await make()
    gate = asyncio.Event()
    world.peers[0].stall(FOR_CHUNKS, gate, at=GEOMETRY.chunk // 2, times=None)

    await world.pull_and_read()

    gate.set()
    assert set(await world.nodes.check_cost(world.digest)) <= set(world.theirs)
    assert 0 == await world.nodes.metric("liars")


async def test_one_that_never_answers(make: Make) -> None:
    """It takes the request and says nothing."""
    world = await make()
    gate = asyncio.Event()
    world.peers[0].stall(FOR_CHUNKS, gate, times=None)

    await world.pull_and_read()

    gate.set()


async def test_one_that_cuts(make: Make) -> None:
    """Every answer of it breaks off in the middle: what came is kept, the rest comes elsewhere."""
    world = await make()
    world.peers[0].cut(FOR_CHUNKS, at=GEOMETRY.chunk // 2, times=None)

    await world.pull_and_read()

    assert set(await world.nodes.check_cost(world.digest)) <= set(world.theirs)
    assert 0 == await world.nodes.metric("liars")


async def test_one_that_is_silent_about_hashes(make: Make) -> None:
    """An owner that sends right bytes and no word of what they hash to is no liar."""
    world = await make()
    world.peers[0].speaks = "nothing"
    world.peers[0].drop(WORDS, times=None)

    await world.pull_and_read()

    assert 0 == await world.nodes.metric("liars")
    await world.nodes.check_cost(world.digest)


async def test_redirects_in_a_loop(make: Make) -> None:
    """Two members send everyone to each other: nobody follows for long."""
    world = await make(2)
    first, second = world.peers
    first.to, second.to = second.id, first.id

    await world.pull_and_read()

    hops = [int(hop) for peer in world.peers for hop in peer.said("Registryd-Hops")]
    assert max(hops) <= CHUNKS, hops
    assert not await world.nodes.check_cost(world.digest)


async def test_a_redirect_to_itself(make: Make) -> None:
    """A member that sends everyone to itself is asked no more often than one that is busy."""
    world = await make()
    world.peers[0].to = world.peers[0].id

    await world.pull_and_read()

    assert set(await world.nodes.check_cost(world.digest)) <= set(world.theirs)


async def test_a_redirect_out_of_the_cluster(make: Make) -> None:
    """A redirect to who is no member is not followed: nothing is sent there."""
    world = await make()
    async with FakeRegistry().serve() as outside:
        world.peers[0].to = outside.name

        await world.pull_and_read()

        assert [] == outside.requests
