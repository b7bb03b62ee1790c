"""Where a squashfs is in a file, and what is said of files that have none."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.mounts.errors import NotMountable
from registryd.mounts.found import COMPRESSORS, Found, find_squashfs, superblock

SUPERBLOCK = struct.Struct("<4sIIIIHHHHHHQQ")
PREFIX = 40960


def block(compressor: int = 6, version: int = 4, used: int = 4000) -> bytes:
    """The beginning of a squashfs."""
    return SUPERBLOCK.pack(b"hsqs", 3, 0, 131072, 0, compressor, 17, 0, 1, version, 0, 0, used)


def sif(purpose: int = 2, system: int = 1, kind: int = 0x4004, count: int = 1) -> bytes:
    """A SIF with a definition file and one partition, which is at ``PREFIX``."""
    head = struct.pack(
        "<32s10s3s3s16s8q",
        *(b"#!/usr/bin/env run-singularity\n", b"SIF_MAGIC\0", b"01\0", b"02\0", b""),
        *(0, 0, 46, count + 1, 4096, 48 * 585, 32176, 8096),
    )
    extra = struct.pack("<ii3s", system, purpose, b"02\0")
    entries = [
        struct.pack("<iBIIIqqqqqqq128s384s", *each, *[0] * 4, b"", extra)
        for each in ((0x4001, 1, 1, 0, 0, 32768, 10, 10), (kind, 1, 2, 0, 0, PREFIX, 4096, 4096))
    ]
    return (head.ljust(4096, b"\0") + b"".join(entries)).ljust(PREFIX, b"\0")


def found_in(folder: Path, content: bytes) -> Found:
    """What is found in a file with this content."""
    path = folder / "x.img"
    path.write_bytes(content)
    file = os.open(path, os.O_RDONLY)
    try:
        return find_squashfs(file, "x.img")
    finally:
        os.close(file)


def test_squashfs_and_sif(tmp_path: Path) -> None:
    """It begins where the file does, or where the system's partition of a SIF does."""
    body = block().ljust(4096, b"\0")

    assert Found(0, 4000, "zstd") == found_in(tmp_path, body)
    assert Found(PREFIX, 4000, "zstd") == found_in(tmp_path, sif() + body)


BODY = block().ljust(4096, b"\0")
WRONG = [
    (b"", "x.img is no squashfs (convert"),
    (b"hsqs", "x.img is no squashfs (convert"),
    (b"\x7fELF" + bytes(5000), "x.img is no squashfs (convert"),
    (block(version=3) + bytes(4096), "x.img is squashfs 3.0 (4.0 can be mounted)"),
    (block(compressor=9) + bytes(4096), "compressed in a way that nobody knows (9)"),
    (BODY[:3999], "x.img is cut off: its squashfs has 4000 bytes, and the file 3999"),
    (sif()[:100], "x.img is cut off: a SIF has a header of 128 bytes"),
    (sif(count=1 << 40) + BODY, "x.img is a SIF with a broken header"),
    (sif(system=2) + BODY, "x.img is a SIF whose system partition is no squashfs"),
    (sif(purpose=3) + BODY, "x.img is a SIF without a system partition"),
    (sif(kind=0x4005) + BODY, "x.img is a SIF without a system partition"),
    (sif()[:4300] + BODY, "x.img is a SIF without a system partition"),
    (sif() + BODY[:100], "x.img is cut off: its squashfs has 4000 bytes, and the file 100"),
]


@pytest.mark.parametrize(("content", "said"), WRONG)
def test_what_is_no_squashfs_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    """A file that cannot be mounted is refused before anything is tried, in one line."""
    with pytest.raises(NotMountable) as refused:
        found_in(tmp_path, content)

    assert said in str(refused.value)


@given(st.binary(max_size=9000), st.booleans())
def test_any_bytes_are_found_or_refused(content: bytes, as_sif: bool) -> None:
    """Whatever a file holds: what is found is in it as a whole, or it is refused."""
    file = os.memfd_create("any")
    try:
        os.write(file, sif()[:200] + content if as_sif else content)
        found = find_squashfs(file, "any")
        assert found.offset + found.size <= os.fstat(file).st_size
    except NotMountable as refused:
        assert "\n" not in str(refused)
    finally:
        os.close(file)


@given(st.binary(min_size=96, max_size=96), st.integers(0, 1 << 20), st.integers(0, 1 << 40))
def test_any_superblock_is_whole_or_refused(head: bytes, offset: int, total: int) -> None:
    """A superblock is believed when the file is long enough for it."""
    try:
        found = superblock(b"hsqs" + head[4:28] + b"\4\0\0\0" + head[32:], offset, total, "x")
    except NotMountable:
        return

    assert found.compressor in COMPRESSORS.values()
    assert found.offset + found.size <= total
