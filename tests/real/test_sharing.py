"""Story: what images share on the disk, as ``cache df`` tells it, and exports that cost nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.layers.trees import layer, member
from tests.real.cluster import push_layers
from tests.real.conftest import Start
from tests.real.dockerd import needs_root
from tests.real.registry import RealRegistry, open_registry
from tests.real.runtimes import need
from tests.real.stories import UP, Ctl, Daemon, blobs_of, upstream_at
from tests.test_floors import ROOT

BASE = layer(member("base", random.Random(1).randbytes(3_000_000)))
OWN = [layer(member("own", random.Random(10 + n).randbytes(n * 1_000_000))) for n in (1, 2)]
USER = 61007
#: A file system whose files can share blocks, seen by the daemon and those who join it alone.
MOUNT = """
truncate -s 128M "$0" && mkfs.btrfs -q "$0" && mount -o loop "$0" /mnt
mkdir /mnt/home && chown "$1" /mnt /mnt/home && shift
exec "$@"
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """Two images on one base."""
    with open_registry(tmp_path_factory.mktemp("registry")) as registry:
        for number, own in enumerate(OWN):
            push_layers(registry, f"lib/i{number}", [BASE, own])
        yield registry


def test_what_two_images_share(registry: RealRegistry, start: Start) -> None:
    """The figures are those of the files; the image with the largest part of its own comes first;
    what nothing needs any more is told, and the last image shares nothing."""
    node = start(upstream_at(registry.url))
    for number in range(2):
        node.ctl.ok("pull", "-q", f"{UP}/lib/i{number}:1")
    df = node.ctl.json("cache", "df")
    small = sum(path.stat().st_size for path in node.root.glob("blobs/*/*")) - len(BASE)

    assert [f"{UP}/lib/i1:1", f"{UP}/lib/i0:1"] == [image["reference"] for image in df["images"]]
    assert {len(BASE)} == {image["shared_size"] for image in df["images"]}
    assert (len(BASE), small, len(BASE)) == (df["saved"], df["unique_size"], df["shared_size"])
    assert small + len(BASE) == df["size"] == df["reclaimable"]
    assert (0, 0) == (df["unreferenced"], df["other_size"])

    lines = node.ctl.ok("cache", "df").splitlines()
    assert lines[0].split() == ["IMAGE", "SIZE", "UNIQUE", "SHARED", "#", "UNIQUE", "-", "SHARED"]
    assert lines[1].endswith("  #######----------")
    assert lines[2].endswith("  ####----------")
    assert "saved by sharing:    2.9 MiB of 8.6 MiB (33 %)" in lines

    node.ctl.ok("rmi", f"{UP}/lib/i1:1")
    df = node.ctl.json("cache", "df")
    assert (0, 0, df["size"]) == (df["saved"], df["shared_size"], df["unique_size"])


@needs_root
@pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="no file can be mounted here")
def test_exports_share_the_blocks_of_the_cache(
    registry: RealRegistry, start: Start, tmp_path: Path
) -> None:
    """Through the daemon (by root, and by a user who may not open the cache) and without one: the
    files take no room, they are the user's own, and what is written to them is not written to the
    cache."""
    need("mkfs.btrfs")
    words = ("unshare", "--mount", "sh", "-ec", MOUNT, str(tmp_path / "disk"), str(USER))
    sections = {**upstream_at(registry.url), "daemon": {"socket": "/mnt/d.sock"}}
    node = start(sections, root=Path("/mnt/cache"), before=words)
    seen = Path(f"/proc/{node.process.pid}/root/mnt")
    name, own = f"{UP}/lib/i0:1", ("--root", "/mnt/own")
    within(node, 0, "pull", "-q", name, "-o", "oci:/mnt/first")
    check(seen / "cache/blobs/sha256", seen / "first/blobs/sha256", 0)
    if readable_to(USER):
        within(node, USER, "export", "-q", name, "-o", "dir:/mnt/second")
        check(seen / "cache/blobs/sha256", seen / "second", USER)
    within(node, 0, *own, "import", "-q", "oci:/mnt/first", "localhost/i0:1")
    within(node, 0, *own, "copy", "-q", "cache:localhost/i0:1", "dir:/mnt/third")
    check(seen / "own/blobs/sha256", seen / "third", 0)

    for path in (*(seen / "first/blobs/sha256").iterdir(), *(seen / "third").iterdir()):
        path.write_bytes(b"changed")
    assert 4 == len(blobs_of(seen / "cache")) == len(blobs_of(seen / "own"))


def check(held: Path, given: Path, uid: int) -> None:
    """The layers that were given share all blocks with those that are held, and nothing else."""
    large = [path for path in held.iterdir() if path.stat().st_size > 100_000]

    assert 2 == len(large)
    for path in large:
        status = (given / path.name).stat()
        assert blocks(path) == blocks(given / path.name) != []
        assert (uid, 0o644) == (status.st_uid, status.st_mode & 0o777)
        assert 1 == path.stat().st_nlink == status.st_nlink


def blocks(path: Path) -> list[str]:
    """Where the blocks of a file lie that others have too, as filefrag tells."""
    words = [need("filefrag"), "-v", str(path)]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.split(":")[2].strip() for line in lines if "shared" in line]


def within(node: Daemon, uid: int, *words: str) -> None:
    """Run registryctl in the daemon's mounts, as root or as a user."""
    namespace = ["nsenter", "--mount", "--target", str(node.process.pid)]
    environ = {"REGISTRYD_SOCKET": "/mnt/d.sock"} if "--root" not in words else {}
    environ |= dict.fromkeys(("HOME", "TMPDIR", "XDG_RUNTIME_DIR"), "/mnt/home")
    environ |= {"PATH": os.environ["PATH"], "CONTAINERS_REGISTRIES_CONF": "/dev/null"}
    command = [*namespace, *become(uid), *Ctl.command(*words)]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, cwd=ROOT)
    assert 0 == ran.returncode, ran.stderr


def become(uid: int) -> list[str]:
    """What makes a command this user's."""
    if not uid:
        return []
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]


def readable_to(uid: int) -> bool:
    """Whether a user may read this checkout, and so run what it holds."""
    looking = [*become(uid), sys.executable, "-c", "import registryd.cli.main"]
    return subprocess.run(looking, cwd=ROOT, capture_output=True).returncode == 0
