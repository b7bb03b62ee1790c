"""A large blob that is not here, what upstream sent of it, and what the node keeps of it."""

from __future__ import annotations

import os
from pathlib import Path

import aiohttp

from cache.content import Digest
from tests.fakes.node import RunningNode
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.server.content import BLOBS
from tests.server.wire import MIB, noise

SIZE = 8 * MIB + 777
CONTENT = noise(SIZE, seed=3)
DIGEST = Digest.of(CONTENT)


def sent(upstream: FakeRegistry) -> int:
    """Bytes of the blob that the scripted registry sent."""
    return upstream.sent[str(DIGEST)]


def ranges(upstream: FakeRegistry) -> list[str]:
    """The Range of each GET ("" for none)."""
    return [seen.headers.get("Range", "") for seen in upstream.asked(BLOBS)]


def kept(node: RunningNode) -> list[str]:
    """What lies in the cache that is not committed."""
    return sorted(path.name for path in (node.root / "ingest").iterdir())


def files_open(node: RunningNode) -> list[str]:
    """The node's own descriptors on what is arriving."""
    folder = str(node.root / "ingest")
    links = [Path("/proc/self/fd") / fd for fd in os.listdir("/proc/self/fd")]
    return [target for link in links if link.is_symlink()
            and (target := os.readlink(link)).startswith(folder)]  # fmt: skip


async def grounded(node: RunningNode) -> None:
    """Wait until nothing is being fetched any more."""
    await until(lambda: not node.node.flights.under_way())


async def part(client: aiohttp.ClientSession, path: str, start: int, stop: int) -> bytes:
    """A bounded range, which must be answered as it was asked for."""
    async with client.get(path, headers={"Range": f"bytes={start}-{stop - 1}"}) as answer:
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        return await answer.read()
