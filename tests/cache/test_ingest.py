"""One arriving blob: its writers, its followers, its end."""

import asyncio
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from cache import ingest as ingest_module
from cache.content import Digest
from cache.errors import (
    DigestMismatch,
    DiskFull,
    IngestAborted,
    SizeMismatch,
    StoreUnusable,
)
from cache.files import Files
from cache.ingest import HELD_BACK, Ingest
from cache.layout import blob_path, ingest_key
from tests.cache.samples import arriving, blobs, noise

CONTENT = noise(HELD_BACK * 3 + 11)
DIGEST = Digest.of(CONTENT)
SIZE = len(CONTENT)
SHOWN = SIZE - HELD_BACK


@pytest.fixture
async def ingest(files, workers):
    """An ingest that expects CONTENT, of a size not yet known."""
    async with begun(files, workers) as ingest:
        yield ingest


@asynccontextmanager
async def begun(files, workers, digest=DIGEST, key=None):
    """An ingest, given up at the end unless it has ended."""
    ingest = Ingest(key or ingest_key(digest), files, workers, expected=digest)
    await ingest.open()
    try:
        yield ingest
    finally:
        await ingest.abort(StoreUnusable("the test has ended"))


class Reader:
    """A follower at its own pace, which remembers what it got."""

    def __init__(self, ingest, start=0, stop=None):
        self.got = bytearray()
        self._news = asyncio.Event()
        self._task = asyncio.ensure_future(self._read(ingest, start, stop))

    async def _read(self, ingest, start, stop):
        async with ingest.follow(start, stop) as follower:
            async for offset, count in follower:
                assert start + len(self.got) == offset
                self.got += os.pread(follower.fd, count, offset)
                self._news.set()

    async def reaches(self, count):
        """Wait until so many bytes have come."""
        while len(self.got) < count:
            await self._news.wait()
            self._news.clear()

    async def end(self):
        """Everything that came, when there is no more."""
        await self._task
        return bytes(self.got)

    async def leave(self):
        """Stop reading."""
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task


async def turns(count=20):
    """Let everything that can go on without a thread go on."""
    for _ in range(count):
        await asyncio.sleep(0)


# followers


async def test_followers_read_early_but_never_the_last_bytes_unproven(ingest, files, workers):
    """All is here, the commit stands before its publication: the last HELD_BACK are kept back."""
    ingest.announce(SIZE)
    readers = [Reader(ingest), Reader(ingest, 100), Reader(ingest, SHOWN - 5), Reader(ingest)]
    await ingest.write(0, [CONTENT])
    for reader, count in zip(readers, [SHOWN, SHOWN - 100, 5, SHOWN], strict=True):
        await reader.reaches(count)
    gate = workers.hold()
    committing = asyncio.ensure_future(ingest.commit())
    await gate.reached.wait()
    await turns()

    assert [SHOWN, SHOWN - 100, 5, SHOWN] == [len(reader.got) for reader in readers]

    gate.open()
    assert DIGEST == await committing
    assert [CONTENT, CONTENT[100:], CONTENT[SHOWN - 5 :], CONTENT] == [
        await reader.end() for reader in readers
    ]


async def test_even_published_bytes_wait_for_the_commit(ingest, workers):
    """The thread has published, the loop does not know yet: nothing more is shown."""
    ingest.announce(SIZE)
    reader = Reader(ingest)
    await ingest.write(0, [CONTENT])
    gate = workers.hold(after=True)
    committing = asyncio.ensure_future(ingest.commit())
    await gate.reached.wait()
    await turns()

    assert SHOWN == len(reader.got)

    gate.open()
    await committing
    assert CONTENT == await reader.end()


async def test_a_small_blob_is_shown_only_when_proven(files, workers):
    """A blob no larger than HELD_BACK is given out after the commit, and then whole."""
    async with begun(files, workers, Digest.of(b"abc")) as ingest:
        ingest.announce(3)
        reader = Reader(ingest)
        await ingest.write(0, [b"abc"])
        await turns()

        assert b"" == bytes(reader.got)

        await ingest.commit()
        assert b"abc" == await reader.end()


async def test_followers_see_no_further_than_the_first_gap(ingest):
    """What lies behind a gap is read when the gap is filled, in order."""
    ingest.announce(SIZE)
    reader, middle = Reader(ingest), Reader(ingest, 1000, 2000)
    await ingest.write(900, [CONTENT[900:5000]])
    assert CONTENT[1000:2000] == await middle.end()
    await turns()

    assert b"" == bytes(reader.got)

    await ingest.write(0, [CONTENT[:900]])
    await reader.reaches(5000)

    assert CONTENT[:5000] == bytes(reader.got)
    await reader.leave()


async def test_a_range_before_the_held_back_bytes_ends_before_the_commit(ingest):
    """A range that is wholly shown is given whole; the ingest goes on."""
    ingest.announce(SIZE)
    await ingest.write(0, [CONTENT])

    assert CONTENT[10:SHOWN] == await Reader(ingest, 10, SHOWN).end()
    assert not ingest.ended


@pytest.mark.parametrize(("start", "stop"), [(SIZE, None), (SIZE + 5, None), (7, 7), (9, 2)])
async def test_a_range_of_nothing_ends_at_once(ingest, start, stop):
    """A follower behind the end, or of an empty range, gets nothing and waits for nothing."""
    ingest.announce(SIZE)

    assert b"" == await Reader(ingest, start, stop).end()


async def test_a_range_ends_with_the_blob(ingest):
    """A stop beyond the end means the end."""
    ingest.announce(SIZE)
    reader = Reader(ingest, SIZE - 3, SIZE + 100)
    await ingest.write(0, [CONTENT])
    await ingest.commit()

    assert CONTENT[-3:] == await reader.end()


async def test_a_follower_that_leaves_ends_only_itself(ingest):
    """One leaves in the middle; the others and the commit go on, and it is counted out."""
    ingest.announce(SIZE)
    readers = [Reader(ingest) for _ in range(20)]
    await ingest.write(0, [CONTENT[:5000]])
    for reader in readers:
        await reader.reaches(5000)

    assert 20 == ingest.followers

    for reader in readers[::2]:
        await reader.leave()

    assert 10 == ingest.followers

    await ingest.write(5000, [CONTENT[5000:]])
    await ingest.commit()
    assert [CONTENT] * 10 == [await reader.end() for reader in readers[1::2]]
    assert 0 == ingest.followers


async def test_a_follower_waits_for_the_size(ingest):
    """Before anybody has said how large the whole is, a follower waits."""
    reader = Reader(ingest)
    await ingest.write(0, [CONTENT])
    await turns()

    assert 0 == ingest.followers

    await ingest.commit()
    assert CONTENT == await reader.end()


async def test_a_follower_of_a_committed_blob_reads_it_whole(ingest):
    """Whoever comes after the commit reads the blob."""
    await ingest.write(0, [CONTENT])
    await ingest.commit()

    assert CONTENT[5:] == await Reader(ingest, 5).end()


async def test_a_follower_cancelled_while_its_file_is_opened_leaks_nothing(ingest, workers):
    """What the thread opens for a follower that has gone is closed."""
    await ingest.write(0, [CONTENT])
    await ingest.commit()
    before, gate = open_files(), workers.hold(after=True)
    reader = Reader(ingest)
    await gate.reached.wait()
    await reader.leave()
    gate.open()
    async with asyncio.timeout(60):
        while open_files() != before:
            await asyncio.sleep(0)


def open_files():
    """The numbers of the descriptors that this process has open."""
    return sorted(os.listdir("/proc/self/fd"))[:-1]


async def test_an_open_follower_reads_on_after_the_end(ingest, files):
    """The descriptor of a follower outlives the rename and the removal of the file."""
    ingest.announce(SIZE)
    await ingest.write(0, [CONTENT])
    async with ingest.follow() as follower:
        await ingest.commit()
        blob_path(files.root, DIGEST).unlink()

        assert CONTENT == os.pread(follower.fd, SIZE, 0)


# aborts


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


# writers


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
    again = ingest.write(0, [CONTENT[:5000]])
    rest = ingest.write(5000, [CONTENT[5000:]])
    gate.open()
    await asyncio.gather(again, rest)
    await ingest.commit()

    assert hops + 3 == workers.hops
    assert SIZE == ingest.held.total
    assert f"0 {5000}" not in "".join(arriving(files.root))


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

    gate.open()
    await ingest.write(0, [CONTENT[:5000]])
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


async def test_a_hash_that_cannot_catch_up_shows_at_the_commit(files, workers):
    """A file that was cut under our feet is unusable when it is to be proven."""
    content = noise(ingest_module.HASH_STEP + 2)
    async with begun(files, workers, Digest.of(content)) as ingest:
        await ingest.write(1, [content[1:]])
        os.truncate(files.ingest / f"{ingest.key}.data", 0)
        await ingest.write(0, [content[:1]])
        with pytest.raises(StoreUnusable, match="the file ends at"):
            await ingest.commit()


# commits


@pytest.mark.parametrize(
    ("bring", "announced", "wanted"),
    [
        (CONTENT[:-1] + b"?", None, DigestMismatch),
        (CONTENT[:-1] + b"?", SIZE, DigestMismatch),
        (CONTENT[:-1], None, DigestMismatch),
        (CONTENT[:-1], SIZE, SizeMismatch),
        (CONTENT + b"?", None, DigestMismatch),
        (b"", SIZE, SizeMismatch),
    ],
)
async def test_what_is_not_the_blob_leaves_nothing(ingest, files, bring, announced, wanted):
    """Wrong, short, long: an error for the caller and every follower, and no file anywhere."""
    if announced is not None:
        ingest.announce(announced)
    reader = Reader(ingest)
    await ingest.write(0, [bring])
    with pytest.raises(wanted):
        await ingest.commit()
    with pytest.raises(wanted):
        await reader.end()

    assert CONTENT != bytes(reader.got)
    assert set() == blobs(files.root)
    assert [] == arriving(files.root)


async def test_a_blob_with_a_hole_is_short(ingest, files):
    """Without an announced size, bytes behind a hole are not the end."""
    await ingest.write(0, [CONTENT[:10]])
    await ingest.write(20, [CONTENT[20:30]])
    with pytest.raises(SizeMismatch, match="20 bytes came"):
        await ingest.commit()

    assert [] == arriving(files.root)


async def test_an_empty_blob(files, workers):
    """Nothing at all is a blob too."""
    async with begun(files, workers, Digest.of(b"")) as ingest:
        await ingest.write(0, [])
        await ingest.commit()

    assert {Digest.of(b"")} == blobs(files.root)


async def test_a_digest_said_at_the_end(files, workers):
    """An upload is proven by the digest that comes with the commit, of any algorithm."""
    async with begun(files, workers, None, "upload-1") as ingest:
        with pytest.raises(ValueError, match="cannot be committed"):
            await ingest.commit()
        await ingest.write(0, [b"abc"])
        digest = Digest.of(b"abc", "sha512")

        assert digest == await ingest.commit(digest)
        assert digest == ingest.expected
        assert 3 == ingest.size


async def test_no_other_digest_than_the_one_it_began_with(ingest):
    """Followers wait for one digest; the bytes of another are not theirs."""
    await ingest.write(0, [b"abc"])
    with pytest.raises(ValueError, match="cannot be committed as"):
        await ingest.commit(Digest.of(b"abc"))

    assert not ingest.ended


async def test_a_commit_waits_for_the_writes_under_way(ingest, workers):
    """Bytes that a thread is writing still belong to the blob."""
    gate = workers.hold()
    writing = ingest.write(0, [CONTENT])
    committing = asyncio.ensure_future(ingest.commit())
    await gate.reached.wait()
    await turns()

    assert not committing.done()

    gate.open()
    await writing
    assert DIGEST == await committing


async def test_nothing_is_written_once_a_commit_has_begun(ingest, workers):
    """A writer that comes late cannot make a proven file longer; a second commit cannot be."""
    await ingest.write(0, [CONTENT])
    gate = workers.hold()
    committing = asyncio.ensure_future(ingest.commit())
    await gate.reached.wait()
    with pytest.raises(IngestAborted, match="has ended"):
        ingest.write(SIZE, [b"?"])
    with pytest.raises(IngestAborted, match="has ended"):
        await ingest.commit()
    gate.open()
    await committing
    with pytest.raises(IngestAborted, match="has ended"):
        ingest.write(0, [b"?"])


async def test_what_an_earlier_process_wrote_beyond_the_end_is_cut(files, workers):
    """A blob has exactly its bytes, whatever was in the file."""
    (files.ingest / f"{ingest_key(DIGEST)}.data").write_bytes(b"?" * (SIZE + 100))
    async with begun(files, workers) as ingest:
        await ingest.write(0, [CONTENT])
        await ingest.commit()

    assert CONTENT == blob_path(files.root, DIGEST).read_bytes()


@pytest.mark.parametrize("after", [False, True])
async def test_a_commit_cancelled_while_it_publishes_is_a_commit(ingest, workers, files, after):
    """The thread cannot be stopped, so what it does counts: followers get all."""
    ingest.announce(SIZE)
    reader = Reader(ingest)
    await ingest.write(0, [CONTENT])
    gate = workers.hold(after=after)
    committing = asyncio.ensure_future(ingest.commit())
    await gate.reached.wait()
    committing.cancel()
    await turns()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await committing

    assert ingest.committed
    assert CONTENT == await reader.end()
    assert {DIGEST} == blobs(files.root)
    assert [] == arriving(files.root)


async def test_a_commit_cancelled_before_it_publishes_can_be_resumed(ingest, workers, files):
    """Cancelled while writes were waited for: what came is kept."""
    ingest.announce(SIZE)
    await ingest.write(0, [CONTENT[:5000]])
    gate = workers.hold()
    writing = ingest.write(5000, [CONTENT[5000:]])
    committing = asyncio.ensure_future(ingest.commit())
    await gate.reached.wait()
    committing.cancel()
    await turns()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await committing
    await writing

    assert ingest.ended
    assert not ingest.committed
    async with begun(files, workers) as again:
        assert ((0, SIZE),) == again.held.ranges
        assert DIGEST == await again.commit()


async def test_an_abort_while_a_commit_waits_for_writes_wins(ingest, workers, files):
    """Whoever gives up before the publication began gives up; nothing is published."""
    gate = workers.hold()
    writing = ingest.write(0, [CONTENT])
    committing = asyncio.ensure_future(ingest.commit())
    await gate.reached.wait()
    aborting = asyncio.ensure_future(ingest.abort(OSError("closing")))
    await turns()
    gate.open()
    await asyncio.gather(writing, aborting)
    with pytest.raises(IngestAborted, match="given up while"):
        await committing

    assert set() == blobs(files.root)


async def test_an_abort_while_a_commit_publishes_loses(ingest, workers, files):
    """Whoever gives up too late waits, and finds the blob committed."""
    await ingest.write(0, [CONTENT])
    gate = workers.hold()
    committing = asyncio.ensure_future(ingest.commit())
    await gate.reached.wait()
    aborting = asyncio.ensure_future(ingest.abort(OSError("closing"), discard=True))
    await turns()

    assert not aborting.done()

    gate.open()
    await asyncio.gather(committing, aborting)
    await ingest.abort(OSError("again"), discard=True)
    assert ingest.committed
    assert ingest.error is None
    assert {DIGEST} == blobs(files.root)


async def test_a_publication_that_fails_can_be_resumed(ingest, files):
    """A disk at fault costs no bytes; followers hear of it."""
    ingest.announce(SIZE)
    await ingest.write(1, [CONTENT[1:]])
    await ingest.write(0, [CONTENT[:1]])
    reader = Reader(ingest)
    (files.root / "blobs" / "sha256").rmdir()
    with pytest.raises(StoreUnusable):
        await ingest.commit()
    with pytest.raises(StoreUnusable):
        await reader.end()

    assert 2 == len(arriving(files.root))


class FullFiles(Files):
    """A root on a disk that is full when a blob is to be made durable."""

    @override
    def publish(self, fd, source, digest):
        raise DiskFull("no room")


async def test_on_a_full_disk_nothing_is_kept(files, workers):
    """The room is wanted: what arrived is removed, and followers hear why."""
    async with begun(FullFiles(files.root), workers) as ingest:
        ingest.announce(SIZE)
        await ingest.write(0, [CONTENT[:5000]])
        await ingest.write(5000, [CONTENT[5000:]])
        reader = Reader(ingest)
        with pytest.raises(DiskFull):
            await ingest.commit()
        with pytest.raises(DiskFull):
            await reader.end()

    assert [] == arriving(files.root)
