"""Blobs to clients that leave, dawdle, pipeline, or come with an old protocol."""

import asyncio
import os

import aiohttp
import pytest

from cache.content import Digest
from tests.fakes.node import RunningNode
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.server.content import BLOBS, CONTENT, DIGEST, SIZE, fetch
from tests.server.wire import KIB, MIB, Wire, connected, noise

# clients that behave badly


async def test_a_client_that_disappears(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """A client that leaves in the middle ends its own answer only: the fetch goes on for those
    who stay, and for the cache."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=500 * KIB)
    async with connected(node.port) as leaving:
        leaving.send("GET", path)
        await leaving.head()
        await leaving.take(100 * KIB)
        staying = asyncio.create_task(fetch(stranger, path))
        await until(lambda: sum(i.followers for i in node.node.store.arriving()) == 2)
    gate.set()

    assert (200, CONTENT) == await staying
    assert len(upstream.lines(BLOBS)) == 1


async def test_the_last_client_leaves_and_the_fetch_goes_on(
    node: RunningNode, wire: Wire, upstream: FakeRegistry, path: str
) -> None:
    """Nobody waits any more, and the blob comes all the same."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=500 * KIB)
    wire.send("GET", path)
    await wire.head()
    wire.writer.transport.abort()
    gate.set()
    await until(lambda: not node.node.flights.under_way())

    assert node.node.store.find(DIGEST) is not None


async def test_a_slow_reader_does_not_slow_others(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry
) -> None:
    """One client takes nothing; another gets the whole blob meanwhile, held or arriving."""
    content = noise(24 * MIB, seed=3)
    digest = upstream.add_blob("team/app", content)
    path = f"/v2/{upstream.name}/team/app/blobs/{digest}"
    async with connected(node.port) as slow:
        slow.send("GET", path)
        await slow.head()
        arriving = await fetch(stranger, path)
        held = await fetch(stranger, path)
        late = await slow.take(len(content))

    assert ((200, True), (200, True), True) == (
        (arriving[0], arriving[1] == content),
        (held[0], held[1] == content),
        late == content,
    )


async def test_an_early_close_is_normal(
    node: RunningNode, path: str, upstream: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients that read a part of a held blob and close are no error of ours."""
    big = noise(24 * MIB, seed=4)
    digest = upstream.add_blob("team/app", big)
    async with node.stranger() as client:
        await fetch(client, f"/v2/{upstream.name}/team/app/blobs/{digest}")
    caplog.clear()
    for _ in range(3):
        async with connected(node.port) as wire:
            wire.send("GET", f"/v2/{upstream.name}/team/app/blobs/{digest}", "Range: bytes=0-")
            await wire.head()
            await wire.take(100 * KIB)
            wire.writer.transport.abort()
    await until(lambda: sum("status=" in r.getMessage() for r in caplog.records) == 3)

    assert [] == [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]


async def test_a_held_file_that_became_shorter_is_refused(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """Damage on the disk is never passed on as a shorter blob: 503, so that clients ask
    elsewhere."""
    await fetch(stranger, path)
    blob = node.node.store.find(DIGEST)
    assert blob is not None
    blob.path.chmod(0o644)
    os.truncate(blob.path, 300 * KIB)
    status, body = await fetch(stranger, path)

    assert (503, True) == (status, b"damaged" in body)


async def test_a_held_file_that_becomes_shorter_cuts_the_connection(
    node: RunningNode, wire: Wire, upstream: FakeRegistry
) -> None:
    """Damage in the middle of an answer cuts it: what was announced never comes whole."""
    content = noise(24 * MIB, seed=6)
    digest = upstream.add_blob("team/app", content)
    path = f"/v2/{upstream.name}/team/app/blobs/{digest}"
    async with node.stranger() as client:
        await fetch(client, path)
    blob = node.node.store.find(Digest.parse(digest))
    assert blob is not None
    wire.send("GET", path)
    await wire.head()
    blob.path.chmod(0o644)
    os.truncate(blob.path, 100 * KIB)
    came = await wire.rest()

    assert len(came) < len(content)


# connections


@pytest.mark.parametrize("size", [0, 1000, SIZE])
async def test_a_connection_serves_more_than_one_file(
    wire: Wire, upstream: FakeRegistry, size: int
) -> None:
    """After a file was sent past the transport the connection is used for the next request."""
    content = noise(size, seed=5)
    digest = upstream.add_blob("team/app", content)
    bodies = []
    for method in ("GET", "GET", "HEAD", "GET"):
        wire.send(method, f"/v2/{upstream.name}/team/app/blobs/{digest}")
        bodies.append((await wire.answer(bodiless=method == "HEAD")).body)

    assert [content, content, b"", content] == bodies


async def test_requests_that_come_at_once(wire: Wire, upstream: FakeRegistry, path: str) -> None:
    """Pipelined requests are answered in their order, no byte of one in another."""
    for wanted in ("bytes=0-99", "bytes=100-", "bytes=0-9"):
        wire.send("GET", path, f"Range: {wanted}")
    answers = [await wire.answer() for _ in range(3)]

    assert [CONTENT[:100], CONTENT[100:], CONTENT[:10]] == [answer.body for answer in answers]


async def test_http_1_0(wire: Wire, path: str) -> None:
    """A client of HTTP/1.0 gets the blob, and the end of the connection."""
    wire.send("GET", path, version="1.0")
    answer = await wire.answer()

    assert (200, CONTENT, b"") == (answer.status, answer.body, await wire.rest())
