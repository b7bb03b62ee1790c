"""The blob that the tests of this folder ask for, and how they ask."""

from __future__ import annotations

import aiohttp

from cache.content import Digest
from tests.fakes.node import RunningNode
from tests.fakes.registry import FakeRegistry
from tests.server.wire import KIB, noise

BLOBS = "GET .*/blobs/"
SIZE = 1000 * KIB
CONTENT = noise(SIZE)
DIGEST = Digest.of(CONTENT)


async def fetch(client: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body."""
    async with client.get(path, headers=headers) as answer:
        return answer.status, await answer.read()


def sent(upstream: FakeRegistry, content: bytes = CONTENT) -> int:
    """Bytes of the blob that the scripted registry sent."""
    return upstream.sent[str(Digest.of(content))]


def arrived(node: RunningNode) -> int:
    """Bytes that are here of what is on its way."""
    return sum(ingest.held.total for ingest in node.node.store.arriving())
