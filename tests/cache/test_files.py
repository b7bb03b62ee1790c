"""The directory beneath a store."""

import errno
import os
import resource
import stat

import pytest

from cache.content import Descriptor, Digest
from cache.errors import BlobNotFound, DiskFull, StoreLocked, StoreUnusable
from cache.files import Files, os_errors
from cache.layout import parse_index, parse_made, render_index
from tests.cache.samples import arriving, blobs

ABC = Digest.of(b"abc")


def publish(files, content=b"abc", digest=ABC, name="x.data"):
    """Publish content as a spool does."""
    source = files.ingest / name
    fd = os.open(source, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.write(fd, content)
        files.publish(fd, source, digest)
    finally:
        os.close(fd)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_disk_full(number):
    """No space, no quota, too large a file: DiskFull, which says what to do."""
    line = pytest.raises(DiskFull, match=r"^/some/where: .*; free space or give")
    with line as raised, os_errors("/some/where"):
        raise OSError(number, os.strerror(number))

    assert isinstance(raised.value.__cause__, OSError)


def test_any_other_failure_is_unusable():
    """Everything else names the place and the reason."""
    line = pytest.raises(StoreUnusable, match=r"^/some/where: Input/output error$")
    with line, os_errors("/some/where"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_new_root_is_an_empty_layout(files):
    """The folders, the version file and nothing else; for its owner only."""
    assert b'{"imageLayoutVersion":"1.0.0"}' == (files.root / "oci-layout").read_bytes()
    assert 0o700 == stat.S_IMODE(files.root.stat().st_mode)
    assert [] == arriving(files.root)


def test_the_lock_is_taken_once(files):
    """A second taker is told who holds the root, and can have it after the release."""
    second = Files(files.root)
    with pytest.raises(StoreLocked, match=f"in use by process {os.getpid()};"):
        second.prepare()
    files.release()
    second.prepare()
    second.release()
    second.release()


def test_a_root_that_cannot_be_made(tmp_path):
    """A file where the root should be is one clear line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match=r"cache root .*/file"):
        Files(tmp_path / "file").prepare()


def test_the_holder_is_who_holds_it_now(files):
    """Nothing of the number of an earlier holder stays in the line."""
    files.release()
    (files.root / "lock").write_text("99999999999999\n1\n")
    files.prepare()
    with pytest.raises(StoreLocked, match=f"in use by process {os.getpid()};"):
        Files(files.root).prepare()


def test_a_holder_that_cannot_sign_holds_nothing(root):
    """Where not even the lock file can be written, the lock can be had when there is room."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    files = Files(root)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limit[1]))
        with pytest.raises(DiskFull, match="cache root"):
            files.prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    files.release()
    second = Files(root)
    second.prepare()
    second.release()


def test_a_root_half_made_gives_its_lock_back(tmp_path):
    """Who cannot prepare a root does not keep others from it."""
    (tmp_path / "blobs").write_text("in the way")
    first, second = Files(tmp_path), Files(tmp_path)
    for files in (first, second):
        with pytest.raises(StoreUnusable, match="cache root"):
            files.prepare()
        files.release()


def test_a_file_is_replaced_in_one_step(files):
    """The old file, open by a reader, is untouched; nothing is left in ingest/."""
    files.replace("index.json", b"old")
    with (files.root / "index.json").open("rb") as reader:
        files.replace("index.json", b"new, and longer")

        assert b"old" == reader.read()
    assert b"new, and longer" == (files.root / "index.json").read_bytes()
    assert [] == arriving(files.root)


def test_a_file_that_cannot_be_replaced_leaves_nothing(files):
    """A failed replacement is one clear line, and its temporary file is gone."""
    (files.root / "index.json").mkdir()
    with pytest.raises(StoreUnusable, match=r"index\.json: Is a directory"):
        files.replace("index.json", b"new")

    assert [] == arriving(files.root)


def test_names_are_read_back(files):
    """The names of index.json, but for those that are known; none where there is no file."""
    assert b"" == files.read_index()

    entry = ("a/b:1", Descriptor("t", ABC, 3))
    made = (Digest.of(b"image"), entry[1])
    written = [(each, "t", str(ABC), 3) for each in (entry[0], str(made[0]))]
    files.replace("index.json", render_index(written[:1], written[1:]))
    content = files.read_index()

    assert ([entry], [made]) == (parse_index(content), parse_made(content))
    assert [] == parse_index(content, {"a/b:1"})


def test_names_that_cannot_be_read_are_unusable(files):
    """What cannot be read at all is said, not taken for empty."""
    (files.root / "index.json").mkdir()
    with pytest.raises(StoreUnusable, match=r"index\.json"):
        files.read_index()


def test_a_published_blob_is_read_only(files):
    """Complete, mode 0444, under its digest; the file in ingest/ is gone."""
    publish(files)

    path = files.root / "blobs" / "sha256" / ABC.hex
    assert b"abc" == path.read_bytes()
    assert 0o444 == stat.S_IMODE(path.stat().st_mode)
    assert [] == arriving(files.root)


def test_published_already_is_a_success(files):
    """What has just been proven takes the place of whatever is there; who reads that reads on."""
    path = files.root / "blobs" / "sha256" / ABC.hex
    path.write_bytes(b"bad")
    with path.open("rb") as reader:
        publish(files)

        assert (b"bad", b"abc") == (reader.read(), path.read_bytes())
    assert [] == arriving(files.root)


def test_what_cannot_be_published_is_said(files):
    """A folder that is gone is one clear line with the path of the blob."""
    (files.root / "blobs" / "sha256").rmdir()
    with pytest.raises(StoreUnusable, match=ABC.hex):
        publish(files)


def test_a_blob_is_opened_and_read(files):
    """Both ways give the bytes; what is not there is BlobNotFound."""
    publish(files)
    fd = files.open_blob(ABC)

    assert b"abc" == os.pread(fd, 10, 0)
    os.close(fd)
    assert b"abc" == files.read_blob(ABC)
    with pytest.raises(BlobNotFound, match="is not in the cache"):
        files.open_blob(Digest.of(b"other"))
    with pytest.raises(BlobNotFound):
        files.read_blob(Digest.of(b"other"))


def test_a_blob_that_cannot_be_opened_or_read(files):
    """A link that leads nowhere near a file is not "not found"."""
    (files.root / "blobs" / "sha256" / ABC.hex).symlink_to(ABC.hex)
    with pytest.raises(StoreUnusable, match="symbolic links"):
        files.open_blob(ABC)
    other = Digest.of(b"other")
    (files.root / "blobs" / "sha256" / other.hex).mkdir()
    with pytest.raises(StoreUnusable, match="directory"):
        files.read_blob(other)


def test_removed_already_is_a_success(files):
    """Readers that have a blob open read on; a second removal changes nothing."""
    publish(files)
    fd = files.open_blob(ABC)
    files.remove_blobs([ABC])
    files.remove_blobs([ABC])

    assert b"abc" == os.pread(fd, 10, 0)
    os.close(fd)
    assert set() == blobs(files.root)


def test_what_cannot_be_removed_is_said(files):
    """A folder in the place of a blob is one clear line; the other blobs go all the same."""
    other = Digest.of(b"other")
    publish(files, b"other", other)
    (files.root / "blobs" / "sha256" / ABC.hex).mkdir()
    with pytest.raises(StoreUnusable, match=ABC.hex):
        files.remove_blobs([ABC, other])

    assert {ABC} == blobs(files.root)


def test_a_scan_finds_blobs_and_nothing_else(files):
    """Strange names, folders and links are no blobs, whatever they are called."""
    publish(files)
    folder = files.root / "blobs" / "sha256"
    (folder / "README").write_text("")
    (folder / Digest.of(b"folder").hex).mkdir()
    (folder / Digest.of(b"link").hex).symlink_to(ABC.hex)

    assert {ABC: 3} == files.sized(files.listed())


def test_a_scan_that_fails_is_said(files):
    """A folder that is gone makes the root unusable."""
    (files.root / "blobs" / "sha512").rmdir()
    with pytest.raises(StoreUnusable, match="cache root"):
        files.listed()


def test_a_sweep_keeps_only_what_can_be_resumed(files):
    """Pairs of a digest that is not here yet stay; all else goes, folders excepted."""
    publish(files)
    keys = {
        "kept": f"sha256-{Digest.of(b'kept').hex}",
        "here": f"sha256-{ABC.hex}",
        "data": f"sha256-{Digest.of(b'data').hex}",
        "ranges": f"sha256-{Digest.of(b'ranges').hex}",
    }
    pair = [f"{keys['kept']}.data", f"{keys['kept']}.ranges"]
    strays = [
        f"{keys['here']}.data",
        f"{keys['here']}.ranges",
        f"{keys['data']}.data",
        f"{keys['ranges']}.ranges",
        "upload-00.data",
        "upload-00.ranges",
        "put-00.data",
        "index.json.new",
        f"{keys['kept']}.other",
    ]
    for name in (*pair, *strays):
        (files.ingest / name).write_text("x")
    (files.ingest / "folder").mkdir()
    files.sweep()

    assert ["folder", *pair] == arriving(files.root)


def test_a_sweep_that_fails_is_said(files):
    """A folder that is gone is one clear line."""
    files.ingest.rmdir()
    with pytest.raises(StoreUnusable, match="ingest"):
        files.sweep()


def test_usage_counts_what_is_on_disk(files):
    """Arriving bytes by blocks on disk, and what is free; a link to nothing counts nothing."""
    (files.ingest / "x").write_bytes(b"x" * 10_000)
    (files.ingest / "gone").symlink_to("nowhere")

    assert 10_000 <= files.usage()["ingest"] <= 100_000
    assert 0 < files.usage()["free"]
    assert 0 == files.usage()["quarantine"]
