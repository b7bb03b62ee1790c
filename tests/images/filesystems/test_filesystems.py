"""ext4 and EROFS by our own hand: their tools find nothing wrong, and the kernel reads the plan.

What is read back is compared row by row with the tar that a squashfs is made of.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registryd.images.errors import NotAnImage, NotMade
from registryd.images.filesystems.erofs import make_erofs
from registryd.images.filesystems.ext4 import make_ext4
from registryd.images.filesystems.ext4_records import (
    EXTENT_LIMIT,
    PER_BLOCK,
    Attributes,
    Extent,
    Inode,
    extent_tree,
    inode,
    shape,
    tree_blocks,
)
from registryd.images.layers.headers import FILE, FOLDER, Entry
from registryd.images.layers.plan import Named, Plan
from registryd.images.layers.stream import write_tar
from tests.images.layers.trees import IMAGE, Openers, Tree, layer, member, planned, tarred
from tests.real.dockerd import needs_root
from tests.real.runtimes import need

FORMS = ("ext4", "erofs")
MAKE: dict[str, Callable[..., None]] = {"ext4": make_ext4, "erofs": make_erofs}
CHECK = {"ext4": ("e2fsck", "-fn"), "erofs": ("fsck.erofs",)}
WHEN = 1_700_000_000


def xattr(key: str, value: str) -> dict[str, object]:
    """An attribute of a member."""
    return {"pax_headers": {f"SCHILY.xattr.{key}": value}}


def holes(*stretches: int, size: int) -> dict[str, object]:
    """A sparse member: offsets and lengths of what it holds."""
    listed = ",".join(map(str, stretches))
    return {"pax_headers": {"GNU.sparse.map": listed, "GNU.sparse.size": str(size)}}


#: Every second block of so many: more stretches than an inode, and than one block, leads to.
MANY = [part for each in range(1500) for part in (each * 8192, 100)]
ODD = layer(
    member("etc", kind="d", mode=0o2750, uid=70_000, gid=3_000_000_000),
    member("etc/shared", b"shared" * 900, mode=0o4755),
    member("etc/other", kind="h", link="etc/shared"),
    member("also", kind="h", link="etc/shared"),
    member("null", kind="c", major=1, minor=3),
    member("sda", kind="b", major=8, minor=300),
    member("far", kind="c", major=300, minor=70_000),
    member("pipe", kind="p", mode=0o600),
    member("empty"),
    member("short", kind="l", link="x" * 59),
    member("long", kind="l", link="y/" * 1000),
    member("border", kind="l", link="z" * 60),
    member("n" * 255, b"name"),
    member(b"odd\xff\n", b"odd"),
    member("exactly", b"e" * 4096),
    member("less", b"e" * 4095),
    member("rest", b"e" * 6144),
    member("large rest", b"e" * 6145),
    *(member(f"many/{number:04}{'x' * (number % 200)}") for number in range(700)),
    *(member(f"many/{number}", kind="d") for number in range(9)),
    member("!before the dots", b"x"),
    member("few", b"few", **xattr("user.k", "\udcff v")),
    member("cap", b"cap", **xattr("security.capability", "\x01\0\0\2\1" + "\0" * 15)),
    member("more", b"more", pax_headers={f"SCHILY.xattr.user.{k}": "v" * 200 for k in "cba"}),
    member("theirs", b"theirs", **xattr("security.selinux", "no")),
    member("sparse", b"begin" + b"end!" * 2000, **holes(3, 5, 9_000_000, 8000, size=12_345_678)),
    member("hole", **holes(size=1 << 24)),
    member("comb", b"c" * 150_000, **holes(*MANY, size=20_000_000)),
    member("huge", b"x", **holes(1 << 33, 1, size=(1 << 33) + 1)),
    member("deep/" * 30 + "end", b"deep"),
    member("old", b"old", pax_headers={"mtime": "-5.5"}),
    member("new", b"new", pax_headers={"mtime": "4000000000.123456789"}),
)


def made(form: str, path: Path, plan: Plan, *layers: bytes) -> Path:
    """A file system of a plan, in which its own tool finds nothing wrong."""
    path.touch()
    MAKE[form](plan, Openers(layers).all(), IMAGE, path)
    words = [need(CHECK[form][0]), *CHECK[form][1:], str(path)]
    checked = subprocess.run(words, capture_output=True, text=True, check=False)
    assert 0 == checked.returncode, checked
    return path


def expected(plan: Plan, *layers: bytes) -> Tree:
    """What the plan says, by way of a tar."""
    out = io.BytesIO()
    write_tar(plan, Openers(layers).all(), IMAGE, out)
    return tarred(out.getvalue())


def mounted(form: str, path: Path, top: Path, *left_out: str) -> Tree:
    """What the kernel reads, by way of a tar."""
    pack = "tar --format=pax --xattrs --xattrs-include=* --numeric-owner --sort=name"
    pack += " '--transform=flags=rh;s,^[.]/,,'"
    pack += "".join(f" --exclude=./{name}" for name in left_out)
    return tarred(inside(form, path, top, f"{pack} -C . -c ."))


def inside(form: str, path: Path, top: Path, script: str) -> bytes:
    """What a script says in the file system, which the kernel mounts for it."""
    top.mkdir()
    mount = f'mount -t {form} -o loop,ro "$0" "$1" && cd "$1" && set -f && '
    leave = ' && cd / && umount "$1"'
    words = ["unshare", "--mount", "sh", "-ec", mount + script + leave, str(path), str(top)]
    done = subprocess.run(words, capture_output=True, check=False)
    assert 0 == done.returncode, done.stderr
    return done.stdout


@needs_root
@pytest.mark.parametrize("form", FORMS)
def test_the_kernel_reads_the_plan(tmp_path: Path, form: str) -> None:
    """Owners, modes, times, links, devices, names, attributes, holes: as they were planned."""
    plan = planned(ODD)
    path = made(form, tmp_path / "x", plan, ODD)
    read = mounted(form, path, tmp_path / "top", "huge")
    wanted = expected_without(plan, b"huge")
    old = read["old"].mtime

    assert wanted.keys() == read.keys()
    assert {name: item._replace(mtime=0) for name, item in wanted.items()} == {
        name: item._replace(mtime=0) for name, item in read.items()
    }
    assert {name: item.mtime for name, item in wanted.items() if name != "old"} == {
        name: item.mtime for name, item in read.items() if name != "old"
    }
    assert {"ext4": -5, "erofs": 0}[form] == old
    assert path.stat().st_blocks * 512 < 40 << 20


def expected_without(plan: Plan, name: bytes) -> Tree:
    """What the plan says of everything else."""
    files = tuple(tuple(each for each in part if each.path != name) for part in plan.files)
    return expected(Plan(plan.folders, plan.others, files, plan.links, plan.extras), ODD)


@needs_root
@pytest.mark.parametrize("form", FORMS)
def test_many_files_and_large_ones(tmp_path: Path, form: str) -> None:
    """Several groups of blocks and of inodes, and a file that reaches over them."""
    when = WHEN * 10**9
    folders = [Named(b"", Entry((), FOLDER, mtime=when)), Named(b"d", Entry((), FOLDER))]
    others = [Named(b"d/%d" % each, Entry((), FILE, mtime=when)) for each in range(35_000)]
    large = os.urandom(1 << 20) * 140
    entry = Entry((), FILE, size=len(large), mtime=when)
    extras = ((Named(b"large", entry), large), (Named(b"small", entry._replace(size=5)), b"small"))
    plan = Plan(tuple(folders), tuple(others), (), (), extras)
    path = made(form, tmp_path / "x", plan)

    said = inside(form, path, tmp_path / "top", "sha256sum large && ls -1 -U d | sort -u | wc -l")

    assert f"{hashlib.sha256(large).hexdigest()}  large\n35000\n" == said.decode()


names = st.text("abé", min_size=1, max_size=3)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
contents = st.one_of(
    st.just(b""), st.integers(1, 9000).map(lambda size: bytes(range(256)) * (size // 256 + 1))
)
members = st.builds(
    lambda path, kind, content, link, mode, owner: member(
        path, content if kind == "f" else b"", kind=kind, link=link, mode=mode, uid=owner
    ),
    paths,
    st.sampled_from("ffdlpc"),
    contents,
    paths,
    st.integers(0, 0o7777),
    st.sampled_from((0, 1, 65_536, 2**32 - 2)),
)


@pytest.mark.parametrize("form", FORMS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(entries=st.lists(members, max_size=15))
def test_any_image_is_sound(
    tmp_path_factory: pytest.TempPathFactory, form: str, entries: list[object]
) -> None:
    """Whatever is in it, its own tool finds nothing wrong; the same image gives the same bytes."""
    folder = tmp_path_factory.mktemp("any")
    raw = layer(*entries)  # type: ignore[arg-type]
    try:
        plan = planned(raw)
    except NotAnImage:
        return
    first, second = (made(form, folder / name, plan, raw).read_bytes() for name in "ab")

    assert first == second


@pytest.mark.parametrize("count", [0, 1, 4, 5, PER_BLOCK, 4 * PER_BLOCK + 1, 4 * PER_BLOCK**2 + 1])
def test_extents_are_led_to(count: int) -> None:
    """However many there are, each is in the tree once, in order, and the blocks were counted."""
    extents = [Extent(2 * each, 1, 10**10 + each) for each in range(count)]
    root, blocks = extent_tree(extents, 7)

    def led(node: bytes) -> list[int]:
        entries, room, depth = (int.from_bytes(node[at : at + 2], "little") for at in (2, 4, 6))
        assert entries <= room <= PER_BLOCK
        rows = [node[12 * at : 12 * at + 12] for at in range(1, entries + 1)]
        if not depth:
            return [int.from_bytes(row[:4], "little") for row in rows]
        places = [int.from_bytes(row[4:8], "little") - 7 for row in rows]
        inner = [led(blocks[place * 4096 : place * 4096 + 4096]) for place in places]
        assert [each[0] for each in inner] == [int.from_bytes(row[:4], "little") for row in rows]
        return [number for each in inner for number in each]

    assert (60, 4096 * tree_blocks(count)) == (len(root), len(blocks))
    assert [each.first for each in extents] == led(root)


@pytest.mark.parametrize(
    ("inodes", "blocks", "groups"),
    [(11, 1, 1), (11, 32_768, 2), (100_000, 1, 4), (32_768, 30_716, 1), (32_768, 30_717, 2)],
)
def test_how_many_groups(inodes: int, blocks: int, groups: int) -> None:
    """As many as blocks and inodes need, and no more."""
    found = shape(inodes, blocks)

    assert groups == found.groups
    assert found.first + blocks == found.used <= found.blocks <= groups * 32_768
    assert found.groups * found.per_group >= inodes
    assert found.per_group <= 32_768
    assert found.blocks > (groups - 1) * 32_768
    assert EXTENT_LIMIT == 32_768


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("entry", "links", "why"),
    [
        (Entry((), FILE, xattrs=((b"user.k", bytes(70_000)),)), 0, "attribute"),
        (Entry((), FILE, size=(1 << 44) + 1), 0, "16 TiB"),
    ],
    ids=["attributes", "size"],
)
def test_what_it_cannot_hold(tmp_path: Path, form: str, entry: Entry, links: int, why: str) -> None:
    """It is refused in one line, before anything is written."""
    path = tmp_path / "x"
    path.touch()
    plan = Plan((Named(b"", Entry((), FOLDER)),), (), ((Named(b"f", entry),),))
    with pytest.raises(NotMade, match=why):
        MAKE[form](plan, [], IMAGE, path)

    assert b"" == path.read_bytes()


def test_too_many_names(tmp_path: Path) -> None:
    """ext4 counts 65,000 of them; EROFS has room for all."""
    links: Sequence[tuple[bytes, bytes]] = [(b"l%d" % each, b"f") for each in range(65_000)]
    plan = Plan((Named(b"", Entry((), FOLDER)),), (Named(b"f", Entry((), FILE)),), (), tuple(links))
    (tmp_path / "x").touch()
    with pytest.raises(NotMade, match="a file has 65001 names, and ext4 takes 65000"):
        make_ext4(plan, [], IMAGE, tmp_path / "x")


@needs_root
@pytest.mark.parametrize("form", FORMS)
def test_a_disk_that_is_full(tmp_path: Path, form: str) -> None:
    """It is told as what it is, in one line."""
    words = f"""
from pathlib import Path
from registryd.images.filesystems.{form} import make_{form}
from registryd.images.layers.headers import Entry
from registryd.images.layers.plan import Named, Plan
large = Named(b"f", Entry((), b"0", size=1 << 20)), b"x" * (1 << 20)
path = Path({str(tmp_path)!r}, "x")
path.touch()
try:
    make_{form}(Plan((Named(b"", Entry((), b"5")),), extras=(large,)), [], "x", path)
except Exception as error:
    print(type(error).__name__, error)
"""
    script = 'mount -t tmpfs -o size=600k none "$0"; cd /; exec "$@"'
    start = [sys.executable, "-c", words]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, str(tmp_path), *start],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": os.getcwd(), "PATH": os.environ["PATH"]},
    )

    assert done.stdout.startswith("DiskFull "), done
    assert 1 == done.stdout.count("\n")


@pytest.mark.parametrize(("links", "counted"), [(65_000, 65_000), (65_001, 1)])
def test_as_many_names_as_it_takes(links: int, counted: int) -> None:
    """ext4 counts up to 65,000 names, those of a folder too; of more in a folder it says one."""
    made = inode(Entry((), FOLDER), Inode(links, 0, 0, bytes(60), True, Attributes(b"", b""), 0))

    assert (counted,) == struct.unpack_from("<H", made, 26)
