"""Exchange: whole nodes over TLS; each byte comes from the registry once, and every node has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from typing_extensions import override

from cache.content import Digest
from registryd.cluster.exchange import Exchange
from registryd.cluster.placement import blob_key
from registryd.cluster.serving import Redirect, Refuse, Request, Serve
from registryd.cluster_ports import ClusterNode
from registryd.oci.reference import Reference
from registryd.secrets import Secret
from tests.cluster.swarming import DIGEST as SWARMED
from tests.cluster.swarming import NAMES, world
from tests.fakes.node import plain
from tests.fakes.party import Guest, party
from tests.fakes.peer_client import KnownHolders, ScriptedPeers
from tests.fakes.registry import FakeRegistry, make_image
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import until
from tests.server.wire import KIB, MIB, noise

#: Five chunks.
SIZE = 9000 * KIB
CONTENT = noise(SIZE)
DIGEST = Digest.of(CONTENT)
CHUNK = 2 * MIB


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with Upstream().serve() as server:
        server.add_blob("team/app", CONTENT)
        yield server


def path(upstream: FakeRegistry, kind: str = "blobs", target: object = DIGEST) -> str:
    return f"/v2/{upstream.name}/team/app/{kind}/{target}"


async def get(guest: Guest, where: str, **headers: str) -> bytes:
    async with guest.owner() as client, client.get(where, headers=headers) as answer:
        assert answer.status in (200, 206), await answer.text()
        return await answer.read()


async def test_a_storm_brings_each_byte_from_the_registry_once(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """Four nodes that want the same blob at once take it from the registry once."""
    async with party(tmp_path, 4, registries=plain(upstream)) as guests:
        bodies = await asyncio.gather(*(get(guest, path(upstream)) for guest in guests))

        assert [CONTENT] * 4 == bodies
        assert SIZE == upstream.sent[str(DIGEST)]
        assert 3 * SIZE == sum(guest.exchange.counts.received for guest in guests)
        assert 3 * SIZE == sum(guest.exchange.counts.sent for guest in guests)


async def test_a_runtime_reads_what_is_still_on_its_way_through_another_node(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """The registry has sent half a chunk: its bytes go through its owner to the other node."""
    gate = asyncio.Event()
    async with party(tmp_path, 2, registries=plain(upstream)) as guests:
        guests.sort(key=lambda guest: guest.exchange.owner(DIGEST, 0) != guest.name)
        upstream.stall("GET .*/blobs/", gate, at=MIB, times=None)
        reader = guests[1]
        reading = asyncio.ensure_future(get(reader, path(upstream)))
        arriving = reader.node.store.arriving
        await until(lambda: any(each.held.reach(0) for each in arriving()))

        assert not gate.is_set()
        gate.set()
        assert CONTENT == await reading


async def test_parts_go_from_node_to_node(upstream: FakeRegistry, tmp_path: Path) -> None:
    """A range that a runtime reads costs the registry its chunk once, for all nodes."""
    async with party(tmp_path, 3, registries=plain(upstream)) as guests:
        asked = f"bytes={CHUNK}-{CHUNK + 99}"
        parts = [await get(guest, path(upstream), Range=asked) for guest in guests]

        assert [CONTENT[CHUNK : CHUNK + 100]] * 3 == parts
        assert CHUNK == upstream.sent[str(DIGEST)]


async def test_a_node_that_is_on_the_list_and_does_not_run_costs_nobody_the_blob(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """Others stand in for an owner who does not answer."""
    async with party(tmp_path, 4, registries=plain(upstream), alone=(2,)) as guests:
        bodies = await asyncio.gather(*(get(guest, path(upstream)) for guest in guests))

        assert [CONTENT] * 3 == bodies
        assert SIZE == upstream.sent[str(DIGEST)]


async def test_a_node_that_ends_in_the_middle_costs_nobody_the_blob(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """Its chunks are fetched by others; what it had given stays."""
    gate = asyncio.Event()
    upstream.stall("GET .*/blobs/", gate, at=64 * KIB, times=None)
    async with party(tmp_path, 3, registries=plain(upstream)) as guests:
        guests.sort(key=lambda guest: guest.exchange.owner(DIGEST, 0) == guest.name)
        reading = [asyncio.ensure_future(get(guest, path(upstream))) for guest in guests[:2]]
        await until(lambda: guests[2].exchange.load)
        await guests[2].leave()
        gate.set()

        assert [CONTENT] * 2 == await asyncio.gather(*reading)


async def test_a_manifest_is_asked_of_the_registry_once(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """By its digest, it comes from the node that answers for it."""
    raw = make_image(CONTENT)
    digest = upstream.add_manifest("team/app", "", raw)
    async with party(tmp_path, 3, registries=plain(upstream)) as guests:
        where = path(upstream, "manifests", digest)
        bodies = [await get(guest, where) for guest in guests]

        assert [raw] * 3 == bodies
        assert 1 == len(upstream.lines("GET .*/manifests/"))


async def test_a_registry_that_is_gone_is_not_needed_for_what_a_node_holds(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """Nobody is told who holds it, so all are asked in their rank; one of them has it."""
    async with party(tmp_path, 3, registries=plain(upstream)) as guests:
        assert CONTENT == await get(guests[0], path(upstream))
        before = upstream.sent[str(DIGEST)]
        upstream.answer("GET .*/blobs/", 429, times=None)

        assert CONTENT == await get(guests[1], path(upstream))
        assert before == upstream.sent[str(DIGEST)]


async def test_a_wrong_blob_is_fetched_once_more_from_the_registry_alone(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    """An owner got wrong bytes and vouches for them: the blob comes all the same, and the owner
    is left out from then on.
    """
    async with party(tmp_path, 2, registries=plain(upstream)) as guests:
        liar, honest = sorted(guests, key=lambda each: each.exchange.owner(DIGEST, 0) != each.name)
        good = upstream.repositories["team/app"].blobs
        good[str(DIGEST)] = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
        await get(liar, path(upstream), Range="bytes=0-9")
        good[str(DIGEST)] = CONTENT

        assert CONTENT == await get_again(honest, path(upstream))
        assert {liar.name} == honest.exchange.liars


async def get_again(guest: Guest, where: str) -> bytes:
    """As a runtime does: a connection that is cut is tried once more."""
    for _ in range(3):
        try:
            return await get(guest, where)
        except (aiohttp.ClientError, AssertionError):
            continue
    return await get(guest, where)


async def test_who_holds_what_is_told(tmp_path: Path) -> None:
    """A blob on its way, one that is here, and one that goes: all are told to the cluster."""
    async with world(tmp_path) as it:
        it.exchange.tell_of(it.store)
        await it.run()
        await it.content()
        await it.store.remove([SWARMED])

        told = [whole for digest, whole in it.cluster.told if digest == SWARMED]
        assert [False, True, None] == told


async def test_nobody_else_is_nobody_to_ask() -> None:
    """A cluster of one is no cluster: no swarm, no manifest from others."""
    exchange = Exchange(KnownHolders("a:1", ["a:1"]), ScriptedPeers(b"x"))
    exact = Reference.parse(f"registry.example/team/app@{DIGEST}", default_tag=None)

    assert not exchange.others
    assert await exchange.manifest(exact, None) is None


async def test_a_node_that_answers_another_asks_no_third_for_a_manifest() -> None:
    """Nodes that see different members would ask each other in a circle."""
    peers = Manifests(b"x")
    exchange = Exchange(KnownHolders("a:1", NAMES), peers)
    exact = Reference.parse(f"registry.example/team/app@{DIGEST}", default_tag=None)
    digests = (Digest.of(b"%d" % number) for number in range(100))
    theirs = next(
        exact.with_digest(each)
        for each in digests
        if exchange.me not in exchange.company.placement.ranked(blob_key(each), 0, 3)
    )

    assert (b"{}", "") == await exchange.manifest(theirs, None)
    with exchange.answering():
        assert await exchange.manifest(theirs, None) is None


class Manifests(ScriptedPeers):
    """Nodes that have every manifest."""

    @override
    async def manifest(
        self, node: ClusterNode, exact: Reference, token: Secret | None
    ) -> tuple[bytes, str] | None:
        return b"{}", ""


def request(asker: str, chunk: int = 0, **more: int) -> Request:
    return Request(asker, 1, chunk, **more)


async def test_slots_go_from_one_asker_to_the_next() -> None:
    """Who waits is answered when an upload ends; who has gone meanwhile is passed over."""
    exchange = Exchange(KnownHolders("a:1", NAMES), ScriptedPeers(b"x"), slots=1)
    line, gone = exchange.line, False

    async def ask(name: str, hold: asyncio.Event, away: bool = False) -> str:
        try:
            async with line.turn(request(name), None, lambda: away and gone) as answer:
                if isinstance(answer, Serve):
                    await hold.wait()
                return type(answer).__name__
        except ConnectionResetError:
            return "gone"

    first, second = asyncio.Event(), asyncio.Event()
    holding = asyncio.ensure_future(ask("b:1", first))
    await asyncio.sleep(0)
    leaving = asyncio.ensure_future(ask("c:1", second, away=True))
    waiting = asyncio.ensure_future(ask("d:1", second))
    cancelled = asyncio.ensure_future(ask("e:1", second))
    await asyncio.sleep(0)
    gone = True
    line.tick()
    cancelled.cancel()
    first.set()
    second.set()

    assert "Serve" == await holding
    assert "gone" == await leaving
    assert "Serve" == await waiting
    await asyncio.wait([cancelled])
    assert 0 == line.serving.used
    assert 0 == len(line)


async def test_a_slot_that_was_given_to_one_who_stopped_waiting_is_given_back() -> None:
    """The answer and the asker's end in the same moment: no slot is lost."""
    exchange = Exchange(KnownHolders("a:1", NAMES), ScriptedPeers(b"x"), slots=1)
    line = exchange.line

    async def ask(name: str) -> None:
        async with line.turn(request(name), None) as answer:
            assert isinstance(answer, Serve)

    async with line.turn(request("b:1"), None):
        waiting = asyncio.ensure_future(ask("c:1"))
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert 0 == line.serving.used


async def test_who_asks_again_gives_up_the_earlier_question() -> None:
    """Of two requests of one asker for one chunk the later one stands."""
    exchange = Exchange(KnownHolders("a:1", NAMES), ScriptedPeers(b"x"))
    line = exchange.line

    async def ask() -> object:
        async with line.turn(request("b:1"), 0) as answer:
            return answer

    earlier = asyncio.ensure_future(ask())
    await asyncio.sleep(0)
    later = asyncio.ensure_future(ask())
    await asyncio.sleep(0)
    line.here(1, 0)

    assert Serve() == await later
    with pytest.raises(ConnectionResetError):
        await earlier
    assert 0 == line.serving.used


async def test_who_waits_for_what_will_not_come_is_told() -> None:
    """The end of a fetch answers everyone who waits for a chunk of it."""
    exchange = Exchange(KnownHolders("a:1", NAMES), ScriptedPeers(b"x"))

    async def ask(name: str, chunk: int) -> object:
        async with exchange.line.turn(request(name, chunk), 0) as answer:
            return answer

    asking = [asyncio.ensure_future(ask(name, at)) for at, name in enumerate(NAMES[1:])]
    await asyncio.sleep(0)
    exchange.line.lost(1)

    assert all(isinstance(answer, Refuse | Redirect) for answer in await asyncio.gather(*asking))
