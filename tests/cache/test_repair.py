"""A repair beside arrivals, and one that is broken off."""

import asyncio
import os
from contextlib import suppress

import pytest

from cache.content import Digest
from cache.layout import blob_path
from cache.reading import HOP
from tests.cache.gated_store import GatedStore
from tests.cache.gates import open_files
from tests.contract.blob_store import CONTENT, DIGEST


@pytest.fixture
async def gated(root):
    """A store whose threads can be stopped."""
    async with GatedStore.open(root) as store:
        yield store


async def test_what_comes_meanwhile_is_not_put_aside(gated, root):
    """A stray file that was read as wrong may be a blob by the time that it would go."""
    blob_path(root, DIGEST).write_bytes(b"wrong")
    ingest = await gated.ingest(DIGEST, size=len(CONTENT))
    await ingest.write(0, [CONTENT])
    read, published = gated.bytes.hold(after=True), gated.bytes.hold(after=True)
    adopting = asyncio.ensure_future(gated.scrub.repair.adopt(DIGEST, 5))
    await read.reached.wait()
    committing = asyncio.ensure_future(gated.commit(ingest))
    await published.reached.wait()
    read.open()
    await adopting
    published.open()
    await committing

    assert CONTENT == await gated.read(DIGEST, limit=len(CONTENT))
    assert not (root / "quarantine").exists()


async def test_a_repair_that_is_broken_off_closes_its_file(gated, root):
    """Whoever asked for it may leave at any time."""
    path = blob_path(root, Digest.of(b"large"))
    path.touch()
    os.truncate(path, 2 * HOP)
    before = open_files()
    gate = gated.bytes.hold(after=True)
    adopting = asyncio.ensure_future(gated.scrub.repair.adopt(Digest.of(b"large"), 2 * HOP))
    await gate.reached.wait()
    adopting.cancel()
    gate.open()
    with suppress(asyncio.CancelledError):
        await adopting

    assert before == open_files()
