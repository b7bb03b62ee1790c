"""Those who bring the bytes of a blob, and those who give it up."""

import asyncio
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache import ingest as ingest_module
from cache.content import Digest
from cache.errors import (
    DigestMismatch,
    IngestAborted,
    SizeMismatch,
    StoreUnusable,
)
from cache.files import Files
from cache.ingest import Ingest
from cache.layout import blob_path, ingest_key
from tests.cache.gates import turns
from tests.cache.ingests import CONTENT, DIGEST, SIZE, Reader, begun
from tests.cache.samples import arriving, blobs, noise


@settings(max_examples=40)
@given(
    spans=st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=8),
    order=st.randoms(use_true_random=False),
    announced=st.booleans(),
)
async def test_writers_in_any_order_and_overlap_make_one_blob(spans, order, announced):
    """Whatever comes at once, twice, empty or overlapping: the blob is right."""
    parts = [(min(span), max(span)) for span in spans]
    parts += [(0, SIZE // 2), (SIZE // 3, SIZE)]
    order.shuffle(parts)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(4) as threads:
        files = Files(Path(name))
        await asyncio.to_thread(files.prepare)
        ingest = Ingest(ingest_key(DIGEST), files, threads, expected=DIGEST)
        await ingest.open()
        if announced:
            ingest.announce(SIZE)
        async with asyncio.TaskGroup() as group:
            for start, stop in parts:
                group.create_task(wait(ingest.write(start, [CONTENT[start:stop]])))
        await ingest.commit()
        files.release()

        assert CONTENT == blob_path(files.root, DIGEST).read_bytes()


async def wait(future):
    """A coroutine for a future."""
    await future


async def test_the_first_to_bring_a_byte_wins(ingest, files):
    """Bytes that are here, or on their way to the file, are not written again by anyone."""
    ingest.announce(SIZE)
    first = ingest.write(1000, [CONTENT[1000:5000]])
    second = ingest.write(0, [CONTENT[:1000], b"?" * 5000, CONTENT[6000:7000]])
    await asyncio.gather(first, second)
    third = ingest.write(0, [b"?" * 5000])
    await third

    with (files.ingest / f"{ingest.key}.data").open("rb") as file:
        got = file.read()
    assert CONTENT[:5000] + b"?" * 1000 + CONTENT[6000:7000] == got


async def test_a_proven_blob_is_not_overwritten_by_a_liar(ingest, files):
    """What the hash has seen is what is published, whatever comes after it."""
    await ingest.write(0, [CONTENT])
    await ingest.write(0, [b"lies" * 100])
    await ingest.commit()

    assert CONTENT == blob_path(files.root, DIGEST).read_bytes()


async def test_a_cancelled_write_is_counted_once(ingest, workers, files):
    """Cancelled in the middle of a hop, a writer leaves its bytes; they are held, once."""
    ingest.announce(SIZE)
    gate = workers.hold(after=True)
    writer = asyncio.ensure_future(wait(ingest.write(0, [CONTENT[:5000]])))
    await gate.reached.wait()
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer

    assert 0 == ingest.held.total

    hops = workers.hops
    again = ingest.write(0, [b"?" * 5000])
    rest = ingest.write(5000, [CONTENT[5000:]])
    gate.open()
    await asyncio.gather(again, rest)
    await ingest.commit()

    assert hops + 3 == workers.hops
    assert SIZE == ingest.held.total
    assert CONTENT == blob_path(files.root, DIGEST).read_bytes()
    assert [] == arriving(files.root)


async def test_a_write_that_fails_leaves_its_range_to_others(ingest, workers, files):
    """A range whose hop failed is missing, and whoever brings it again fills it."""
    ingest.announce(SIZE)
    gate = workers.hold()
    under_way = ingest.write(0, [CONTENT[:100]])
    await gate.reached.wait()
    journal = files.ingest / f"{ingest.key}.ranges"
    journal.mkdir()  # no line can be written, so no range is promised
    failing = ingest.write(100, [b"?" * 900])
    with pytest.raises(StoreUnusable, match="directory"):
        await failing
    journal.rmdir()

    assert 0 == ingest.held.total

    again = ingest.write(0, [b"?" * 100])  # on its way to the file already
    filled = ingest.write(100, [CONTENT[100:5000]])
    await asyncio.gather(again, filled)
    gate.open()
    await under_way
    await ingest.write(5000, [CONTENT[5000:]])
    assert DIGEST == await ingest.commit()


@pytest.mark.parametrize("count", [1, 2])
async def test_bytes_beyond_the_announced_size_are_refused(ingest, count):
    """A source that sends more than it said is caught before the bytes are written."""
    ingest.announce(5)
    with pytest.raises(SizeMismatch, match="more bytes came than the 5 announced"):
        ingest.write(5, [b"x" * count])

    assert 0 == ingest.held.total


async def test_an_announcement_is_made_once(ingest):
    """The same size again is a success, another a contradiction."""
    ingest.announce(SIZE)
    ingest.announce(SIZE)
    with pytest.raises(SizeMismatch, match=f"1 bytes announced where {SIZE} are expected"):
        ingest.announce(1)

    assert SIZE == await ingest.known_size()


async def test_an_announcement_below_what_is_here_is_refused(ingest):
    """A size smaller than what has arrived cannot be."""
    await ingest.write(90, [b"x" * 10])
    with pytest.raises(SizeMismatch, match="99 bytes announced, 100 are here"):
        ingest.announce(99)
    ingest.announce(100)


async def test_the_hash_catches_up_by_itself(files, workers):
    """Bytes out of order are hashed in the background once enough of them are in a row."""
    content = noise(ingest_module.HASH_STEP + 2)
    async with begun(files, workers, Digest.of(content)) as ingest:
        await ingest.write(1, [content[1:]])
        hops = workers.hops
        await ingest.write(0, [content[:1]])

        assert hops + 2 == workers.hops

        await ingest.commit()


async def test_one_catches_up_at_a_time(files, workers):
    """While the hash catches up, bytes that come meanwhile do not queue more of the same."""
    step = ingest_module.HASH_STEP
    content = noise(step * 2 + 3)
    async with begun(files, workers, Digest.of(content)) as ingest:
        await ingest.write(1, [content[1 : step + 2]])
        first, catching_up = workers.hold(), workers.hold()
        writing = ingest.write(0, [content[:1]])
        first.open()
        await writing
        await catching_up.reached.wait()
        hops = workers.hops
        await ingest.write(step + 2, [content[step + 2 :]])

        assert hops + 1 == workers.hops

        catching_up.open()
        await ingest.commit()


async def test_a_hash_that_cannot_catch_up_shows_at_the_commit(files, workers):
    """A file that was cut under our feet is unusable when it is to be proven."""
    content = noise(ingest_module.HASH_STEP + 2)
    async with begun(files, workers, Digest.of(content)) as ingest:
        await ingest.write(1, [content[1:]])
        os.truncate(files.ingest / f"{ingest.key}.data", 0)
        await ingest.write(0, [content[:1]])
        with pytest.raises(StoreUnusable, match="the file ends at"):
            await ingest.commit()


# giving up


async def test_followers_are_told_of_an_abort_after_the_files_are_gone(ingest, files, workers):
    """Nobody hears of the end while a file of it is there; then all do."""
    ingest.announce(SIZE)
    await ingest.write(0, [CONTENT[:5000]])
    readers = [Reader(ingest) for _ in range(5)]
    for reader in readers:
        await reader.reaches(5000)
    gate = workers.hold()
    aborting = asyncio.ensure_future(ingest.abort(OSError("unplugged"), discard=True))
    await gate.reached.wait()
    await turns()

    assert 5 == ingest.followers
    assert not ingest.ended

    gate.open()
    for reader in readers:
        with pytest.raises(IngestAborted, match="unplugged") as raised:
            await reader.end()
        assert isinstance(raised.value.__cause__, OSError)
        assert [] == arriving(files.root)
    await aborting


async def test_a_follower_after_an_abort_is_told_at_once(ingest):
    """Whoever comes too late, or asks for the size, hears why."""
    await ingest.abort(DigestMismatch("a liar"))
    for question in (ingest.known_size(), Reader(ingest).end(), ingest.write, ingest.commit()):
        with pytest.raises(DigestMismatch, match="a liar"):
            await (question if asyncio.iscoroutine(question) else question(0, [b"x"]))


async def test_the_wait_for_a_size_ends_with_an_abort(ingest):
    """Nobody waits for ever for a size that will not come."""
    waiting = asyncio.ensure_future(ingest.known_size())
    await turns()
    await ingest.abort(KeyError())
    with pytest.raises(IngestAborted, match=r": KeyError$"):
        await waiting


async def test_an_abort_keeps_what_came_unless_told_otherwise(ingest, files, workers):
    """Given up, the file and its journal stay, and the next ingest holds what came."""
    await ingest.write(10, [CONTENT[10:5000]])
    await ingest.abort(OSError("later"))
    async with begun(files, workers) as again:
        assert ((10, 5000),) == again.held.ranges

        await again.write(0, [CONTENT[:100]])
        await again.write(5000, [CONTENT[5000:]])
        await again.commit()

    assert {DIGEST} == blobs(files.root)
    assert [] == arriving(files.root)


async def test_a_second_abort_waits_for_the_first(ingest, files, workers):
    """Whoever has seen an abort return may begin anew: the files are out of the way."""
    await ingest.write(0, [CONTENT[:100]])
    gate = workers.hold()
    first = asyncio.ensure_future(ingest.abort(OSError("first"), discard=True))
    await gate.reached.wait()
    second = asyncio.ensure_future(ingest.abort(OSError("second")))
    await turns()

    assert not second.done()

    gate.open()
    await asyncio.gather(first, second)
    assert [] == arriving(files.root)
    assert "first" == str(ingest.error)


async def test_a_cancelled_abort_still_ends(ingest, files, workers):
    """Cancelled while a write is waited for, an abort goes to its end and followers are told."""
    ingest.announce(SIZE)
    reader = Reader(ingest)
    gate = workers.hold()
    writing = asyncio.ensure_future(ingest.write(0, [CONTENT[:100]]))
    await gate.reached.wait()
    aborting = asyncio.ensure_future(ingest.abort(OSError("why"), discard=True))
    await turns()
    aborting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await aborting
    gate.open()
    await writing
    with pytest.raises(IngestAborted, match="why"):
        await reader.end()
    assert [] == arriving(files.root)


async def test_a_file_that_cannot_be_discarded_still_ends_the_ingest(files, workers):
    """The one who gives up hears of it; followers hear the cause."""
    async with begun(files, workers) as ingest:
        ingest.announce(SIZE)
        reader = Reader(ingest)
        path = files.ingest / f"{ingest.key}.data"
        path.unlink()
        path.mkdir()
        with pytest.raises(StoreUnusable, match="directory"):
            await ingest.abort(OSError("why"), discard=True)
        with pytest.raises(IngestAborted, match="why"):
            await reader.end()
