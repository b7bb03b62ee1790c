"""The scan of a tar's headers: what it finds, what it refuses, and that nothing else can happen."""

from __future__ import annotations

import contextlib
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registryd.images.errors import NotAnImage
from registryd.images.tar_scan import Member, resolve, scan
from tests.images.archives import Saved, entry, files, saved, tar


def scanned(raw: bytes) -> dict[str, Member]:
    """The members of these bytes."""
    return scan(lambda offset, count: raw[offset : offset + count], len(raw), "x.tar")


def contents(raw: bytes) -> dict[str, bytes]:
    """Each name with what it means, through links."""
    members = scanned(raw)
    found = {name: resolve(members, name, "x.tar") for name in members}
    return {name: raw[m.offset : m.offset + m.size] for name, m in found.items() if m}


LONG = "blobs/sha512/" + "a" * 128
NESTED = "/".join(["folder"] * 30) + "/file"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_every_form(form: int) -> None:
    """Long names, ``./`` in front, and contents of any length, as three kinds of tar have them."""
    long = LONG if form != tarfile.USTAR_FORMAT else NESTED
    made = {"./plain": b"x" * 512, "a/b": b"", long: b"y" * 513, "umlaut-ä": b"z"}
    expected = {name.removeprefix("./"): raw for name, raw in made.items()}

    assert expected == contents(files(made, form=form))


def test_links_inside_the_archive() -> None:
    """Symbolic links count from their folder, hard links from the top; the last of a name wins."""
    raw = tar(
        (entry("one/layer.tar", b"first"), b"first"),
        (entry("two/", kind=tarfile.DIRTYPE), b""),
        (entry("two/layer.tar", link="../one/layer.tar"), b""),
        (entry("three", link="./one/layer.tar", kind=tarfile.LNKTYPE), b""),
        (entry("four", link="three"), b""),
        (entry("nowhere", link="missing"), b""),
        (entry("one/layer.tar", b"last"), b"last"),
    )

    assert dict.fromkeys(("one/layer.tar", "two/layer.tar", "three", "four"), b"last") == (
        contents(raw)
    )


def test_large_numbers_and_a_missing_end() -> None:
    """GNU's base 256, and archives whose writer left out the zeros at the end."""
    made = tarfile.TarInfo("a")
    made.size = 3
    header = bytearray(made.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\x80" + (3).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()

    assert {"a": b"abc"} == contents(bytes(header) + b"abc".ljust(512, b"\0"))


def raw_header(**spoilt: bytes) -> bytes:
    """A header with some fields as they should not be, and a sum that is right."""
    made = tarfile.TarInfo("name")
    header = bytearray(made.tobuf(tarfile.USTAR_FORMAT))
    places = {"size": (124, 136), "kind": (156, 157), "name": (0, 100)}
    for field, value in spoilt.items():
        start, stop = places[field]
        header[start:stop] = value.ljust(stop - start, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


PAX_SPARSE = tarfile.TarInfo("s")
PAX_SPARSE.pax_headers = {"GNU.sparse.major": "1"}
PAX_SIZE = tarfile.TarInfo("s")
PAX_SIZE.pax_headers = {"size": "-1"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", None),
        (b"short", "is not a tar"),
        (b"no tar at all".ljust(2000, b"."), "is not a tar"),
        (files({"a": b"x"})[:512], "cut off"),
        (files({"a": b"x" * 600})[:1100], "cut off"),
        (files({"a": b""})[:512] + b"\1" * 512, "is damaged"),
        (raw_header(size=b"\xff" * 12), "impossible size"),
        (raw_header(size=b"\x80" + b"\x7f" * 11), "impossible size"),
        (raw_header(size=b"99999999999"), "impossible size"),
        (raw_header(size=b"77777777777"), "cut off"),
        (raw_header(kind=b"3"), "type '3'"),
        (raw_header(kind=b"S"), "type 'S'"),
        (raw_header(name=b"/etc/passwd"), "not a name inside"),
        (raw_header(name=b"a/../../b"), "leads out"),
        (raw_header(name=b"a/../b"), "leads out"),
        (raw_header(name=b"\xff\xfe"), "not UTF-8"),
        (raw_header(kind=b"x", size=b"77777777"), "extended header has more"),
        (raw_header(kind=b"x", size=b"5") + b"99 a=".ljust(512, b"\0"), "header is damaged"),
        (raw_header(kind=b"x"), None),
        (tar((PAX_SPARSE, b""), form=tarfile.PAX_FORMAT), "is sparse"),
        (tar((PAX_SIZE, b""), form=tarfile.PAX_FORMAT), "impossible size"),
        (files({"n" * 1100: b""}), "more than 1024 bytes"),
        (tar((entry("a/l", link="../../etc/passwd"), b"")), "leads out"),
        (tar((entry("l", link="/etc/passwd"), b"")), "not a name inside"),
        (tar((entry("l", link="../x", kind=tarfile.LNKTYPE), b"")), "leads out"),
        (tar((entry("l", link="."), b"")), "leads to no file"),
        (tar((entry("dev", kind=tarfile.CHRTYPE), b"")), "type '3'"),
    ],
)
def test_what_is_refused(raw: bytes, message: str | None) -> None:
    """One line that says what is wrong, and where."""
    if message is None:
        assert {} == scanned(raw)
        return
    with pytest.raises(NotAnImage, match=message):
        scanned(raw)


def test_links_in_a_loop() -> None:
    """Links that lead to one another end."""
    members = scanned(tar((entry("a", link="b"), b""), (entry("b", link="a"), b"")))
    with pytest.raises(NotAnImage, match="lead on and on"):
        resolve(members, "a", "x.tar")


@pytest.mark.parametrize("kind", [b"0", b"g"])
def test_a_million_entries_end_early(kind: bytes) -> None:
    """However many entries there are, the scan ends at its limit."""
    header = raw_header(kind=kind)
    read = 0

    def read_at(offset: int, count: int) -> bytes:
        nonlocal read
        read += 1
        return header[:count]

    with pytest.raises(NotAnImage, match=r"more than 50000 entries|no members"):
        scan(read_at, 512 * 1_000_000, "x.tar")

    assert 50_000 < read <= 100_002


SEEDS = [
    saved(Saved()),
    files({LONG: b"x", "a": b"y" * 600}, form=tarfile.PAX_FORMAT),
    files({LONG: b"x", "a": b"y" * 600}),
    tar((entry("a/l", link="../b"), b""), (entry("b", b"x"), b"x")),
]


@settings(deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    spots=st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=12)), max_size=4),
    cut=st.none() | st.integers(0, 20_000),
    fix=st.booleans(),
)
def test_any_archive_is_scanned_or_refused(
    seed: bytes, spots: list[tuple[int, bytes]], cut: int | None, fix: bool
) -> None:
    """Whatever was done to an archive: members that lie inside it, or one error of ours."""
    raw = bytearray(seed)
    for at, value in spots:
        raw[at : at + len(value)] = value
    if fix:  # with sums that are right again, so that the fields are reached
        for at in range(0, len(raw) - 511, 512):
            if raw[at + 257 : at + 262] == b"ustar":
                raw[at + 148 : at + 156] = b" " * 8
                raw[at + 148 : at + 156] = f"{sum(raw[at : at + 512]):06o}\0 ".encode()
    whole = bytes(raw[:cut])
    with contextlib.suppress(NotAnImage):
        for name, member in scanned(whole).items():
            assert ".." not in name.split("/") and not name.startswith("/")
            assert 0 <= member.offset <= member.offset + member.size <= len(whole)


@given(st.binary(max_size=2000))
def test_any_bytes_are_refused_in_one_line(raw: bytes) -> None:
    """What is no tar at all is NotAnImage."""
    with contextlib.suppress(NotAnImage):
        assert scanned(raw) is not None
