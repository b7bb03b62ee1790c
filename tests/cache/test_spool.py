"""The file of one arriving blob, its journal and its running hash."""

import os
import resource
import stat
import tempfile
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import spool as spool_module
from cache.content import Digest
from cache.errors import DiskFull, StoreUnusable
from cache.files import Files
from cache.spool import Spool, put_whole
from tests.cache.gates import open_files
from tests.cache.samples import arriving, blobs, noise

CONTENT = noise(200)
KEY = f"sha256-{Digest.of(CONTENT).hex}"


@pytest.fixture
def folder(tmp_path):
    """An ingest folder."""
    return tmp_path


def opened(folder, key=KEY, algorithm="sha256"):
    """A spool, and the ranges it found."""
    spool = Spool(folder, key, algorithm)
    return spool, spool.open().ranges


@st.composite
def partitions(draw):
    """Pieces that together are CONTENT, in any order: (offset, pieces), some of them empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(CONTENT)), max_size=12)))
    edges = [0, *cuts, len(CONTENT)]
    spans = list(pairwise(edges))
    parts = []
    for start, stop in draw(st.permutations(spans)):
        middle = draw(st.integers(start, stop))
        parts.append((start, [CONTENT[start:middle], b"", CONTENT[middle:stop]]))
    return parts


@given(partitions(), st.sampled_from(["sha256", "sha512"]), st.integers(0, 5))
def test_bytes_in_any_order_end_in_the_same_file(parts, algorithm, grouped):
    """Whatever the partition and order, the file, the journal and the digest are the same."""
    with tempfile.TemporaryDirectory() as name:
        spool, found = opened(Path(name), algorithm=algorithm)
        spool.write(parts[:grouped])
        for part in parts[grouped:]:
            spool.write([part])
        digest = spool.digest(len(CONTENT), algorithm)
        spool.close()
        again, held = opened(Path(name))
        again.close()

        assert () == found
        assert CONTENT == spool.path.read_bytes()
        assert Digest.of(CONTENT, algorithm) == digest
        assert ((0, len(CONTENT)),) == held


@given(partitions(), st.data())
def test_the_hash_covers_the_first_bytes_of_the_file(parts, data):
    """At every instant the hash is that of the finished prefix up to ``hashed``."""
    with tempfile.TemporaryDirectory() as name:
        spool, _ = opened(Path(name))
        for part in parts:
            spool.write([part])
            reach = spool.hashed
            if data.draw(st.booleans()):
                spool.hash_to(reach)

            assert Digest.of(CONTENT[:reach]).hex == spool._hash.hexdigest()
        spool.close()


def test_more_pieces_than_one_call_takes(folder):
    """A write of thousands of pieces is written whole."""
    spool, _ = opened(folder)
    spool.write([(0, [bytes([at % 251]) for at in range(3000)])])
    spool.close()

    assert bytes(at % 251 for at in range(3000)) == spool.path.read_bytes()


def test_a_resumed_spool_hashes_what_an_earlier_one_wrote(folder):
    """The hash catches up by reading back, in steps."""
    first, _ = opened(folder)
    first.write([(0, [CONTENT[:150]])])
    first.close()
    second, held = opened(folder)
    second.write([(150, [CONTENT[150:]])])

    assert ((0, 150),) == held
    assert 0 == second.hashed
    assert Digest.of(CONTENT) == second.digest(len(CONTENT), "sha256")
    second.close()


def test_reading_back_takes_several_steps(folder):
    """Content beyond one step is read back whole."""
    content = noise(spool_module.READ_BACK * 2 + 5)
    spool, _ = opened(folder)
    spool.write([(1, [content[1:]])])
    spool.write([(0, [content[:1]])])

    assert Digest.of(content) == spool.digest(len(content), "sha256")
    spool.close()


def test_another_algorithm_hashes_anew(folder):
    """A digest of another algorithm than expected is that of the whole."""
    spool, _ = opened(folder)
    spool.write([(0, [CONTENT])])

    assert Digest.of(CONTENT, "sha512") == spool.digest(len(CONTENT), "sha512")
    assert Digest.of(CONTENT) == spool.digest(len(CONTENT), "sha256")
    spool.close()


def test_a_hash_that_is_busy_is_not_waited_for(folder):
    """A write goes on while another thread hashes; the hash catches up later."""
    spool, _ = opened(folder)
    with spool._hash_lock:
        spool.write([(0, [CONTENT])])

    assert 0 == spool.hashed
    assert Digest.of(CONTENT) == spool.digest(len(CONTENT), "sha256")
    spool.close()


def test_a_file_that_was_cut_cannot_be_hashed(folder):
    """A file shorter than what was written to it is unusable, and both lengths are said."""
    spool, _ = opened(folder)
    spool.write([(10, [CONTENT])])
    os.truncate(spool.path, 5)
    with pytest.raises(StoreUnusable, match="the file ends at 5, 210 were written"):
        spool.hash_to(210)
    spool.close()


@pytest.mark.parametrize(
    ("journal", "held"),
    [
        (b"", ()),
        (b"0 50\n", ((0, 50),)),
        (b"0 50\n50 100\n", ((0, 100),)),
        (b"60 70\n0 50\n", ((0, 50), (60, 70))),
        (b"0 50\n60 9", ((0, 50),)),  # torn
        (b"0 50", ()),
        (b"0 50\n60\n70 80\n", ((0, 50), (70, 80))),
        (b"0 50 60\n", ()),
        (b"a b\n\x00\xff\n0 10\n", ((0, 10),)),
        (b"-5 10\n", ()),
        (b"50 40\n40 40\n", ()),
        (b"0 101\n0 100\n", ((0, 100),)),  # beyond the file
        (b"100 200\n", ()),
        (b"9" * 5000 + b" 1\n0 10\n", ((0, 10),)),
    ],
)
def test_a_journal_is_believed_as_far_as_it_can_be_true(folder, journal, held):
    """Torn and senseless lines, and ranges beyond the file, are left out."""
    (folder / f"{KEY}.data").write_bytes(bytes(100))
    (folder / f"{KEY}.ranges").write_bytes(journal)
    spool, found = opened(folder)
    spool.close()

    assert held == found


@pytest.mark.parametrize("journal", [b"0 200\n", b"0 200\n\n"])
@pytest.mark.parametrize("length", [0, 100])
def test_what_was_not_believed_never_comes_true(folder, journal, length):
    """A range that the file did not reach is not held later, when the file has grown past it."""
    (folder / f"{KEY}.data").write_bytes(bytes(length))
    (folder / f"{KEY}.ranges").write_bytes(journal)
    first, found = opened(folder)
    first.write([(150, [CONTENT[150:]])])
    first.close()
    second, held = opened(folder)
    second.close()

    assert () == found
    assert ((150, 200),) == held


def test_threads_share_one_journal(folder):
    """Two that write first at the same instant open it once."""
    before = open_files()
    spool, _ = opened(folder)
    journal = folder / f"{KEY}.ranges"
    os.mkfifo(journal)  # whoever opens it waits for a reader, so both threads stand there
    threads = [
        threading.Thread(target=spool.write, args=([(at, [CONTENT[at : at + 9]])],), daemon=True)
        for at in (0, 100)
    ]
    for thread in threads:
        thread.start()
    while not (spool.path.stat().st_size == 109 and all(map(is_waiting, threads))):
        os.sched_yield()
    with journal.open("rb", buffering=0) as reader:
        for thread in threads:
            thread.join()

        assert {b"0 9", b"100 109"} == set(reader.read(100).splitlines())
    spool.close()

    assert before == open_files()


def is_waiting(thread):
    """Whether the system lets a thread sleep (proc(5), "stat": the state follows the name)."""
    state = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
    return state.rpartition(") ")[2].startswith("S")


def test_a_torn_line_does_not_spoil_the_next(folder):
    """What is written after a torn journal was read is found again."""
    first, _ = opened(folder)
    first.write([(0, [CONTENT[:100]])])
    first.close()
    with (folder / f"{KEY}.ranges").open("ab") as journal:
        journal.write(b"110 1")
    second, _ = opened(folder)
    second.write([(150, [CONTENT[150:]])])
    second.close()
    third, held = opened(folder)
    third.close()

    assert ((0, 100), (150, 200)) == held


def test_nothing_is_noted_without_a_journal(folder):
    """Content that comes in one piece needs no journal."""
    spool, _ = opened(folder)
    spool.write([(0, [CONTENT])], journal=False)
    spool.close()

    assert [f"{KEY}.data"] == sorted(path.name for path in folder.iterdir())


def test_a_read_only_file_can_be_resumed(folder):
    """Killed between chmod and rename, a process leaves a file that the next one may write."""
    first, _ = opened(folder)
    first.write([(0, [CONTENT[:100]])])
    os.fchmod(first.fd, 0o444)
    first.close()
    second, held = opened(folder)
    second.close()

    assert ((0, 100),) == held
    assert 0o600 == stat.S_IMODE(second.path.stat().st_mode)


def test_what_lies_beyond_the_end_is_cut_off(folder):
    """An earlier process may have left a longer file; a shorter one is not stretched."""
    spool, _ = opened(folder)
    spool.write([(0, [CONTENT])])
    spool.truncate(300)
    spool.truncate(150)
    spool.close()

    assert CONTENT[:150] == spool.path.read_bytes()


def test_a_write_that_fits_in_part_is_disk_full(folder):
    """What the system takes only in part is tried on, and refused with a line that says why."""
    spool, _ = opened(folder)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150, limit[1]))
        with pytest.raises(DiskFull, match=r"\.data: File too large; free space"):
            spool.write([(0, [CONTENT[:50], CONTENT[50:]])])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    assert CONTENT[:150] == spool.path.read_bytes()

    spool.write([(0, [CONTENT])])
    assert Digest.of(CONTENT) == spool.digest(len(CONTENT), "sha256")
    spool.close()


def test_a_failed_write_takes_its_hash_back(folder):
    """After a failure half of what was given may come again, other than it was."""
    spool, _ = opened(folder)
    with pytest.raises(StoreUnusable):
        spool.write([(0, [b"wrong"]), (-2, [b"no such offset"])])
    spool.write([(0, [CONTENT])])

    assert Digest.of(CONTENT) == spool.digest(len(CONTENT), "sha256")
    spool.close()


def test_a_spool_is_discarded_twice(folder):
    """Both files go; already gone is a success."""
    spool, _ = opened(folder)
    spool.write([(0, [CONTENT])])
    spool.discard()
    spool.discard()
    spool.forget_journal()
    spool.close()
    spool.close()

    assert [] == list(folder.iterdir())


def test_a_spool_in_a_folder_that_is_gone(folder):
    """The path is in the line."""
    with pytest.raises(StoreUnusable, match=KEY):
        Spool(folder / "gone", KEY, "sha256").open()


def test_small_content_is_put_whole(files: Files):
    """Published at once; nothing else is left."""
    put_whole(files, b"abc", Digest.of(b"abc"))

    assert {Digest.of(b"abc")} == blobs(files.root)
    assert [] == arriving(files.root)


def test_small_content_that_cannot_be_put_leaves_nothing(files: Files):
    """A failure is the caller's to hear, and no file is left."""
    (files.root / "blobs" / "sha512").rmdir()
    with pytest.raises(StoreUnusable):
        put_whole(files, b"abc", Digest.of(b"abc", "sha512"))

    assert [] == arriving(files.root)


def test_the_journal_says_whose_the_bytes_are_and_of_how_many(folder):
    """What was said before the first range is found again, also by the process after the next."""
    first, _ = opened(folder)
    first.note_origin("a.test/x")
    first.note_size(1000)
    first.write([(0, [CONTENT[:100]])])
    first.close()
    second, _ = opened(folder)
    second.note_origin("b.test/y")
    second.write([(100, [CONTENT[100:150]])])
    second.close()
    with (folder / f"{KEY}.ranges").open("ab") as journal:
        journal.write(b"from c.te")  # torn
    third, held = opened(folder)
    third.close()

    assert ((0, 150),) == held
    assert (1000, {"a.test/x", "b.test/y"}) == (third.size, third.origins)


@pytest.mark.parametrize(
    ("journal", "size"),
    [(b"size 200\n", None), (b"size 50\n0 100\n", None), (b"size x\nfrom \xff\n0 10\n", None),
     (b"size 100\n0 100\n", 100)],
)  # fmt: skip
def test_the_journal_is_not_believed_against_the_ranges(folder, journal, size):
    """Where nothing is held nothing is known, and a size that is too small for it is none."""
    (folder / f"{KEY}.data").write_bytes(bytes(100))
    (folder / f"{KEY}.ranges").write_bytes(journal)
    spool, _ = opened(folder)
    spool.close()

    assert (size, set()) == (spool.size, spool.origins)


def test_what_could_not_be_said_is_said_with_the_next_range(folder):
    """A journal that could not be written loses no word."""
    spool, _ = opened(folder)
    spool.note_size(1000)
    spool.write([(0, [CONTENT[:10]])])
    spool.note_origin("a.test/x")
    journal, spool._journal_fd = spool._journal_fd, os.open(spool.path, os.O_RDONLY)
    with pytest.raises(StoreUnusable):
        spool.write([(10, [CONTENT[10:20]])])
    os.close(spool._journal_fd)
    spool._journal_fd = journal
    spool.write([(10, [CONTENT[10:20]])])
    spool.close()
    after, held = opened(folder)
    after.close()

    assert (((0, 20),), {"a.test/x"}) == (held, after.origins)
