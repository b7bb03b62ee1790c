"""The end of an arrival: proof, publication, cancellation."""

import asyncio

import pytest
from typing_extensions import override

from cache.content import Digest
from cache.errors import (
    DigestMismatch,
    DiskFull,
    IngestAborted,
    SizeMismatch,
    StoreUnusable,
)
from cache.files import Files
from cache.layout import blob_path, ingest_key
from tests.cache.gates import turns
from tests.cache.ingests import CONTENT, DIGEST, SIZE, Reader, begun
from tests.cache.samples import arriving, blobs


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


async def test_what_must_be_known_of_a_blob_is_told_before_it_is_there(ingest, files):
    """``proven`` is awaited between the proof and the file's appearance; nothing comes after it."""
    seen = []

    async def proven():
        seen.append(blobs(files.root))

    await ingest.write(0, [CONTENT])
    await ingest.commit(proven=proven)

    assert [set()] == seen
    assert {DIGEST} == blobs(files.root)


async def test_nothing_is_told_of_what_proves_wrong(ingest, files):
    """``proven`` is not awaited for other bytes."""
    seen = []

    async def proven():
        seen.append("proven")

    await ingest.write(0, [CONTENT[:-1] + b"?"])
    with pytest.raises(DigestMismatch):
        await ingest.commit(proven=proven)

    assert [] == seen


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
