"""Checking: a wrong chunk is found, fetched again, and the one who made it is named."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cache.content import Digest
from cache.errors import DigestMismatch
from registryd.cluster.chunk_hashes import KEPT, ChunkHashes
from registryd.ports import TransportError
from tests.cluster.swarming import CHUNKS, CONTENT, DIGEST, NAMES, World, ranked, world
from tests.fakes.peer_client import Turn
from tests.fakes.travel import travel
from tests.fakes.waiting import until

LIE = Digest.of(b"a lie")
#: Who ranks last for the first chunk: it owns nothing of it and asks others.
LAST = ranked(0)[4]
OWNER, SECOND = ranked(0)[:2]


def peers_of(me: str) -> tuple[str, ...]:
    return tuple(name for name in NAMES if name != me)


async def test_a_wrong_chunk_is_fetched_again(tmp_path: Path) -> None:
    """Bytes that are not what the owner says are forgotten; the right ones come from elsewhere."""
    async with world(tmp_path, me=LAST) as it:
        for name in peers_of(LAST):
            it.peers.script(name, [Turn("wrong")])
        await it.run()

        assert CONTENT == await it.content()
        assert it.exchange.counts.checks["wrong"] >= 1
        assert frozenset() == it.exchange.liars, "none said that it had proven anything"


async def test_who_vouches_for_wrong_bytes_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A sender that said it had proven the chunk is a liar: one line, and never asked again."""
    liar = ranked(0)[1]
    async with world(tmp_path, me=LAST, holders=[liar, *peers_of(LAST)]) as it:
        it.peers.always[liar] = Turn("wrong", checked=True)
        with caplog.at_level(logging.WARNING):
            it.peers.always[OWNER] = Turn(liar)  # it sends us there
            await it.run()

        assert CONTENT == await it.content()
        assert {liar} == it.exchange.liars
        assert f"peer lied: node={liar} digest={DIGEST} chunk=" in caplog.text
        assert it.peers.asks[-1][0] != liar


async def test_only_an_owners_word_comes_with_the_bytes(tmp_path: Path) -> None:
    """The hash that a sender tells of its own bytes is nothing, unless it answers for the chunk."""
    liar = ranked(0)[3]
    async with world(tmp_path, me=LAST, whole=False) as it:
        it.peers.script(OWNER, [Turn(liar)])
        it.peers.always[liar] = Turn("wrong", checked=True, told=True)
        running = asyncio.ensure_future(it.run())
        with it.swarm.demand(0, 10):
            while not it.ingest.is_checked(0, 10):
                await it.ingest.changed()
        async with it.ingest.follow(0, 10, proven=False) as follower:
            assert CONTENT[:10] == os.pread(follower.fd, 10, 0)
        running.cancel()
        await asyncio.wait([running])

        assert {liar} == it.exchange.liars


async def test_nobody_is_the_second_voice_for_bytes_of_its_own(tmp_path: Path) -> None:
    """A stand-in that sent wrong bytes and speaks for them does not outvote the owner."""
    async with world(tmp_path, me=LAST, whole=False) as it:
        it.peers.script(OWNER, [Turn(SECOND)])
        it.peers.script(SECOND, [Turn("wrong", checked=True)])
        it.peers.crooks.add((SECOND, 0))
        running = asyncio.ensure_future(it.run())
        with it.swarm.demand(0, 10):
            while not it.ingest.is_checked(0, 10):
                await it.ingest.changed()
        running.cancel()
        await asyncio.wait([running])

        assert {SECOND} == it.exchange.liars


async def test_two_voices_name_an_owner_who_lies_about_a_right_chunk(tmp_path: Path) -> None:
    """An honest sender is not left out on the word of one node that a second one contradicts."""
    async with world(tmp_path, me=LAST, holders=peers_of(LAST)) as it:
        it.peers.words[OWNER] = LIE
        it.peers.always = {name: Turn(checked=True) for name in NAMES}
        it.peers.always[OWNER] = Turn(ranked(0)[2], checked=True)
        await it.run()

        assert CONTENT == await it.content()
        assert {OWNER} == it.exchange.liars


def test_what_nobody_speaks_for_is_shown_to_nobody_before_the_whole_is_proven(
    tmp_path: Path,
) -> None:
    """A runtime waits for the proof where no owner says what a chunk hashes to."""

    async def story() -> None:
        async with world(tmp_path, me=LAST, names=peers_of(OWNER)) as it:
            it.peers.words = dict.fromkeys(NAMES, None)
            await it.run()

            brought = it.registry.asked
            for chunk in range(CHUNKS):
                start, stop = it.swarm.fetching.geometry.span(chunk)
                assert (start in brought) == it.ingest.is_checked(start, stop)
            assert CONTENT == await it.content()

    travel(story())


async def test_part_of_a_blob_that_nobody_speaks_for_comes_from_the_registry(
    tmp_path: Path,
) -> None:
    """A reader of a part would wait for ever for the proof of the whole."""
    async with world(tmp_path, me=LAST, whole=False) as it:
        it.peers.words = dict.fromkeys(NAMES, None)
        running = asyncio.ensure_future(it.run())
        with it.swarm.demand(0, 10):
            while not it.ingest.is_checked(0, 10):
                await it.ingest.changed()

        assert {"unproven": 1} == dict(it.exchange.counts.double)
        assert {0: 1} == dict(it.registry.asked)
        running.cancel()
        await asyncio.wait([running])


async def test_an_owner_asks_another_holder_about_what_a_holder_gave(tmp_path: Path) -> None:
    """Nobody answers for the owner's own chunks but those who have the whole."""
    holders = peers_of(OWNER)[:2]
    async with world(tmp_path, me=OWNER, holders=holders) as it:
        it.peers.always[holders[0]] = Turn("wrong", checked=True)
        await it.run()

        assert CONTENT == await it.content()
        assert {holders[0]} == it.exchange.liars
        assert {} == it.registry.asked


async def test_a_blob_that_came_out_wrong_names_its_liars_afterwards(tmp_path: Path) -> None:
    """Owner and sender in league: the whole is wrong, and the right one shows who it was."""
    async with world(tmp_path, me=LAST) as it:
        it.peers.script(OWNER, [Turn("wrong", checked=True)])
        it.peers.crooks.add((OWNER, 0))
        await it.run()
        with pytest.raises(DigestMismatch):
            await it.content()
        right = tmp_path / "right"
        right.write_bytes(CONTENT)
        with opened(right) as fd:
            liars = await it.swarm.proven(fd)

        assert (OWNER,) == liars
        assert {OWNER} == it.exchange.liars


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


async def test_hashes_of_chunks_are_kept_for_the_blobs_asked_for_last() -> None:
    """The memory has a bound; what goes first is what was told first."""
    hashes = ChunkHashes()
    blobs = [Digest.of(b"%d" % number) for number in range(KEPT + 1)]
    for blob in blobs:
        hashes.keep(blob, 0, LIE)

    assert hashes.find(blobs[0], 0) is None
    assert LIE == hashes.find(blobs[1], 0)


async def test_a_chunk_is_hashed_once_for_all_who_ask() -> None:
    """Those who come while it is hashed wait for the same result."""
    hashes, made, gate = ChunkHashes(), 0, asyncio.Event()

    async def make() -> Digest:
        nonlocal made
        made += 1
        await gate.wait()
        return LIE

    asking = [asyncio.ensure_future(hashes.make(DIGEST, 0, make)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()

    assert [LIE] * 3 == await asyncio.gather(*asking)
    assert 1 == made


async def test_a_word_is_waited_for_while_the_chunk_is_being_proven(tmp_path: Path) -> None:
    """Who asks for the hash of a chunk just after it came gets it, and no refusal."""
    async with world(tmp_path, me=OWNER) as it:
        running = asyncio.ensure_future(it.run())
        await until(lambda: it.registry.asked)
        word = await it.swarm.word(0)
        await running

        assert it.peers.chunk_hash(0) == word


def test_a_chunk_that_nobody_spoke_for_is_asked_about_again(tmp_path: Path) -> None:
    """Owners that were not ready to say it are asked once more while the rest still comes."""

    def speak(it: World) -> None:
        it.peers.words.clear()
        it.peers.always = {name: Turn("busy") for name in NAMES}

    async def release(it: World) -> None:
        """The rest comes when the first chunk is proven."""
        while not it.ingest.is_checked(*it.swarm.fetching.geometry.span(0)):
            await it.ingest.changed()
        it.peers.always.clear()
        assert it.registry.gate is not None
        it.registry.gate.set()

    async def story() -> int:
        async with world(tmp_path, me=LAST) as it, asyncio.TaskGroup() as group:
            it.peers.words = dict.fromkeys(NAMES, None)
            it.registry.gate = asyncio.Event()
            asyncio.get_running_loop().call_later(2.0, speak, it)
            group.create_task(release(it))
            await it.run()
            return len([node for node, chunk in it.peers.asked_words if chunk == 0])

    assert travel(story()) > 3


async def test_a_failure_of_the_registry_while_settling_brings_the_whole(tmp_path: Path) -> None:
    """Where not even the registry can settle a chunk, the whole blob is its proof."""

    async with world(tmp_path, me=LAST, whole=False) as it:
        it.peers.words = dict.fromkeys(NAMES, None)
        it.registry.faults.append(TransportError("away"))
        running = asyncio.ensure_future(it.run())
        with it.swarm.demand(0, 10):
            await until(lambda: it.swarm.whole)
            await running

        assert CONTENT == await it.content()
