"""``rootfs:DIR`` and ``squashfs:FILE``: what is made of an image, and what a failure leaves."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
import stat
import subprocess
from io import BytesIO, RawIOBase
from pathlib import Path
from tempfile import gettempdir

import pytest
import zstandard
from typing_extensions import Buffer, override

from cache.errors import DigestMismatch, DiskFull, Fault
from registryd.images.errors import NotAnImage, NotMade, PathUnusable
from registryd.images.layers import squashfs
from registryd.images.layers.extract import extract
from registryd.images.layers.squashfs import Compressor
from registryd.images.layers.target import FlatForm, FlatTerms, open_flat
from registryd.oci.errors import UsageError
from registryd.transfer.copy import copy_image
from tests.fakes.endpoints import MemorySource, Sample, image, index
from tests.images.layers.trees import WHEN, extracted, layer, member, planned, tarred, walked
from tests.real.dockerd import needs_root
from tests.real.runtimes import need

LOW = layer(
    member("etc", kind="d", mode=0o700),
    member("etc/gone", b"x" * 9000),
    member("etc/shared", b"shared" * 900, mode=0o400, uid=3_000_000_000),
    member("z", b"z" * 300_000),
    member("b", b"b" * 300_000),
    member("su", b"s", mode=0o6755),
    member("dev/null", kind="c", major=1, minor=3),
    member("sda", kind="b", major=8, minor=300),
)
HIGH = layer(
    member("etc/.wh.gone"),
    member("opt/link", kind="h", link="etc/shared"),
    member("to", kind="l", link="/etc/shared"),
    member("empty"),
    member("pipe", kind="p"),
    member(b"odd\xff\n", b"odd", pax_headers={"SCHILY.xattr.user.k": "\udcff v"}),
    member("n" * 180, b"long", pax_headers={"SCHILY.xattr.security.selinux": "theirs"}),
)


async def made(
    form: FlatForm,
    path: Path,
    sample: Sample,
    *,
    compressor: Compressor = "zstd",
    replace: bool = False,
    programs: Path | None = None,
) -> list[str]:
    """Make the target of an image; what was warned of."""
    warned: list[str] = []
    environ = dict(os.environ)
    if programs is not None:
        environ["PATH"] = f"{programs}:/usr/bin:/bin"
    terms = FlatTerms(environ, warned.append, compressor, replace)
    async with open_flat(form, path, spool=Path(gettempdir()), terms=terms) as sink:
        await copy_image(MemorySource(sample), sink)
    return warned


@needs_root
async def test_one_stream_one_tree(tmp_path: Path) -> None:
    """A squashfs has what the root has: owners, modes, links, devices, attributes, odd names."""
    need("tar2sqfs")
    layers = (gzip.compress(LOW), zstandard.compress(HIGH))
    assert [] == await made("rootfs", tmp_path / "root", image(*layers))
    await made("squashfs", tmp_path / "x.sqfs", image(*layers))
    raw = subprocess.run(["sqfs2tar", tmp_path / "x.sqfs"], check=True, capture_output=True).stdout
    root = walked(tmp_path / "root")
    top = root.pop("")

    assert root == tarred(raw)
    assert ("etc/shared", "opt/link") == root["opt/link"].same
    assert (("user.k", b"\xff v"),) == root["odd\udcff\n"].xattrs
    assert () == root["n" * 180].xattrs
    assert (0o755, 0) == (top.mode, top.mtime)
    assert (0o400, 3_000_000_000, WHEN) == (*root["etc/shared"][1:3], root["etc/shared"].mtime)


async def test_any_node_makes_the_same_file(tmp_path: Path) -> None:
    """However a layer is compressed and wherever the cache is, the bytes are the same."""
    need("tar2sqfs")
    packed = image(gzip.compress(LOW, 1), gzip.compress(HIGH, 9))
    await made("squashfs", tmp_path / "a", packed)
    await made("squashfs", tmp_path / "b", image(LOW, zstandard.compress(HIGH)))
    await made("squashfs", tmp_path / "c", packed, compressor="gzip")
    first = (tmp_path / "a").read_bytes()

    assert first == (tmp_path / "b").read_bytes()
    assert [6, 1] == [(tmp_path / name).read_bytes()[20] for name in "ac"]  # zstd, gzip
    with pytest.raises(UsageError, match=r"a exists; remove it first \(export: --force\)"):
        await made("squashfs", tmp_path / "a", packed)
    await made("squashfs", tmp_path / "c", packed, replace=True)
    assert first == (tmp_path / "c").read_bytes()
    assert ["a", "b", "c"] == sorted(os.listdir(tmp_path))


def test_without_rights(tmp_path: Path) -> None:
    """Who is not root owns all; devices and set-user-id bits are left out and counted."""
    linked = layer(member("nil", kind="h", link="dev/null"))
    skipped = extracted(tmp_path / "root", LOW, HIGH, linked, privileged=False)
    tree = walked(tmp_path / "root")

    assert "2 device nodes, 1 set-user-id and set-group-id bits" == str(skipped)
    assert {(os.geteuid(), os.getegid())} == {(item.uid, item.gid) for item in tree.values()}
    assert (0o755, 0o400, 0o700) == tuple(tree[name].mode for name in ("su", "etc/shared", "etc"))
    assert {"null", "nil", "sda"}.isdisjoint(name.rpartition("/")[2] for name in tree)


@pytest.mark.parametrize("planted", ["folder", "file"])
def test_who_changes_the_root_meanwhile(tmp_path: Path, planted: str) -> None:
    """Nothing is written where their link leads, be it one in the way or another name of a file."""
    raw = layer(member("d/a", b"a"), member("e/b", b"b"))
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (other / "theirs").write_bytes(b"theirs")

    class Changing(BytesIO):
        @override
        def read(self, count: int | None = -1, /) -> bytes:
            if not self.tell() and planted == "file":
                (root / "d/a").hardlink_to(other / "theirs")
            elif not self.tell():
                (root / "d").rename(tmp_path / "was")
                (root / "d").symlink_to(other)
            return super().read(count)

    with pytest.raises(PathUnusable):
        extract(planned(raw), [lambda: Changing(raw)], "x", root, privileged=False)

    assert {"theirs": b"theirs"} == {path.name: path.read_bytes() for path in other.iterdir()}


def test_holes_stay_holes(tmp_path: Path) -> None:
    """A sparse file takes no more room than its bytes, and reads as it was packed."""
    holes = {"GNU.sparse.map": "4194304,5", "GNU.sparse.size": "8388608"}
    extracted(tmp_path / "root", layer(member("s", b"bytes", pax_headers=holes)))
    status = (tmp_path / "root/s").stat()

    assert bytes(4 << 20) + b"bytes" + bytes((4 << 20) - 5) == (tmp_path / "root/s").read_bytes()
    assert 8 << 20 == status.st_size
    assert status.st_blocks * 512 < 100_000


BOMB = gzip.compress(layer(member("a", bytes(300 << 20))), 9)
HUGE = {"GNU.sparse.map": "", "GNU.sparse.size": str(1 << 50)}


@pytest.mark.parametrize("form", ["rootfs", "squashfs"])
@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (image(BOMB), "holds more than 100 times its own size"),
        (image(layer(member("a", pax_headers=HUGE))), "claim more bytes than"),
        (image(LOW, layer(member("../out", b"x"))), "layer 2: '../out' leads out of the image"),
        (image(gzip.compress(LOW)[:-100]), "is damaged|cut off"),
        (image(b"\x1f\x8b\x08" + bytes(600)), "is damaged|not a tar"),
        (index(amd64=image(LOW), arm64=image(HIGH)), "several images: name one by --platform"),
    ],
    ids=["ratio", "hole", "outside", "cut", "garbage", "index"],
)
async def test_bad_images(tmp_path: Path, form: FlatForm, sample: Sample, said: str) -> None:
    """One line, nothing made, nothing left."""
    with pytest.raises(Fault, match=said) as raised:
        await made(form, tmp_path / "x", sample)

    assert "\n" not in str(raised.value)
    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize("form", ["rootfs", "squashfs"])
async def test_damage_in_the_middle(tmp_path: Path, form: FlatForm) -> None:
    """A layer that is not what was announced never gets as far as being read."""
    sample = image(LOW)
    digest = sample.layers[-1].digest
    sample.blobs[digest] = LOW[:-1] + b"x"
    with pytest.raises(DigestMismatch):
        await made(form, tmp_path / "x", sample)

    assert [] == os.listdir(tmp_path)


def program(folder: Path, script: str) -> Path:
    """A folder with a tar2sqfs that does this; its target is ``$target``."""
    folder.mkdir()
    path = folder / "tar2sqfs"
    path.write_text(f'#!/bin/sh\nfor target; do :; done\necho half >"$target"\n{script}\n')
    path.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        ("cat >/dev/null; echo first >&2; echo oops >&2; exit 3", NotMade, "with status 3: oops$"),
        ("exit 1", NotMade, "with status 1: it says nothing$"),
        ("kill -9 $$", NotMade, "with signal 9"),
        ("echo 'x: No space left on device' >&2; exit 1", DiskFull, "no space left on device"),
        (
            "printf 'hsqs\\001' >$target; truncate -s 96 $target; cat >/dev/null",
            NotMade,
            "but made 1 files of 15$",
        ),
        ("cat >/dev/null; exit 0", NotMade, "but made no whole squashfs$"),
    ],
    ids=["words", "silent", "killed", "full", "loses", "lies"],
)
async def test_a_program_that_fails(
    tmp_path: Path, script: str, kind: type[Fault], said: str
) -> None:
    """Its last line is shown, a file that is there stays, and nothing is left beside it."""
    programs = program(tmp_path / "programs", script)
    (tmp_path / "out").mkdir()
    target = tmp_path / "out/x"
    target.write_bytes(b"old")
    with pytest.raises(kind, match=said) as raised:
        await made("squashfs", target, image(LOW, HIGH), replace=True, programs=programs)

    assert "\n" not in str(raised.value)
    assert {"x": b"old"} == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


class Exhausted(RawIOBase):
    """A file of a user whose quota is used up."""

    @override
    def seek(self, offset: int, whence: int = 0, /) -> int:
        return 0

    @override
    def write(self, content: Buffer, /) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_a_quota_that_is_used_up(tmp_path: Path) -> None:
    """It is told as a full disk is, though the program says no word of it."""
    said = rf"^{tmp_path}: disk quota exceeded; free some space and try again$"
    with pytest.raises(DiskFull, match=said):
        squashfs._failure("x: writing data block: I/O error", 1, tmp_path / "x", Exhausted())


async def test_no_program(tmp_path: Path) -> None:
    """It is said before anything is fetched, with the package that has it."""
    terms = FlatTerms({"PATH": str(tmp_path)}, print)
    with pytest.raises(
        NotMade, match=r"^tar2sqfs is not on the PATH \(Debian: squashfs-tools-ng\)$"
    ):
        async with open_flat("squashfs", tmp_path / "x", spool=tmp_path, terms=terms):
            raise AssertionError("it was opened")


async def test_given_up_in_the_middle(tmp_path: Path) -> None:
    """Who leaves while the program works ends it, and nothing is left."""
    fifo = tmp_path / "began"
    os.mkfifo(fifo)
    programs = program(tmp_path / "programs", f"echo $$ >{fifo}; exec sleep 1000")
    (tmp_path / "out").mkdir()
    sample = image(layer(member("large", os.urandom(1 << 20))))
    working = asyncio.create_task(made("squashfs", tmp_path / "out/x", sample, programs=programs))
    pid = int(await asyncio.to_thread(fifo.read_text))
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working

    assert [] == os.listdir(tmp_path / "out")
    assert not Path(f"/proc/{pid}").exists()


async def test_where_a_root_may_go(tmp_path: Path) -> None:
    """A new folder or an empty one, never one with something in it, or what a link names."""
    (tmp_path / "full/x").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    for name in ("full", "link"):
        with pytest.raises(UsageError, match="a new folder or an empty one"):
            await made("rootfs", tmp_path / name, image(LOW))
    await made("rootfs", tmp_path / "empty", image(LOW))
    await made("rootfs", tmp_path / "new/deep", image(HIGH[:0], LOW))

    assert (tmp_path / "empty/etc/shared").is_file()
    assert stat.S_IMODE((tmp_path / "new/deep/etc").stat().st_mode) == 0o700
    assert ["empty", "full", "link", "new"] == sorted(os.listdir(tmp_path))


async def test_what_is_no_image(tmp_path: Path) -> None:
    """An artifact with other things than layers is refused by what it holds."""
    from cache.content import Descriptor
    from tests.fakes.endpoints import wire, written

    chart = Descriptor.of("application/vnd.cncf.helm.chart", b"chart")
    config = Descriptor.of("application/vnd.oci.empty.v1+json", b"{}")
    manifest = "application/vnd.oci.image.manifest.v1+json"
    root = written(
        {"schemaVersion": 2, "mediaType": manifest, "config": wire(config), "layers": [wire(chart)]}
    )
    sample = Sample(root, {root.digest: root}, {chart.digest: b"chart", config.digest: b"{}"})
    with pytest.raises(
        NotAnImage, match=r"is no image: it holds application/vnd\.cncf\.helm\.chart"
    ):
        await made("rootfs", tmp_path / "x", sample)
