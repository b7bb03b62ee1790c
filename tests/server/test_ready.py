"""/readyz: well only when the daemon can do its work, and a line for what cannot."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from cache.layout import INGEST
from registryd.config import CacheConfig, Config, DaemonConfig
from registryd.daemon_services import open_daemon
from registryd.server.listeners import make_doors, serving
from registryd.server.ready import KEEP, Readiness
from tests.fakes.node import RunningNode, session
from tests.fakes.registry import FakeRegistry
from tests.server.content import fetch


class Clock:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def readiness(node: RunningNode, clock: Clock) -> Readiness:
    """The checks of the node, by a clock of the test's."""
    return Readiness(node.node, clock=clock)


async def lines(readiness: Readiness) -> list[str]:
    """What is wrong."""
    return [check.line for check in await readiness.checks() if not check.well]


async def test_well(stranger: aiohttp.ClientSession, node: RunningNode) -> None:
    """All is well: 200, one line a check, and nothing is left behind by looking."""
    status, text = await fetch(stranger, "/readyz")

    assert (200, b"disk ok\nindex ok\nlisteners ok\n") == (status, text)
    assert [] == list((node.root / INGEST).iterdir())


async def test_upstream_is_no_part_of_it(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """A node whose registries are away is ready to give what it holds."""
    upstream.drop(".*", times=None)
    assert 503 == (await fetch(stranger, path))[0]

    assert 200 == (await fetch(stranger, "/readyz"))[0]


async def test_a_lost_folder(readiness: Readiness, node: RunningNode) -> None:
    """Where nothing can be written, the line says where."""
    await asyncio.to_thread(shutil.rmtree, node.root / INGEST)

    assert [f"disk unusable: {node.root}: No such file or directory"] == await lines(readiness)
    await asyncio.to_thread((node.root / INGEST).mkdir)


async def test_503_with_the_line(stranger: aiohttp.ClientSession, node: RunningNode) -> None:
    """Who asks by HTTP gets 503 and the same lines; the daemon is alive all the same."""
    await asyncio.to_thread(node.socket.unlink)
    status, text = await fetch(stranger, "/readyz")
    alive, _ = await fetch(stranger, "/healthz")

    assert (503, 200) == (status, alive)
    assert f"listeners lost: {node.socket} is no socket any more; restart" in text.decode()
    assert b"disk ok\nindex ok\n" in text


async def test_the_disk_is_asked_once_a_second(
    readiness: Readiness, node: RunningNode, clock: Clock
) -> None:
    """An answer is good for a second, whoever asks; then the disk is looked at anew."""
    await readiness.checks()
    await asyncio.to_thread(shutil.rmtree, node.root / INGEST)
    clock.now = KEEP - 0.001
    kept = await lines(readiness)
    clock.now = KEEP
    fresh = await lines(readiness)
    await asyncio.to_thread((node.root / INGEST).mkdir)

    assert ([], 1) == (kept, len(fresh))


async def test_an_index_that_cannot_be_read(readiness: Readiness, node: RunningNode) -> None:
    """A damaged index is said to be one."""
    await asyncio.to_thread(_spoil, node.root / "cache.db")
    found = await lines(readiness)

    assert [True] == [line.startswith("index unusable: ") for line in found]


def _spoil(database: Path) -> None:
    """Take a table away, under the daemon's feet."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DROP TABLE links")
        connection.commit()


async def test_the_end_has_begun(tmp_path: Path) -> None:
    """A daemon that finishes what it has begun is not ready for more; it is alive still."""
    config = Config(
        daemon=DaemonConfig(socket=tmp_path / "d.sock", listen=(), drain_timeout=0.0),
        cache=CacheConfig(tmp_path / "cache"),
    )
    doors = await asyncio.to_thread(make_doors, config.daemon)
    async with (
        open_daemon(config, {}, doors) as apps,
        serving(apps, drain=0.0),
        session(aiohttp.UnixConnector(str(tmp_path / "d.sock")), "http://node") as client,
    ):
        before, _ = await fetch(client, "/readyz")
        await apps[0][1].shutdown()  # what the server does first when it is told to stop
        status, text = await fetch(client, "/readyz")
        alive, _ = await fetch(client, "/healthz")

    assert (200, 503, 200) == (before, status, alive)
    assert b"draining" in text
