"""Libraries of the machine in an image: what is replaced, added, brought along and refused."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from registryd.launch.edits import Bind
from registryd.launch.errors import LaunchRefused
from registryd.launch.image_tree import ImageTree
from registryd.launch.libraries import (
    FOLDER,
    Needs,
    Placed,
    Replacing,
    placed,
    seen_already,
)
from registryd.launch.loader import LibraryFile, Loader
from tests.launch.libraries import a_library

NAME = "libmpi.so.12"


class Trees:
    """A machine and an image, each with a loader of its own."""

    def __init__(self, root: Path) -> None:
        self.here, self.image = root / "here", root / "image"
        for each in (self.here, self.image):
            (each / "etc").mkdir(parents=True)
        a_library(self.image / "lib/libc.so.6", "libc.so.6")

    def library(self, path: Path) -> LibraryFile:
        """A library of the machine."""
        found = self.loader(self.here).library("/" + str(path.relative_to(self.here)))
        assert found is not None
        return found

    def loader(self, root: Path) -> Loader:
        """The loader of a tree."""
        return Loader(ImageTree(root))

    def place(self, file: Path, *, abi: str = "major", first: Sequence[str] = ()) -> Placed:
        """What puts a library of the machine into the image."""
        needs = Needs("module m", (Replacing(self.library(file), NAME, abi),))
        here, image = self.loader(self.here), ImageTree(self.image)
        return placed([needs], here=here, image=image, library_path=":".join(first))


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    """A machine without libraries, an image with a C library."""
    return Trees(tmp_path)


def binds(found: Placed) -> set[tuple[str, str]]:
    """Sources and targets; all of them read only."""
    assert all(each.read_only for each in found.edits.binds)
    return {(each.source, each.target) for each in found.edits.binds}


def test_every_file_of_the_soname_is_covered(trees: Trees) -> None:
    """The image's cache, its configured folders and its LD_LIBRARY_PATH are all looked through,
    and the machine's library lies over the file that links lead to."""
    mine = a_library(trees.here / "opt/libmpi.so.12.3.0", NAME)
    for path in ("opt/cached/libmpi.so.12.1", "opt/conf/libmpi.so.12.2.7", "opt/first/x.so"):
        a_library(trees.image / path, NAME)
    (trees.image / "opt/first" / NAME).symlink_to("/opt/first/x.so")
    (trees.image / "opt/conf" / NAME).symlink_to("libmpi.so.12.2.7")
    conf = trees.image / "etc/ld.so.conf"
    conf.write_text("/opt/cached\n")
    subprocess.run(["/sbin/ldconfig", "-r", trees.image], check=True)
    (trees.image / "etc/conf.d").mkdir()
    (trees.image / "etc/conf.d/a.conf").write_text("# a word\n/opt/conf/\n")
    conf.write_text("include conf.d/*.conf\ninclude /etc/ld.so.conf\n")

    found = trees.place(mine, first=["/opt/first", "relative"])

    assert {
        ("/opt/libmpi.so.12.3.0", "/opt/first/x.so"),
        ("/opt/libmpi.so.12.3.0", "/opt/cached/libmpi.so.12.1"),
        ("/opt/libmpi.so.12.3.0", "/opt/conf/libmpi.so.12.2.7"),
    } == binds(found)
    assert () == found.edits.env


def test_image_without_it_gets_a_folder(trees: Trees) -> None:
    """A library that the image lacks, and what it needs and the image lacks, are in one folder;
    what the image has, and parts of glibc, are not brought."""
    far = a_library(trees.here / "lib/libfar.so.1.2", "libfar.so.1")
    near = a_library(trees.here / "lib/libnear.so.1", "libnear.so.1", needs=[far])
    held = a_library(trees.here / "lib/libheld.so.1", "libheld.so.1")
    math = a_library(trees.here / "lib/libm.so.6", "libm.so.6")
    lost = a_library(trees.here / "tmp/liblost.so.1", "liblost.so.1")
    (trees.here / "lib/libfar.so.1").symlink_to(far.name)
    a_library(trees.image / "lib/libheld.so.1", "libheld.so.1")
    mine = a_library(trees.here / f"opt/{NAME}", NAME, needs=[near, held, math, lost])

    found = trees.place(mine)

    assert {
        (f"/opt/{NAME}", f"{FOLDER}/{NAME}"),
        ("/lib/libnear.so.1", f"{FOLDER}/libnear.so.1"),
        ("/lib/libfar.so.1.2", f"{FOLDER}/libfar.so.1"),
    } == binds(found)
    assert found.edits.env == seen_already(lambda path: path == FOLDER).env
    assert () == seen_already(lambda path: False).env
    assert {"LD_LIBRARY_PATH": f"{FOLDER}:/own"} == found.edits.environment(
        {"LD_LIBRARY_PATH": "/own"}
    )
    assert (
        f"module m: /opt/{NAME} needs libm.so.6, which the image lacks and nobody brings",
        f"module m: /opt/{NAME} needs liblost.so.1, which the image lacks and nobody brings",
    ) == found.notes


@pytest.mark.parametrize(
    ("mine", "theirs", "allowing"),
    [
        ("12.3.0", "12.1.8", "major full"),
        ("12.1.8", "12.3.0", "major"),
        ("12.3.0", "12.3.9", "major full strict"),
        ("13.0.0", "12.9.9", ""),
        ("12", "12.1", "major"),
    ],
)
@pytest.mark.parametrize("abi", ["major", "full", "strict"])
def test_abi(trees: Trees, mine: str, theirs: str, allowing: str, abi: str) -> None:
    """``major`` compares the first numbers, ``full`` takes no older minor, ``strict`` its own."""
    file = a_library(trees.here / f"lib/libmpi.so.{mine}", NAME)
    old = a_library(trees.image / f"lib/libmpi.so.{theirs}", NAME)
    if old.name != NAME:
        (old.parent / NAME).symlink_to(old.name)

    if abi in allowing.split():
        found = trees.place(file, abi=abi)

        expected = Bind(f"/lib/{file.name}", f"/lib/{old.name}", read_only=True)
        assert (expected,) == found.edits.binds
    else:
        refused = rf"module m: \S+ of this machine cannot replace /lib/{old.name} .*abi: {abi} "
        with pytest.raises(LaunchRefused, match=refused):
            trees.place(file, abi=abi)


def test_another_c_library(trees: Trees) -> None:
    """A library that needs glibc is not put into an image that has none."""
    libc = a_library(trees.here / "lib/libc.so.6", "libc.so.6")
    mine = a_library(trees.here / f"lib/{NAME}", NAME, needs=[libc])
    (trees.image / "lib/libc.so.6").unlink()

    with pytest.raises(LaunchRefused, match=r"needs libc.so.6, .* --module none"):
        trees.place(mine)


def test_an_image_that_lies(trees: Trees) -> None:
    """What only looks like the library, a broken cache and links that lead out, count as none."""
    mine = a_library(trees.here / f"lib/{NAME}", NAME)
    lib = trees.image / "lib"
    raw = (lib / "libc.so.6").read_bytes()
    (lib / NAME).write_bytes(raw[:18] + b"\xff\xff" + raw[20:])  # of another machine
    (trees.image / "lib64").mkdir()
    (trees.image / "lib64" / NAME).write_bytes(raw[:40])
    (trees.image / "usr/lib").mkdir(parents=True)
    (trees.image / "usr/lib" / NAME).symlink_to(mine)
    (trees.image / "etc/ld.so.cache").write_bytes(b"glibc-ld.so.cache1.1\xff")
    (trees.image / "etc/ld.so.conf").symlink_to("/etc/ld.so.conf")

    found = trees.place(mine)

    assert {(f"/lib/{NAME}", f"{FOLDER}/{NAME}")} == binds(found)
