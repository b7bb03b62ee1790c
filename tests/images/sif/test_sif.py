"""SIF: what we write, Debian's siftool reads; what it writes, we find the squashfs in."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cache.content import Digest
from registryd.images.sif.file import write_sif
from registryd.images.sif.layout import SifImage, prefix
from registryd.mounts.errors import NotMountable
from registryd.mounts.found import Found, find_squashfs
from tests.real.runtimes import need

DIGEST = Digest.parse(f"sha256:{'5' * 64}")
IMAGE = SifImage(DIGEST, b'{"os":"linux"}', "arm64", 1_600_000_000, "ghcr.io/org/app")
#: A superblock that says how many bytes there are, and any bytes.
SUPERBLOCK = struct.pack("<4s16xHHHHHHQQ", b"hsqs", 6, 17, 0, 1, 4, 0, 0, 9004)
SQUASHFS = SUPERBLOCK + os.urandom(9004 - len(SUPERBLOCK))
WHOLE = prefix(IMAGE, len(SQUASHFS)) + SQUASHFS


def said(*words: str) -> str:
    """What a program says."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("architecture", ["amd64", "arm64", "386", "riscv64"])
def test_siftool_reads_what_we_write(tmp_path: Path, architecture: str) -> None:
    """Header, list and contents; the squashfs is the same, on a border of 4096 bytes."""
    need("siftool")
    inner, path = tmp_path / "inner", tmp_path / "x.sif"
    inner.write_bytes(SQUASHFS)
    image = SifImage(DIGEST, b"{" + b" " * 9000 + b"}", architecture, 5, "ghcr.io/org/app")
    with inner.open("rb") as file:
        write_sif(path, image, file.fileno())
        write_sif(tmp_path / "again.sif", image, file.fileno())
    with path.open("rb") as file:
        found = find_squashfs(file.fileno(), "x.sif")
    dumped = [
        subprocess.run(["siftool", "dump", str(number), path], check=True, capture_output=True)
        for number in (1, 2, 3)
    ]
    listed = said("siftool", "list", str(path))

    assert path.read_bytes() == (tmp_path / "again.sif").read_bytes()
    assert [
        b"bootstrap: docker\nfrom: ghcr.io/org/app\n",
        image.config,
        SQUASHFS,
    ] == [each.stdout for each in dumped]
    assert f"FS (Squashfs/*System/{architecture})" in listed
    assert f"Primary Architecture: {architecture}" in said("siftool", "header", str(path))
    assert "1970-01-01 00:00:05" in said("siftool", "info", "3", str(path))
    assert Found(49152, len(SQUASHFS), "zstd") == found
    assert 0o700 == path.stat().st_mode & 0o700
    assert ["again.sif", "inner", "x.sif"] == sorted(os.listdir(tmp_path))


def test_siftool_writes_what_we_read(tmp_path: Path) -> None:
    """A SIF of another program, with other objects before and after, and one taken away."""
    need("siftool")
    (tmp_path / "fs").write_bytes(SQUASHFS)
    (tmp_path / "other").write_bytes(b"other" * 999)
    path = str(tmp_path / "x.sif")
    said("siftool", "new", path)
    said("siftool", "add", "--datatype", "1", path, str(tmp_path / "other"))
    words = ("--parttype", "2", "--partfs", "1", "--partarch", "2")
    said("siftool", "add", "--datatype", "4", *words, path, str(tmp_path / "other"))
    said("siftool", "del", "2", path)
    said("siftool", "add", "--datatype", "4", *words, path, str(tmp_path / "fs"))
    said("siftool", "add", "--datatype", "7", path, str(tmp_path / "other"))
    with open(path, "rb") as file:
        found = find_squashfs(file.fileno(), path)
        raw = os.pread(file.fileno(), found.size, found.offset)

    assert SQUASHFS == raw


@settings(max_examples=300, deadline=None)
@given(
    patches=st.lists(
        st.tuples(
            st.one_of(st.integers(0, 127), st.integers(4096, 4096 + 4 * 585)),
            st.one_of(
                st.binary(min_size=1, max_size=8),
                st.integers(-(2**63), 2**63 - 1).map(lambda n: struct.pack("<q", n)),
            ),
        ),
        max_size=6,
    ),
    cut=st.integers(0, len(WHOLE)),
)
@example(patches=[], cut=len(WHOLE))
def test_any_bytes_are_refused_or_inside(patches: list[tuple[int, bytes]], cut: int) -> None:
    """Whatever a file claims: what is given out lies in it, or it is refused in one line."""
    raw = bytearray(WHOLE[:cut])
    for at, patch in patches:
        raw[at : at + len(patch)] = patch
    file = os.memfd_create("any")
    try:
        os.write(file, raw)
        found = find_squashfs(file, "x")
        assert 0 <= found.offset <= found.offset + found.size <= len(raw)
    except NotMountable as refused:
        assert "\n" not in str(refused)
    finally:
        os.close(file)


def test_the_same_image_the_same_identifier() -> None:
    """Identifier and times are the image's own; another image has another one."""
    other = prefix(SifImage(Digest.parse(f"sha256:{'6' * 64}"), b"{}", "s390x"), 5)

    assert WHOLE[48:64] != other[48:64]
    assert b"11\0" == other[45:48]
    assert struct.pack("<qq", 0, 0) == other[64:80]


def test_a_kernel_that_does_not_copy(tmp_path: Path) -> None:
    """Between file systems the bytes are the same."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system here")
    inner = shared / f"registryd-test-{os.getpid()}"
    try:
        inner.write_bytes(SQUASHFS)
        with inner.open("rb") as file:
            write_sif(tmp_path / "x.sif", IMAGE, file.fileno())
    finally:
        inner.unlink()

    assert WHOLE == (tmp_path / "x.sif").read_bytes()


def test_apptainer_reads_it_where_it_is(tmp_path: Path) -> None:
    """apptainer lists what is in it."""
    apptainer = shutil.which("apptainer") or shutil.which("singularity")
    if apptainer is None:
        pytest.skip("apptainer is not on the PATH")
    (tmp_path / "x.sif").write_bytes(WHOLE)

    assert "Squashfs/*System/arm64" in said(apptainer, "sif", "list", str(tmp_path / "x.sif"))
