"""SIF: what we write, Debian's siftool reads; what we read is proven to be there."""

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
from registryd.images.errors import NotAnImage
from registryd.images.sif.file import read_config, read_sif, write_sif
from registryd.images.sif.layout import (
    DESCRIPTORS_LIMIT,
    Partition,
    SifImage,
    find_partition,
    is_sif,
    prefix,
)
from tests.real.runtimes import need

DIGEST = Digest.parse(f"sha256:{'5' * 64}")
IMAGE = SifImage(DIGEST, b'{"os":"linux"}', "arm64", 1_600_000_000, "ghcr.io/org/app")
SQUASHFS = b"hsqs" + os.urandom(9000)
WHOLE = prefix(IMAGE, len(SQUASHFS)) + SQUASHFS
#: Where the descriptor of the file system is, and in it the kind of its file system.
SYSTEM = 4096 + 2 * 585
KIND = SYSTEM + 585 - 384


def found(raw: bytes) -> Partition:
    """What is in a SIF with these bytes."""
    return find_partition(lambda at, count: raw[at : at + count], len(raw), "x.sif")


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
        partition = read_sif(file.fileno(), "x.sif")
        config = read_config(file.fileno(), partition, "x.sif")
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
    assert (config, architecture) == (image.config, partition.architecture)
    assert (0, 49152) == (partition.squashfs.offset % 4096, partition.squashfs.offset)
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
        partition = read_sif(file.fileno(), path)
        none = read_config(file.fileno(), partition, path)
        raw = os.pread(file.fileno(), partition.squashfs.size, partition.squashfs.offset)

    assert (SQUASHFS, "amd64", None) == (raw, partition.architecture, none)


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
    reads = []

    def read(at: int, count: int) -> bytes:
        reads.append(count)
        assert at >= 0
        return bytes(raw[at : at + count])

    try:
        partition = find_partition(read, len(raw), "x")
    except NotAnImage as refused:
        assert "\n" not in str(refused)
        return
    finally:
        assert max(reads) <= DESCRIPTORS_LIMIT * 585
    for stretch in (partition.squashfs, partition.config):
        if stretch is not None:
            assert 0 < stretch.offset < stretch.offset + stretch.size <= len(raw)


def patched(at: int, patch: bytes) -> bytes:
    """Our SIF with other bytes there."""
    return WHOLE[:at] + patch + WHOLE[at + len(patch) :]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "is no SIF"),
        (b"#!/bin/sh\n" * 99, "is no SIF"),
        (WHOLE[:100], "is no SIF"),
        (patched(42, b"02"), "a SIF of version '02'"),
        (patched(88, struct.pack("<q", DESCRIPTORS_LIMIT + 1)), "its table of contents is damaged"),
        (
            patched(88, struct.pack("<qqq", 5000, 4096, 1 << 30)) + bytes(3 << 20),
            "its table of contents is damaged",
        ),
        (patched(96, struct.pack("<q", 1 << 40)), "it is cut off"),
        (WHOLE[:-1], "it is cut off"),
        (patched(SYSTEM + 17, struct.pack("<q", -4096)), "it is cut off"),
        (patched(SYSTEM + 4, b"\0"), "holds no system to start"),
        (patched(KIND, struct.pack("<i", 5)), "an encrypted file system"),
        (patched(KIND, struct.pack("<i", 2)), "an ext3 file system"),
        (patched(4096, WHOLE[SYSTEM : SYSTEM + 585]), "holds two systems"),
    ],
)
def test_what_is_refused(raw: bytes, why: str) -> None:
    """In one line that says what it is."""
    with pytest.raises(NotAnImage, match=why):
        found(raw)


def test_what_calls_itself_a_sif() -> None:
    """Seen by its first bytes."""
    assert (True, False, False) == tuple(map(is_sif, (WHOLE, SQUASHFS, b"")))


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
