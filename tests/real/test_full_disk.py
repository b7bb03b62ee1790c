"""Story: the disk of the cache is full. It is a tmpfs of 8 MiB that only the daemon sees."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry, digest_of
from tests.real.conftest import Start
from tests.real.runtimes import need
from tests.real.stories import UP, Daemon, arriving, blobs_of, get, told

SIZE = "8m"
HELD = random.Random(4).randbytes(3_000_000)
LARGE = random.Random(5).randbytes(7_000_000)
SMALL = random.Random(6).randbytes(1_000_000)


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    """An upstream with an image that fits, one that does not, and a small one."""
    async with FakeRegistry().serve() as server:
        for name, layer in (("held", HELD), ("large", LARGE), ("small", SMALL)):
            server.add_image(name, "1", layer)
        yield server


@dataclass(frozen=True)
class Small:
    """A daemon whose cache is on a small disk, and that disk as it sees it."""

    node: Daemon

    @property
    def root(self) -> Path:
        """The cache, through the daemon's own mounts."""
        return Path(f"/proc/{self.node.process.pid}/root{self.node.root}")

    async def pull(self, name: str) -> int:
        """Pull an image; the exit code. What fails says in one line what is full."""
        ran = await asyncio.to_thread(self.node.ctl, "pull", "-q", f"{UP}/{name}:1")
        if ran.code:
            line = told(ran).lower()
            assert "space" in line, line
            assert str(self.node.root) in line, line
        return ran.code

    async def check_held(self) -> None:
        """The image that came first is listed, whole, and given out."""
        images = await asyncio.to_thread(lambda: self.node.ctl.json("images")["images"])
        assert f"{UP}/held:1" in [image["reference"] for image in images]
        digest = digest_of(HELD)
        assert digest in blobs_of(self.root)
        path = f"/v2/{UP}/held/blobs/{digest}"
        status, body = await asyncio.to_thread(get, self.node.address, path)
        assert (200, digest) == (status, f"sha256:{hashlib.sha256(body).hexdigest()}")


@pytest.fixture
async def small(fake: FakeRegistry, start: Start, tmp_path: Path) -> Small:
    """A daemon with a mount of its own; the first image is held."""
    need("mount")
    root = tmp_path / "small"
    root.mkdir()
    mount = f'mount -t tmpfs -o size={SIZE},mode=700 registryd "$0" && exec "$@"'
    namespace = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
    node = start(
        {"registries": {UP: {"endpoint": fake.url}}},
        root=root,
        before=(*namespace, "sh", "-c", mount, str(root)),
    )
    small = Small(node)
    assert 0 == await small.pull("held")
    return small


async def test_what_does_not_fit_is_1(small: Small) -> None:
    """The pull says which disk is full; nothing of it stays, and there is room for a small one."""
    assert 1 == await small.pull("large")

    assert [] == arriving(small.root)
    assert digest_of(LARGE) not in blobs_of(small.root)
    await small.check_held()
    assert 0 == await small.pull("small")


async def test_not_one_byte_is_left(small: Small) -> None:
    """With no room at all what is held is given; once there is room again, all goes on."""
    ballast = small.root / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))

    assert 1 == await small.pull("small")
    await small.check_held()
    ballast.unlink()
    assert 0 == await small.pull("small")
    await asyncio.to_thread(small.node.ctl.ok, "rmi", f"{UP}/held:1")
    assert digest_of(HELD) not in blobs_of(small.root)
    assert [] == arriving(small.root)


async def test_a_runtime_gets_what_does_not_fit(small: Small) -> None:
    """The disk fills while a blob is given: the client gets the rest past the cache; and with not
    one byte left manifests and blobs pass too."""
    node, digest = small.node, digest_of(LARGE)
    begun = await asyncio.to_thread(get, node.address, f"/v2/{UP}/large/blobs/{digest}")
    ballast = small.root / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    paths = (f"small/blobs/{digest_of(SMALL)}", f"large/blobs/{digest}", "small/manifests/1")
    given = [await asyncio.to_thread(get, node.address, f"/v2/{UP}/{path}") for path in paths]

    assert (200, LARGE) == begun
    assert [200] * 3 == [status for status, _ in given]
    assert [SMALL, LARGE] == [body for _, body in given[:2]]
    assert [] == arriving(small.root)
    await small.check_held()


async def test_a_push_that_does_not_fit(small: Small, fake: FakeRegistry, tmp_path: Path) -> None:
    """Who pushes more than there is room for is told; the upload leaves nothing."""
    ctl = small.node.ctl
    layout, name = f"oci:{tmp_path}/layout:x", f"{fake.name}/large:1"
    await asyncio.to_thread(ctl.ok, "copy", "-q", "--plain-http", name, layout)

    ran = await asyncio.to_thread(ctl, "copy", "-q", layout, "cache:localhost/large:1")

    assert 1 == ran.code, ran
    assert "space" in told(ran).lower()
    assert [] == arriving(small.root)
    await small.check_held()
