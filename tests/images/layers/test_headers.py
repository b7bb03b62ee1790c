"""The entries of a layer: what headers say, and what is refused."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.images.errors import NotAnImage
from registryd.images.layers import headers
from registryd.images.layers.allowance import Allowance
from registryd.images.layers.contents import each_file
from registryd.images.layers.headers import Entry, read_entries, way_of
from registryd.images.layers.plan import flatten
from registryd.images.layers.reading import Stretches
from registryd.images.layers.sparse import STRETCH_COST
from registryd.images.layers.stream import header
from registryd.images.tar_fields import number
from tests.images.layers.trees import IMAGE, Openers, layer, member, planned


def read(raw: bytes, allowance: Allowance | None = None) -> list[Entry]:
    """The entries of a layer."""
    return read_entries(io.BytesIO(raw), "layer 1", 0, allowance or Allowance())


def test_everything_that_headers_say() -> None:
    """Long names, large ids, times with fractions, attributes of any bytes and devices are kept."""
    long = "d/" + "n" * 200
    raw = layer(
        member(long, b"abc", uid=3_000_000_000, mode=0o4755, pax_headers={"mtime": "5.25"}),
        member(b"\xff\xfe", pax_headers={"SCHILY.xattr.user.k": "\udcff v"}),
        member("n", kind="c", major=300, minor=70_000),
        member("s", kind="l", link="/x/" + "y" * 120),
    )
    large, odd, node, link = read(raw)

    assert ((b"d", b"n" * 200), b"0", 0o4755, 3_000_000_000) == (
        *large[:3],
        large.uid,
    )
    assert (5_250_000_000, 3) == (large.mtime, large.size)
    assert ((b"\xff\xfe",), ((b"user.k", b"\xff v"),)) == (odd.way, odd.xattrs)
    assert (b"3", 300, 70_000) == (node.kind, node.major, node.minor)
    assert (b"2", b"/x/" + b"y" * 120) == (link.kind, link.link)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        (b"./a//b/.", (b"a", b"b")),
        (b"/a/b", (b"a", b"b")),
        (b"a/../b", (b"b",)),
        (b"foo..bar", (b"foo..bar",)),
        (b"./", ()),
        (b".git/x", (b".git", b"x")),
    ],
)
def test_ways(name: bytes, way: tuple[bytes, ...]) -> None:
    """A name is taken from the image's top; only whole parts ``..`` mean something."""
    assert way == way_of(name)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"name": "../x"}, "'../x' leads out of the image"),
        ({"name": "a/../../x"}, "leads out of the image"),
        ({"name": "n" * 256}, "part of a name has more than 255 bytes"),
        ({"name": "n/" * 300 + "x"}, "more than 256 folders"),
        ({"name": "l", "kind": "l", "link": ""}, "a link leads to no name"),
        (
            {"name": "x", "pax_headers": {"GNU.sparse.map": "5,1", "GNU.sparse.size": "9"}},
            "map of a sparse file is damaged",
        ),
        ({"name": "x", "pax_headers": {"uid": "5000000000"}}, "impossible uid"),
        ({"name": "x", "pax_headers": {"mtime": "soon"}}, "impossible mtime"),
        ({"name": "x", "pax_headers": {"SCHILY.xattr.user.k": "v" * 70_000}}, "larger than Linux"),
        ({"name": "x", "type": b"D"}, "entry of type 'D' is in no layer"),
    ],
)
def test_what_no_file_system_takes(made: dict[str, object], said: str) -> None:
    """It is refused in one line that names the layer."""
    name = str(made.pop("name"))
    with pytest.raises(NotAnImage, match=rf"^layer 1: .*{re.escape(said)}") as raised:
        read(layer(member("first"), member(name, **made)))

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("sizes", [(2 << 20,), (600_000, 600_000)])
@pytest.mark.parametrize("kind", [b"x", b"L", b"g"])
def test_headers_without_end(kind: bytes, sizes: tuple[int, ...]) -> None:
    """What headers say of one entry is bounded, in however many of them it is said."""
    raw = b""
    for size in sizes:
        said = b"%d k=%s\n" % (size, b"v" * (size - len(b"%d k=\n" % size)))
        block = bytearray(header(b"pax", Entry((), b"0", size=size)))
        block[156:157], block[148:156] = kind, b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        raw += bytes(block) + said + bytes(-size % 512)
    raw += layer(member("a"))
    with pytest.raises(NotAnImage, match="extended headers of an entry have more than 1048576"):
        read(raw)


def test_cut_off_and_damaged() -> None:
    """A layer that ends within an entry, or with another sum, is refused; its end mark may lack."""
    raw = layer(member("a", b"x" * 5000), form=tarfile.USTAR_FORMAT)
    spoilt = b"b" + raw[1:]
    for content, said in ((raw[:3000], "it is cut off"), (spoilt, "it is not a tar archive")):
        with pytest.raises(NotAnImage, match=said):
            read(content)

    assert [5000] == [entry.size for entry in read(raw[: 512 + 5120])]
    assert [] == read(b"")


@pytest.mark.parametrize("spent", ["entries", "names", "contents"])
def test_all_layers_share_the_limits(spent: str) -> None:
    """What is left of a limit is left for the next layer, and then nothing is."""
    raw = layer(member("abc", b"12345"))
    allowance = Allowance(**{spent: {"entries": 1, "names": 3, "contents": 5}[spent]})
    read(raw, allowance)

    with pytest.raises(NotAnImage, match=r"^layer 1: "):
        read(raw, allowance)


def test_attributes_are_counted() -> None:
    """Keys and values are part of what all names may have."""
    raw = layer(member("a", pax_headers={"SCHILY.xattr.user.k": "v" * 100}))
    read(raw, Allowance(names=1 + 106))

    with pytest.raises(NotAnImage, match="bytes of names"):
        read(raw, Allowance(names=106))


def test_maps_of_sparse_files_are_counted() -> None:
    """They are kept as names are, and are part of what all names may have."""
    pairs = ",".join(f"{number * 8192},1" for number in range(1000))
    holes = {"GNU.sparse.map": pairs, "GNU.sparse.size": str(1 << 23)}
    raw = layer(member("s", b"x" * 1000, pax_headers=holes))
    read(raw, Allowance(names=1 + 1000 * STRETCH_COST))

    with pytest.raises(NotAnImage, match="bytes of names"):
        read(raw, Allowance(names=1000 * STRETCH_COST))


@pytest.mark.parametrize(
    "flags", [("gnu",), ("pax", "0.0"), ("pax", "0.1"), ("pax", "1.0")], ids=lambda f: "-".join(f)
)
def test_sparse_files_of_gnu_tar(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """All four forms give the bytes that were packed, also with more holes than a header has."""
    with open(tmp_path / "holes", "wb") as file:
        for number in range(30):
            file.seek(number * 65_536)
            file.write(b"%4096d" % number)
        file.truncate(30 * 65_536 + 1000)
    version = [f"--sparse-version={flags[1]}"] if flags[1:] else []
    words = ["tar", "-c", "-S", f"--format={flags[0]}", *version, "-C", str(tmp_path), "holes"]
    raw = subprocess.run(words, check=True, capture_output=True).stdout
    files = each_file(planned(raw), Openers([raw]).all(), IMAGE)
    found = {named.path: b"".join(pieces) for named, pieces in files}

    assert len(raw) < 300_000
    assert {b"holes": (tmp_path / "holes").read_bytes()} == found


@given(st.data())
def test_any_bytes(data: st.DataObject) -> None:
    """Whatever bytes a layer has, reading gives entries or NotAnImage."""
    raw = bytearray(_SEED)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
        block = at - at % 512
        if data.draw(st.booleans()):  # so that the sum does not refuse it all
            total = sum(raw[block : block + 512]) - sum(raw[block + 148 : block + 156]) + 256
            raw[block + 148 : block + 156] = b"%06o\0 " % total
    try:
        found = read(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    except NotAnImage:
        return
    assert all(len(entry.way) <= headers.DEPTH_LIMIT for entry in found)


class Closely(headers._Scan):
    """A scan that looks at every header closely."""

    def _usual(self, block: bytes) -> Entry | None:
        return None


_NAMES = ["a/b", "a/b/c", "./a/c", "a//d", "e/", "../x", "/f", "a/..", "n" * 99, "n" * 256,
          "a/../g", "..", "x..y/z", "m" * 80 + "/" + "k" * 80]  # fmt: skip
_PAX = [
    {},
    {"mtime": "1.5"},
    {"path": "long/" + "p" * 90},
    {"SCHILY.xattr.user.k": "v", "atime": "2"},
    {"uid": "7"},
    {"comment": "x", "linkpath": "elsewhere"},
]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(_NAMES),
            st.sampled_from("fdlhp"),
            st.sampled_from(_PAX),
            st.integers(0, 1500),
            st.sampled_from(["", "to", "t" * 120]),
            st.integers(0, 1),
        ),
        max_size=6,
    ),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_usual_headers_mean_the_same(
    made: list[tuple[str, str, dict[str, str], int, str, int]], form: int
) -> None:
    """The short way through the headers that most entries have gives what the long way gives."""
    raw = layer(
        member("owned by 0"),
        member("owned by 1", uid=1),
        *(
            member(name, bytes(size if kind == "f" else 0), kind=kind, pax_headers=said, uid=uid,
                   link=link)
            for name, kind, said, size, link, uid in made
        ),
        form=form,
    )  # fmt: skip

    def outcome(scan: type[headers._Scan]) -> list[Entry] | str:
        try:
            return list(scan(Stretches(io.BytesIO(raw), "layer 1"), "layer 1", 0).entries())
        except NotAnImage as error:
            return str(error)

    assert outcome(Closely) == outcome(headers._Scan)


def test_names_one_below_the_other() -> None:
    """Each name has the folder that it says, whatever the one before it was."""
    names = ["x", "a/b", "a/b/c", "a/d", "a/b/c/e", "a"]
    found = [b"/".join(entry.way).decode() for entry in read(layer(*map(member, names)))]

    assert names == found


def test_times_that_gnu_tar_keeps() -> None:
    """Where others have the beginning of a long name it has two more times, which are no name."""
    raw = bytearray(layer(member("a"), member("b"), form=tarfile.GNU_FORMAT))
    for at in (0, 512):
        raw[at + 345 : at + 357] = b"14524770400\0"
        raw[at + 148 : at + 156] = b" " * 8
        raw[at + 148 : at + 156] = b"%06o\0 " % sum(raw[at : at + 512])

    assert [(b"a",), (b"b",)] == [entry.way for entry in read(bytes(raw))]


def test_many_entries() -> None:
    """20,000 are read and planned, with extended headers too; bench.flatten says how fast."""
    out = io.BytesIO()
    for count in range(20_000):
        entry = Entry((), b"0", mode=0o644, mtime=count * 10**9, uid=count % 7)
        if count % 4 == 0:
            entry = entry._replace(xattrs=((b"user.k", b"v"),))
        out.write(header(b"usr/lib/python3/dist-packages/%d/%d.py" % (count // 24, count), entry))
    out.write(bytes(1024))
    out.seek(0)
    plan = flatten([read_entries(out, "layer 1", 0, Allowance())], IMAGE)

    assert 20_000 == len(plan.others)
    assert 5_000 == sum(bool(named.entry.xattrs) for named in plan.others)


_SEED = layer(
    member("a/b", b"x", pax_headers={"SCHILY.xattr.user.k": "v", "mtime": "1.5"}),
    member("s", b"xy", pax_headers={"GNU.sparse.map": "4,2", "GNU.sparse.size": "9"}),
    member("n" * 120, kind="l", link=os.sep + "m" * 120),
    member("h", kind="h", link="a/b"),
)


@given(
    st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name),
    st.integers(0, 2**32 - 2),
    st.integers(0, 2**45),
    st.dictionaries(
        st.from_regex(rb"user\.[a-z]{1,90}", fullmatch=True), st.binary(max_size=120), max_size=2
    ),
)
def test_what_we_write_is_read_alike(
    path: bytes, uid: int, size: int, xattrs: dict[bytes, bytes]
) -> None:
    """A header of ours, with any name, owner, size and attributes, says what it was given."""
    name = path.replace(b"/", b"-").replace(b".", b"-")[: headers.PART_LIMIT]
    given = Entry((), b"2", uid=uid, link=path, xattrs=tuple(sorted(xattrs.items())))
    (link,) = read(header(name, given))
    (file,) = read(header(name, given._replace(kind=b"5", link=b"")))

    assert given._replace(way=(name,), mode=0o755) == link._replace(offset=0)
    assert (uid, given.xattrs) == (file.uid, file.xattrs)
    assert size == number(header(name, given._replace(kind=b"0", size=size, xattrs=()))[-388:-376])
