"""Story: images made one: a root as umoci unpacks it, and a squashfs that any node makes alike."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.images.layers.trees import walked
from tests.real.conftest import Start, Upstream
from tests.real.dockerd import needs_root
from tests.real.images import Images
from tests.real.runtimes import attempt, need, plain_environ
from tests.real.stories import Daemon, told


def files_of(squashfs: Path, *names: str) -> bytes:
    """What files of a squashfs hold."""
    words = [need("unsquashfs"), "-cat", str(squashfs), *names]
    return subprocess.run(words, check=True, capture_output=True).stdout


@pytest.fixture
def node(start: Start, everyones: Upstream) -> Daemon:
    """A daemon that holds nothing yet."""
    return start(everyones.sections)


@needs_root
def test_a_root_as_umoci_has_it(
    node: Daemon, everyones: Upstream, images: Images, tmp_path: Path
) -> None:
    """export and pull -o make the root that umoci unpacks from the same image."""
    image = f"{images.layouts['gzip']}:gzip"
    unpack = ["umoci", "unpack", "--image", image, str(tmp_path / "bundle")]
    ran = attempt(unpack, plain_environ(tmp_path))
    node.ctl.ok("pull", "-q", everyones.name("zstd"), "-o", f"rootfs:{tmp_path}/pulled")
    said = node.ctl.ok("export", "-q", everyones.name("gzip"), "-o", f"rootfs:{tmp_path}/made")
    theirs, ours = walked(tmp_path / "bundle/rootfs"), walked(tmp_path / "made")

    assert 0 == ran.code, ran.err
    assert f"{images.digest('gzip')}\n" == said
    assert theirs == ours
    assert theirs == walked(tmp_path / "pulled")
    assert b"hello\n" == (tmp_path / "made/etc/motd").read_bytes()


def test_a_squashfs_is_the_same_everywhere(
    node: Daemon, start: Start, everyones: Upstream, images: Images, tmp_path: Path
) -> None:
    """Another node, another compression, another platform's command line: the same bytes."""
    other = start(everyones.sections)
    words = [
        (node, "export", everyones.name("gzip")),
        (other, "pull", everyones.name("zstd")),
        (other, "export", everyones.name("multi"), "--platform", "linux/amd64"),
    ]
    sums = set()
    for number, (which, *command) in enumerate(words):
        target = tmp_path / f"{number}.sqfs"
        which.ctl.ok(*command, "-q", "-o", f"squashfs:{target}")
        sums.add(hashlib.sha256(target.read_bytes()).hexdigest())
    node.ctl.ok(
        "export", "-q", "--force", "--compat", "gzip", everyones.name("gzip"),
        "-o", f"squashfs:{tmp_path}/0.sqfs",
    )  # fmt: skip

    assert 1 == len(sums)
    assert b"hello\n" == files_of(tmp_path / "1.sqfs", "etc/motd")
    assert 1 == (tmp_path / "0.sqfs").read_bytes()[20]  # gzip
    assert b"hello\n" == files_of(tmp_path / "0.sqfs", "etc/motd")


@needs_root
def test_a_sif_is_the_same_squashfs(
    node: Daemon, everyones: Upstream, images: Images, tmp_path: Path
) -> None:
    """siftool takes the squashfs out of a SIF, byte for byte; squashfuse reads it where it lies."""
    name, sif, out = everyones.name("gzip"), tmp_path / "out/x.sif", tmp_path / "out"
    (tmp_path / "top").mkdir()
    out.mkdir()
    node.ctl.ok("export", "-q", name, "-o", f"squashfs:{out}/x.sqfs")
    node.ctl.ok("export", "-q", name, "-o", f"sif:{sif}")
    again = node.ctl.json("convert", name, "--to", "sif", "-o", str(out / "again.sif"))
    node.ctl.ok("pull", "-q", "--plain", name, "-o", f"sif:{out}/plain.sif")
    # Who may not open the cache's files gets the blob from the daemon.
    hidden = ["unshare", "--mount", "sh", "-ec", 'mount -t tmpfs none "$0"; exec "$@"']
    command = node.ctl.command("export", "-q", name, "-o", f"sif:{out}/far.sif")
    environ = {**plain_environ(node.folder / "home"), **node.ctl.environ}
    far = attempt([*hidden, str(node.root), *command], environ)
    dumped = [
        subprocess.run(
            [need("siftool"), "dump", number, str(sif)], check=True, capture_output=True
        ).stdout
        for number in ("1", "3")
    ]
    script = 'squashfuse -o offset=40960 "$1" "$0" && cat "$0/etc/motd"; ls -A "$0"; umount "$0"'
    words = ["unshare", "--mount", "sh", "-c", script, str(tmp_path / "top")]
    environ = plain_environ(tmp_path)
    dressed = attempt([*words, str(sif)], environ)
    plain = attempt([*words, str(out / "plain.sif")], environ)

    assert (out / "x.sqfs").read_bytes() == dumped[1]
    assert f"from: {name.rpartition(':')[0]}@{images.digest('gzip')}\n".encode() in dumped[0]
    assert 0o111 == sif.stat().st_mode & 0o111
    assert (0, 0) == (dressed.code, plain.code), (dressed, plain)
    assert dressed.out.startswith("hello\n")
    assert (True, False) == tuple(".singularity.d" in each.out for each in (dressed, plain))
    assert ("squashfs", False) == (again["form"], again["made"])
    assert 0 == far.code, far
    assert sif.read_bytes() == (out / "again.sif").read_bytes() == (out / "far.sif").read_bytes()
    assert ["again.sif", "far.sif", "plain.sif", "x.sif", "x.sqfs"] == sorted(os.listdir(out))


def test_file_systems_of_our_own(node: Daemon, everyones: Upstream, tmp_path: Path) -> None:
    """ext4 and EROFS are made once too, of whichever compression; their own tools read them."""
    name, ext4, erofs = everyones.name("gzip"), tmp_path / "x.ext4", tmp_path / "x.erofs"
    first = node.ctl.json("convert", name, "--to", "ext4")
    node.ctl.ok("export", "-q", name, "-o", f"ext4:{ext4}")
    node.ctl.ok("pull", "-q", everyones.name("zstd"), "-o", f"erofs:{erofs}")
    second = node.ctl.json("convert", name, "--to", "erofs")
    said = [
        subprocess.run(words, check=True, capture_output=True).stdout
        for words in (
            [need("debugfs"), "-R", "cat /etc/motd", ext4],
            [need("fsck.erofs"), f"--extract={tmp_path}/out", erofs],
        )
    ]

    assert first["blob"] == f"sha256:{hashlib.sha256(ext4.read_bytes()).hexdigest()}"
    assert second["blob"] == f"sha256:{hashlib.sha256(erofs.read_bytes()).hexdigest()}"
    assert ("ext4;dressed;v=1", "erofs;dressed;v=1") == (first["recipe"], second["recipe"])
    assert b"hello\n" == said[0]
    assert b"hello\n" == (tmp_path / "out/etc/motd").read_bytes()
    assert (tmp_path / "out/.singularity.d/runscript").is_file()


def test_what_is_asked_wrongly(node: Daemon, everyones: Upstream, tmp_path: Path) -> None:
    """One line with exit code 64, before anything is fetched or written."""
    name = everyones.name("gzip")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "there").write_text("mine")
    for words, said in (
        (("copy", name, f"squashfs:{folder}/x"), "written only, by export REF -o and pull"),
        (("pull", name, "--compat", "gzip", "-o", f"rootfs:{folder}/x"), "--compat speaks of"),
        (("export", name, "--plain", "-o", f"dir:{folder}/x"), "--plain speaks of"),
        (("pull", name, "--all-platforms", "-o", f"rootfs:{folder}/x"), "one platform"),
        (("export", name, "-o", f"squashfs:{folder}/there"), "exists; remove it first"),
        (("export", name, "-o", f"rootfs:{folder}"), "a new folder or an empty one"),
        (("export", name, "-o", "squashfs:/dev/null"), "no regular file"),
        (("export", name, "-o", f"sif:{folder}/there"), "exists; remove it first"),
    ):
        ran = node.ctl(*words)

        assert (64, True) == (ran.code, said in told(ran)), ran
    assert ["there"] == os.listdir(folder)


@needs_root
@pytest.mark.parametrize("form", ["rootfs", "bundle", "squashfs", "sif", "ext4"])
def test_a_disk_that_is_full(node: Daemon, everyones: Upstream, tmp_path: Path, form: str) -> None:
    """A disk that fills in the middle is one line, exit code 1, and is empty again afterwards."""
    target = tmp_path / "small"
    target.mkdir()
    script = 'mount -t tmpfs -o size=600k none "$0" && { "$@"; code=$?; ls -A "$0"; exit $code; }'
    command = node.ctl.command("export", "-q", everyones.name("gzip"), "-o", f"{form}:{target}/x")
    environ = {**plain_environ(node.folder / "home"), **node.ctl.environ}
    ran = attempt(["unshare", "--mount", "sh", "-c", script, str(target), *command], environ)

    assert (1, "") == (ran.code, ran.out), ran
    assert 1 == len(ran.err.splitlines()), ran.err
    assert "no space left on device; free some space" in ran.err
