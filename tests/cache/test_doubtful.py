"""Bytes of a doubtful source: who sees them, what becomes of them, what is kept of them."""

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Digest
from cache.errors import DigestMismatch
from cache.files import Files
from cache.ingest import HELD_BACK
from cache.layout import blob_path
from tests.cache.ingests import CONTENT, DIGEST, SIZE, Reader, begun

HALF = SIZE // 2
WRONG = bytes(byte ^ 0xFF for byte in CONTENT)


async def test_followers_wait_until_bytes_are_checked(files, workers):
    """A runtime sees a peer's bytes after the check only; another peer may see them at once."""
    async with begun(files, workers) as ingest:
        ingest.announce(SIZE)
        await ingest.write(0, [CONTENT[:HALF]], checked=False)

        assert 0 == ingest.available(0)
        assert 0 == ingest.available(0, proven=False)
        assert HALF == ingest.available(0, checked=False)
        assert not ingest.is_checked(0, HALF)

        ingest.check(0, HALF)

        assert HALF == ingest.available(0)
        assert ingest.is_checked(0, HALF)
        assert not ingest.is_checked(0, HALF + 1)


async def test_a_follower_stops_before_what_is_doubtful(files, workers):
    """What comes before and after doubtful bytes is seen from there on alone."""
    async with begun(files, workers) as ingest:
        ingest.announce(SIZE)
        await ingest.write(0, [CONTENT[:100]])
        await ingest.write(100, [CONTENT[100:200]], checked=False)
        await ingest.write(200, [CONTENT[200:300]])

        assert 100 == ingest.available(0)
        assert 150 == ingest.available(150)
        assert 300 == ingest.available(200)
        assert 300 == ingest.available(0, checked=False)


async def test_a_check_wakes_followers(files, workers):
    """Who waits for the check goes on with it, without another byte coming."""
    async with begun(files, workers) as ingest:
        ingest.announce(SIZE)
        reader = Reader(ingest)
        await ingest.write(0, [CONTENT[:HALF]], checked=False)
        ingest.check(0, HALF)
        await reader.reaches(HALF)
        await reader.leave()

        assert CONTENT[:HALF] == bytes(reader.got)


async def test_wrong_bytes_are_brought_again(files, workers):
    """Nobody saw them, the hash has not met them: with the right ones the blob is right."""
    async with begun(files, workers) as ingest:
        ingest.announce(SIZE)
        await ingest.write(0, [WRONG[:HALF]], checked=False)
        assert Digest.of(WRONG[:HALF]) == await ingest.part_digest(0, HALF)
        ingest.forget(0, HALF)

        assert [(0, SIZE)] == ingest.held.missing(0, SIZE)
        await ingest.write(0, [CONTENT[:HALF]])
        assert HALF == ingest.available(0)
        await ingest.write(HALF, [CONTENT[HALF:]], checked=False)
        await ingest.commit()
        assert SIZE == ingest.available(0)

    assert CONTENT == blob_path(files.root, DIGEST).read_bytes()


async def test_what_is_believed_is_not_forgotten(files, workers):
    """Only doubtful bytes can be given up: others may have been given out."""
    async with begun(files, workers) as ingest:
        ingest.announce(SIZE)
        await ingest.write(0, [CONTENT[:100]])
        await ingest.write(100, [WRONG[100:200]], checked=False)
        ingest.forget(0, 200)

        assert ((0, 100),) == ingest.held.ranges
        assert 100 == ingest.available(0)


async def test_the_whole_is_proven_all_the_same(files, workers):
    """Checked or not, wrong bytes never make a blob."""
    async with begun(files, workers) as ingest:
        ingest.announce(SIZE)
        await ingest.write(0, [WRONG], checked=False)
        ingest.check(0, SIZE)

        with pytest.raises(DigestMismatch):
            await ingest.commit()
        with pytest.raises(DigestMismatch):
            await ingest.part_digest(0, SIZE)

    assert not blob_path(files.root, DIGEST).exists()


async def test_a_later_process_finds_what_was_checked_alone(files, workers):
    """The journal speaks of a peer's bytes once they are believed: kill -9 changes nothing."""
    async with begun(files, workers) as ingest:
        ingest.announce(SIZE)
        await ingest.write(0, [CONTENT[:100]], checked=False)
        await ingest.write(100, [CONTENT[100:200]], checked=False)
        ingest.check(100, 200)
    async with begun(files, workers) as ingest:
        assert ((100, 200),) == ingest.held.ranges
        assert SIZE == ingest.size
        assert 200 == ingest.available(100)


async def test_a_sure_source_ends_the_doubt(files, workers):
    """Where doubtful bytes never came, a registry's own are believed at once."""
    async with begun(files, workers) as ingest:
        ingest.announce(SIZE)
        await ingest.write(0, [WRONG[:HALF]], checked=False)
        ingest.forget(0, HALF)
        await asyncio.gather(
            ingest.write(0, [CONTENT[: HALF // 2]]),
            ingest.write(HALF // 2, [CONTENT[HALF // 2 : HALF]], checked=False),
        )

        assert HALF // 2 == ingest.available(0)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30),
    st.data(),
)
def test_believed_bytes_are_those_that_were_checked(steps, data):
    """In any order of coming, being checked and forgotten, nothing wrong is ever seen."""

    async def story(files, workers):
        async with begun(files, workers) as ingest:
            ingest.announce(SIZE)
            sure = set()
            for part, right in steps:
                start, stop = part * 100, part * 100 + 100
                content = CONTENT if right else WRONG
                came = bool(ingest.held.missing(start, stop))
                await ingest.write(start, [content[start:stop]], checked=False)
                if came and data.draw(st.booleans()):
                    if right:
                        ingest.check(start, stop)
                        sure.add(part)
                    else:
                        ingest.forget(start, stop)
                for at in range(10):
                    seen = ingest.available(at * 100, proven=False) > at * 100
                    assert (at in sure) == seen

    _run(story)


def _run(story):
    async def within():
        with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as threads:
            files = Files(Path(name))
            await asyncio.to_thread(files.prepare)
            await story(files, threads)
            files.release()

    asyncio.run(within())


def test_the_sample_has_room():
    """The tests above stay clear of the bytes that are held back."""
    assert SIZE - HELD_BACK > HALF
