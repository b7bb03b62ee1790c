"""What shared libraries say of themselves, true ones and lying ones."""

from __future__ import annotations

import os
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registryd.launch.elf import ElfWrong, Library, read_library
from tests.launch.libraries import a_library


def read(path: Path) -> Library:
    """The library in a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return read_library(descriptor)
    finally:
        os.close(descriptor)


def libc() -> Path:
    """The C library of this process."""
    mapped = Path("/proc/self/maps").read_text().split()
    return next(Path(each) for each in mapped if Path(each).name.startswith("libc.so"))


def test_real_library(tmp_path: Path) -> None:
    """Soname and needs are what the linker was told; without a soname it is empty."""
    one = a_library(tmp_path / "libone.so.1.2", "libone.so.1")
    two = a_library(tmp_path / "libtwo.so", needs=[one])

    assert ("libone.so.1", ()) == (read(one).soname, read(one).needed)
    assert ("", ("libone.so.1",)) == (read(two).soname, read(two).needed)
    assert read(one).abi == read(libc()).abi


def elf32(*, order: str = "<", count: int = 2, size: int = 48, strings: int = 19) -> bytes:
    """A library of 32 bits with one segment, whose names are at the end; or a lie."""
    names = b"\0libx.so.2\0liby.so\0"
    dynamic = [(14, 1), (1, 11), (5, 0x1000 + 52 + 64 + 48), (10, strings), (0, 0), (1, 99)]
    head = b"\x7fELF" + bytes([1, 1 if order == "<" else 2, 1]) + bytes(9)
    head += struct.pack(f"{order}HHIIIIIHHHHHH", 3, 40, 1, 0, 52, 0, 0, 52, 32, count, 0, 0, 0)
    load = struct.pack(f"{order}8I", 1, 0, 0x1000, 0, 4096, 4096, 5, 4096)
    place = struct.pack(f"{order}8I", 2, 52 + 64, 0x1000 + 116, 0, size, size, 6, 4)
    body = b"".join(struct.pack(f"{order}iI", *each) for each in dynamic)
    return head + load + place + body + names


@pytest.mark.parametrize("order", ["<", ">"])
def test_other_machines(tmp_path: Path, order: str) -> None:
    """Libraries of 32 bits and of the other byte order are read too."""
    (tmp_path / "x").write_bytes(elf32(order=order))

    assert Library(32, order, 40, "libx.so.2", ("liby.so",)) == read(tmp_path / "x")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "ends too early"),
        (b"#!/bin/sh\n" * 10, "is no ELF file"),
        (b"\x7fELF\x03" + bytes(60), "unknown word size"),
        (elf32(order="<").replace(b"libx.so.2", b"lib/../x."), "a name that no file can have"),
        (elf32(count=513), "program headers that make no sense"),
        (elf32(count=1), "has no dynamic section"),
        (elf32(size=1 << 17), "a dynamic section of 131072 bytes"),
        (elf32(strings=11), "a name outside its string table"),
        (elf32(order="<")[:-3], "a name that no file can have"),
        (elf32(order="<").replace(b"\x03\0\x28", b"\x02\0\x28"), "is no shared library"),
    ],
)
def test_lies(tmp_path: Path, raw: bytes, said: str) -> None:
    """A file that is none, or that makes no sense, is one ElfWrong."""
    (tmp_path / "x").write_bytes(raw)

    with pytest.raises(ElfWrong, match=said):
        read(tmp_path / "x")


@given(
    order=st.sampled_from("<>"),
    changes=st.lists(st.tuples(st.integers(0, 190), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 200),
)
@settings(max_examples=120, deadline=None)
def test_any_bytes(order: str, changes: list[tuple[int, int]], cut: int) -> None:
    """Whatever bytes are changed or missing, it is a library or one ElfWrong."""
    raw = bytearray(elf32(order=order))
    for at, value in changes:
        raw[at % len(raw)] = value
    with tempfile.TemporaryFile() as file:
        file.write(raw[: len(raw) - cut] if cut < 20 else raw)
        file.flush()

        with suppress(ElfWrong):
            assert "/" not in read_library(file.fileno()).soname
