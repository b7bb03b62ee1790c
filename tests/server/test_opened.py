"""A blob as an open file, over the unix socket: POST /api/v1/open."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from cache.content import Digest
from registryd.cli.errors import DaemonRefused, DaemonUnreachable
from registryd.cli.socket_client import SocketBackend
from tests.fakes.daemon import Answer, FakeDaemon, fake_daemon
from tests.fakes.node import RunningNode
from tests.fakes.registry import FakeRegistry
from tests.server.content import CONTENT, DIGEST

ABSENT = str(Digest.of(b"nobody has this"))


async def opened(socket: Path, reference: str, digest: str) -> int:
    """The descriptor, by the thin client."""
    # Threads of its own: the node's work waits for those of the loop.
    with ThreadPoolExecutor(1) as thread:
        ask = SocketBackend(socket).opened
        return await asyncio.get_running_loop().run_in_executor(thread, ask, reference, digest)


def files() -> set[str]:
    """What this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found


async def test_a_file_comes_with_the_answer(
    node: RunningNode, upstream: FakeRegistry, path: str
) -> None:
    """A blob is fetched, and comes as a file that can only be read and that no child inherits; it
    is read to its end when the blob is no longer in the cache, and the daemon keeps none open."""
    name = f"{upstream.name}/team/app"
    first = await opened(node.socket, name, str(DIGEST))
    second = await opened(node.socket, f"{name}:1", str(DIGEST))
    try:
        await node.node.store.remove([DIGEST])
        mode = fcntl.fcntl(first, fcntl.F_GETFL) & os.O_ACCMODE
        os.lseek(second, 5, os.SEEK_SET)
        content = await asyncio.to_thread(os.pread, first, len(CONTENT) + 1, 0)
        place = os.lseek(first, 0, os.SEEK_CUR)
        inherited = [os.get_inheritable(file) for file in (first, second)]
    finally:
        os.close(first)
        os.close(second)

    assert (CONTENT, os.O_RDONLY, 0) == (content, mode, place)
    assert [False, False] == inherited
    assert [] == [name for name in files() if DIGEST.hex in name]


async def test_what_is_not_there_is_refused(
    node: RunningNode, upstream: FakeRegistry, path: str
) -> None:
    """A digest that the repository does not have, or that is none, is the registry's no."""
    name = f"{upstream.name}/team/app"
    with pytest.raises(DaemonRefused) as absent:
        await opened(node.socket, name, ABSENT)
    with pytest.raises(DaemonRefused) as invalid:
        await opened(node.socket, name, "sha256:../../etc/passwd")

    assert (2, 64) == (absent.value.ends_with, invalid.value.ends_with)


async def test_only_the_unix_socket_passes_files(
    nobody: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """Over TCP, where no file can be passed, the way is shown."""
    body = {"reference": f"{upstream.name}/team/app", "digest": str(DIGEST)}
    async with nobody.post("/api/v1/open", json=body) as answer:
        said = (await answer.json())["errors"][0]["message"]

    assert "an open file is passed over the unix socket alone (use --socket)" == said


async def test_many_at_once_get_their_own(
    node: RunningNode, upstream: FakeRegistry, path: str
) -> None:
    """Files of thirty-two clients at once are all of them whole, and none is mixed up."""
    others = {Digest.of(body): body for body in (b"%d" % number * 999 for number in range(8))}
    for body in others.values():
        upstream.add_blob("team/app", body)
    asked = list(others) * 4
    got = await asyncio.gather(
        *(opened(node.socket, f"{upstream.name}/team/app", str(digest)) for digest in asked)
    )
    contents = [os.pread(file, 1 << 20, 0) for file in got]
    for file in got:
        os.close(file)

    assert [others[digest] for digest in asked] == contents


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[FakeDaemon]:
    """A daemon that passes no files."""
    with fake_daemon(tmp_path / "s") as daemon:
        daemon.on("POST", "/api/v1/open", Answer.of({"digest": str(DIGEST), "size": 1}))
        yield daemon


def test_an_answer_without_a_file_is_a_broken_one(scripted: FakeDaemon) -> None:
    """A daemon that answers well but sends no file is said to have broken off."""
    with pytest.raises(DaemonUnreachable) as broken:
        SocketBackend(scripted.socket).opened("a", str(DIGEST))

    assert "no file came with the answer" in str(broken.value)
