"""Swarm: whatever the other nodes do, the right bytes come, and the registry is asked once."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cache.errors import DigestMismatch, DiskFull, IngestAborted
from registryd.cluster.serving import Refuse, Request
from registryd.oci.errors import BlobUnknown, RateLimited, Unauthorized
from registryd.ports import TransportError
from registryd.secrets import Secret
from tests.cluster.swarming import CHUNKS, CONTENT, NAMES, World, ranked, world
from tests.fakes.peer_client import Turn
from tests.fakes.travel import travel
from tests.fakes.waiting import until

TURNS = st.sampled_from(
    ["give", "cut", "stall", "gone", "busy", "behind", "barred", "wrong", *NAMES]
)
TROUBLES = st.lists(st.builds(Turn, TURNS, st.booleans()), max_size=6)
FAULTS = st.lists(
    st.sampled_from([None, TransportError("away"), RateLimited("too many", status=429)]),
    max_size=4,
)


async def watched(world: World) -> None:
    """Read along as a runtime does: no byte that it sees may be wrong."""
    async with world.ingest.follow() as follower:
        async for offset, count in follower:
            seen = os.pread(follower.fd, count, offset)
            assert CONTENT[offset : offset + count] == seen


@settings(max_examples=40, phases=[phase for phase in Phase if phase is not Phase.shrink])
@given(
    scripts=st.tuples(TROUBLES, TROUBLES, TROUBLES, TROUBLES),
    faults=FAULTS,
    holders=st.lists(st.sampled_from(NAMES[1:]), unique=True, max_size=4),
)
def test_in_any_trouble_the_right_bytes_come(
    scripts: tuple[list[Turn], ...], faults: list[Exception | None], holders: list[str]
) -> None:
    """Cuts, stalls, refusals, redirects, lies, in any order: no wrong byte is seen, and the blob
    comes. But where it has failed for everybody the registry's words are raised, and where nobody
    spoke for a liar's chunks the whole proves to be wrong (a flight then begins anew, alone).
    """

    async def story(folder: Path) -> bytes:
        async with world(folder, holders=holders) as it:
            for name, script in zip(NAMES[1:], scripts, strict=True):
                it.peers.script(name, script)
            it.registry.faults.extend(faults)
            reader = asyncio.ensure_future(watched(it))
            try:
                await it.run()
                return await it.content()
            finally:
                if not it.ingest.ended:
                    await it.store.abort(it.ingest, TransportError("it failed"))
                with suppress(IngestAborted, DigestMismatch):
                    await reader

    lies = any(turn.does == "wrong" for script in scripts for turn in script)
    refusals = any(isinstance(fault, TransportError | RateLimited) for fault in faults)
    with tempfile.TemporaryDirectory() as folder:
        try:
            assert CONTENT == travel(story(Path(folder)))
        except DigestMismatch:
            assert lies
        except (TransportError, RateLimited):
            assert refusals


async def test_owners_fetch_their_chunks_and_ask_the_owners_of_the_others(tmp_path: Path) -> None:
    """A node brings what it owns from the registry, and the rest from those who own it."""
    me = ranked(0)[0]
    async with world(tmp_path, me=me) as it:
        await it.run()

        mine = [chunk for chunk in range(CHUNKS) if ranked(chunk)[0] == me]
        assert sorted(it.registry.asked) == [it.swarm.fetching.geometry.span(c)[0] for c in mine]
        assert {ranked(c)[0] for c in range(CHUNKS)} - {me} == {node for node, _ in it.peers.asks}
        assert CONTENT == await it.content()


async def test_what_is_here_is_not_asked_for(tmp_path: Path) -> None:
    """A blob that was begun before goes on where it ended, within a chunk too."""
    async with world(tmp_path, me="a:1") as it:
        await it.ingest.write(0, [CONTENT[:3000]])
    async with world(tmp_path, me="a:1") as it:
        begun = (2 << 20) + 1000
        await it.ingest.write(0, [CONTENT[:begun]])
        swarm = it.exchange.inflow(it.swarm.effort.errand, it.ingest, whole=True)
        assert swarm is not None
        await swarm.run(lambda: True)

        starts = [ask.start for _, ask in it.peers.asks] + list(it.registry.asked)
        assert begun == min(starts)
        assert CHUNKS - 1 == len(starts)


async def test_of_parts_only_what_is_demanded_comes(tmp_path: Path) -> None:
    """The chunks that a reader waits for, and none beside; then the swarm is content."""
    async with world(tmp_path, whole=False, linger=0.0) as it:
        running = asyncio.ensure_future(it.run(wanted=False))
        with it.swarm.demand(2 << 20, (2 << 20) + 10):
            while not it.ingest.is_checked(2 << 20, 4 << 20):
                await it.ingest.changed()
        await running

        assert ((2 << 20, 4 << 20),) == it.ingest.held.ranges


def test_parts_stay_at_hand_for_a_while(tmp_path: Path) -> None:
    """When nobody wants anything, it ends only after the time that askers take to come back."""

    async def story() -> tuple[float, float]:
        async with world(tmp_path, whole=False, linger=30.0) as it:
            began = asyncio.get_running_loop().time()
            await it.run(wanted=False)
            return began, asyncio.get_running_loop().time()

    began, ended = travel(story())

    assert 30.0 <= ended - began < 32.0


async def test_parts_become_the_whole(tmp_path: Path) -> None:
    """Somebody who wants all of it changes a fetch of parts that is under way."""
    async with world(tmp_path, whole=False) as it:
        running = asyncio.ensure_future(it.run())
        await asyncio.sleep(0)
        it.swarm.bring_whole()
        await running

        assert it.swarm.whole
        assert it.ingest.keeps_up
        assert CONTENT == await it.content()


def test_a_registry_that_refuses_one_node_is_asked_by_another(tmp_path: Path) -> None:
    """Who is refused by the registry gets its chunks from nodes that are not."""

    async def story() -> bytes:
        async with world(tmp_path, me=ranked(0)[0]) as it:
            it.registry.down = RateLimited("too many", status=429)
            await it.run()
            assert any(ask.barred for _, ask in it.peers.asks)
            assert any(ask.owed and ask.barred for _, ask in it.peers.asks)
            return await it.content()

    assert CONTENT == travel(story())


def test_when_nobody_can_get_it_the_registrys_words_are_raised(tmp_path: Path) -> None:
    """All nodes are barred: the swarm ends with what the registry said to us."""

    async def story() -> None:
        async with world(tmp_path) as it:
            it.registry.down = RateLimited("slow down", status=429)
            it.peers.always = {name: Turn("barred") for name in NAMES}
            await it.run()

    with pytest.raises(RateLimited, match="slow down"):
        travel(story())


def test_a_blob_that_no_registry_has_is_not_looked_for_everywhere(tmp_path: Path) -> None:
    """After a few nodes were told no for good, ours is the last word."""

    async def story() -> int:
        names = [*NAMES, *(f"x{number}:1" for number in range(60))]
        async with world(tmp_path, names=names) as it:
            it.registry.down = BlobUnknown("no such blob", status=404)
            it.peers.always = {name: Turn("denied") for name in names}
            with pytest.raises(BlobUnknown):
                await it.run()
            return len(it.peers.asks)

    assert travel(story()) < 20


def test_who_alone_may_read_brings_everything_itself(tmp_path: Path) -> None:
    """Where the registry refuses the others (we have no token for them), we do without them."""

    async def story() -> tuple[bytes, int]:
        async with world(tmp_path) as it:
            it.peers.always = {name: Turn("denied") for name in NAMES}
            await it.run()
            return await it.content(), sum(it.registry.asked.values())

    content, asked = travel(story())

    assert CONTENT == content
    assert CHUNKS == asked


def test_a_silent_registry_is_left_to_others(tmp_path: Path) -> None:
    """Seconds without a byte from the registry: somebody else shall try, and then owns it."""

    async def story() -> bytes:
        async with world(tmp_path, me=ranked(0)[0]) as it:
            it.registry.gate = asyncio.Event()
            await it.run()
            return await it.content()

    assert CONTENT == travel(story())


def test_a_silent_registry_is_waited_for_when_nobody_else_can(tmp_path: Path) -> None:
    """If all the others are barred, it may take the time it takes."""

    async def story() -> float:
        async with world(tmp_path) as it:
            loop = asyncio.get_running_loop()
            it.registry.gate, began = asyncio.Event(), loop.time()
            it.peers.always = {name: Turn("barred") for name in NAMES}
            it.peers.bar = 3600.0
            loop.call_later(200.0, it.registry.gate.set)
            await it.run()
            assert CONTENT == await it.content()
            assert max(it.registry.asked.values()) <= 2, "once, and once more after the others"
            return loop.time() - began

    assert travel(story()) >= 200.0


def test_when_the_others_are_gone_the_registrys_words_are_raised(tmp_path: Path) -> None:
    """Nodes that do not answer, time after time, are as good as nodes that cannot get it."""

    async def story() -> None:
        async with world(tmp_path) as it:
            it.registry.down = Unauthorized("who are you", status=401)
            it.peers.always = {name: Turn("gone") for name in NAMES}
            await it.run()

    with pytest.raises(Unauthorized):
        travel(story())


async def test_a_disk_that_is_full_ends_the_swarm(tmp_path: Path) -> None:
    """What goes wrong here, and not at others, is raised as it is."""
    async with world(tmp_path, me=ranked(0)[0]) as it:
        it.registry.down = DiskFull("no room")
        with pytest.raises(DiskFull):
            await it.run()


async def test_a_node_that_leaves_is_asked_no_more(tmp_path: Path) -> None:
    """What was asked of a member that has gone is asked elsewhere at once."""
    async with world(tmp_path, me=ranked(0)[4]) as it:
        owner = ranked(0)[0]
        it.peers.always[owner] = Turn("stall", gate=asyncio.Event())
        running = asyncio.ensure_future(it.run())
        await until(lambda: owner in [node for node, _ in it.peers.asks])
        it.cluster._members.remove(owner)
        async with asyncio.timeout(4):
            await running

        assert CONTENT == await it.content()


async def test_a_sender_that_is_not_ahead_of_us_is_left(tmp_path: Path) -> None:
    """A 206 of one that has no more than we have counts as a refusal: nothing of it is read."""
    async with world(tmp_path, me=ranked(0)[4]) as it:
        for name in NAMES:
            it.peers.script(name, [Turn("behind")])
        await it.run()

        assert CONTENT == await it.content()
        assert it.exchange.counts.refusals >= CHUNKS


async def test_what_is_held_by_others_costs_the_registry_nothing(tmp_path: Path) -> None:
    """An owner asks those who hold the blob before it asks the registry."""
    async with world(tmp_path, me=ranked(0)[0], holders=[ranked(0)[3]]) as it:
        await it.run()

        assert {} == it.registry.asked
        assert CONTENT == await it.content()


def test_a_token_that_does_not_come_keeps_nobody_waiting_for_long(tmp_path: Path) -> None:
    """Other nodes may hold all of it while the registry and its token server are away."""

    async def never() -> Secret | None:
        await asyncio.get_running_loop().create_future()
        return None

    async def story() -> float:
        loop = asyncio.get_running_loop()
        async with world(tmp_path, holders=NAMES[1:]) as it:
            errand = replace(it.swarm.effort.errand, token=never)
            swarm = it.exchange.inflow(errand, it.ingest, whole=True)
            assert swarm is not None
            began = loop.time()
            await swarm.run(lambda: True)
            assert CONTENT == await it.content()
            return loop.time() - began

    assert travel(story()) < 10


async def test_the_askers_token_goes_with_every_request(tmp_path: Path) -> None:
    """It is got once, and shown to each node that is asked."""
    got = 0

    async def token() -> Secret | None:
        nonlocal got
        got += 1
        return Secret("lent")

    async with world(tmp_path) as it:
        errand = replace(it.swarm.effort.errand, token=token)
        swarm = it.exchange.inflow(errand, it.ingest, whole=True)
        assert swarm is not None
        await swarm.run(lambda: True)

        assert {"lent"} == {ask.token.reveal() for _, ask in it.peers.asks if ask.token}
        assert all(ask.token for _, ask in it.peers.asks)
        assert 1 == got


def test_parts_stay_as_long_as_somebody_reads(tmp_path: Path) -> None:
    """A reader who thinks between two parts keeps what brings them."""

    async def story() -> float:
        answers = [True, True, False]
        async with world(tmp_path, whole=False, linger=30.0) as it:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await it.swarm.run(lambda: answers.pop(0))
            return loop.time() - began

    assert travel(story()) >= 90.0


async def test_who_waits_here_is_sent_on_when_the_fetch_ends(tmp_path: Path) -> None:
    """No asker waits for a chunk of a fetch that has failed."""
    async with world(tmp_path, me=ranked(0)[0]) as it:
        it.registry.gate = asyncio.Event()
        running = asyncio.ensure_future(it.run())
        await until(lambda: it.registry.asked)

        async def ask() -> object:
            request = Request("e:1", it.swarm.fetching.blob, 0)
            async with it.exchange.line.turn(request, 0) as answer:
                return answer

        asking = asyncio.ensure_future(ask())
        await until(lambda: len(it.exchange.line))
        running.cancel()

        assert isinstance(await asking, Refuse)
