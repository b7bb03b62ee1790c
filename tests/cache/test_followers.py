"""Those who read a blob while it arrives."""

import asyncio
import os

import pytest

from cache.content import Digest
from cache.layout import blob_path
from tests.cache.gates import open_files, turns, until
from tests.cache.ingests import CONTENT, DIGEST, SHOWN, SIZE, Reader, begun


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


async def test_who_reads_a_part_has_the_last_bytes_before_the_proof(ingest):
    """A part that nobody can take for the whole is given when its bytes are here; nothing more."""
    ingest.announce(SIZE)
    await ingest.write(100, [CONTENT[100:]])

    assert CONTENT[SHOWN - 5 :] == await Reader(ingest, SHOWN - 5, proven=False).end()
    assert (SIZE, SHOWN) == (ingest.available(200, proven=False), ingest.available(200))
    assert 50 == ingest.available(50, proven=False)


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
    await until(lambda: open_files() == before)


@pytest.mark.parametrize("ends_well", [True, False])
async def test_an_end_leaves_nothing_open(files, workers, ends_well):
    """Committed or given up: neither the ingest nor a follower keeps a descriptor."""
    before = open_files()
    async with begun(files, workers) as ingest:
        ingest.announce(SIZE)
        reader = Reader(ingest, 0, 100)
        await ingest.write(0, [CONTENT[:5000]])
        await ingest.write(5000, [CONTENT[5000:]])
        await reader.end()
        await (ingest.commit() if ends_well else ingest.abort(OSError("why")))

    assert before == open_files()


async def test_an_open_follower_reads_on_after_the_end(ingest, files):
    """The descriptor of a follower outlives the rename and the removal of the file."""
    ingest.announce(SIZE)
    await ingest.write(0, [CONTENT])
    async with ingest.follow() as follower:
        await ingest.commit()
        blob_path(files.root, DIGEST).unlink()

        assert CONTENT == os.pread(follower.fd, SIZE, 0)
