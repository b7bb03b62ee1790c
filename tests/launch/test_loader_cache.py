"""The cache of the dynamic loader, as ldconfig writes it and as nobody would."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registryd.launch.loader_cache import CacheEntry, LoaderCacheWrong, read_loader_cache
from tests.launch.libraries import a_library

LDCONFIG = "/sbin/ldconfig"


@pytest.mark.parametrize("form", ["new", "compat", "old"])
def test_forms_of_ldconfig(tmp_path: Path, form: str) -> None:
    """Each of ldconfig's three forms gives the libraries that ldconfig says are in it."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.conf").write_text("/opt/x\n")
    for name in ("liba.so.1", "libb.so.22"):
        a_library(tmp_path / f"opt/x/{name}.3", name)
    subprocess.run([LDCONFIG, "-r", tmp_path, "-c", form], check=True)

    found = read_loader_cache((tmp_path / "etc/ld.so.cache").read_bytes())

    assert {
        CacheEntry("liba.so.1", "/opt/x/liba.so.1"),
        CacheEntry("libb.so.22", "/opt/x/libb.so.22"),
    } == set(found)


def new_cache(order: str = "little") -> bytes:
    """A cache of two libraries, the second none of ELF."""
    names = b"libx.so.1\0/lib/libx.so.1\0"
    begin = 48 + 2 * 24

    def number(value: int) -> bytes:
        return value.to_bytes(4, order)  # type: ignore[arg-type]

    entries = b"".join(
        number(flags) + number(begin) + number(begin + 10) + bytes(12) for flags in (0x303, 0)
    )
    return b"glibc-ld.so.cache1.1" + number(2) + number(len(names)) + bytes(20) + entries + names


@pytest.mark.parametrize("order", ["little", "big"])
def test_both_byte_orders(order: str) -> None:
    """A cache of the other byte order is read; what is no ELF library is left out."""
    assert (CacheEntry("libx.so.1", "/lib/libx.so.1"),) == read_loader_cache(new_cache(order))


def test_new_behind_old() -> None:
    """Where a new cache stands behind an old one, it is the new that counts."""
    old = b"ld.so-1.7.0\0" + (2).to_bytes(4, "little") + bytes(24)

    assert read_loader_cache(new_cache()) == read_loader_cache(old + new_cache())


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is no cache"),
        (b"ELF" * 40, "is no cache"),
        (b"glibc-ld.so.cache1.1", "cut off"),
        (new_cache()[:90], "cut off"),
        (b"ld.so-1.7.0\0" + b"\xff" * 4, "cut off"),
        (new_cache()[:-1], "does not end"),
        (bytes((16 << 20) + 1), "are allowed"),
    ],
)
def test_lies(raw: bytes, said: str) -> None:
    """What is no cache, or was cut off, is one LoaderCacheWrong."""
    with pytest.raises(LoaderCacheWrong, match=said):
        read_loader_cache(raw)


@given(
    head=st.sampled_from([b"", b"ld.so-1.7.0\0", b"glibc-ld.so.cache1.1", new_cache()[:60]]),
    tail=st.binary(max_size=200),
)
@settings(max_examples=120, deadline=None)
def test_any_bytes(head: bytes, tail: bytes) -> None:
    """Whatever the bytes are, it is absolute paths and plain names, or one LoaderCacheWrong."""
    with suppress(LoaderCacheWrong):
        for entry in read_loader_cache(head + tail):
            assert entry.path.startswith("/")
            assert entry.soname and "/" not in entry.soname
