"""How many uploads may be under way at once: each holds a file until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from cache.bounds import Bounds
from cache.store import BlobStore
from registryd.oci.reference import Reference
from registryd.server.uploads import AHEAD, AT_ONCE, PER_CALLER, Session, Uploads, UploadsFull
from registryd.transfer.batch import HOP
from tests.fakes.node import RunningNode
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.server.content import arrived
from tests.server.wire import noise

HERE = Reference("localhost", "app")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BlobStore]:
    async with BlobStore.open(tmp_path / "root") as opened:
        yield opened


async def fill(uploads: Uploads, store: BlobStore, principal: str, count: int) -> list[str]:
    """So many sessions of one caller; their keys."""
    ingest = await store.upload()
    keys = []
    for _ in range(count):
        uploads.make_room(principal)
        keys.append(uploads.add(Session(ingest, HERE, principal)))
    return keys


async def test_one_caller_cannot_take_every_file(store: BlobStore) -> None:
    """Beyond so many of one caller the next is refused; others go on, and an end makes room."""
    uploads = Uploads()
    first, *_ = await fill(uploads, store, "uid:1", PER_CALLER)
    with pytest.raises(UploadsFull, match=f"{PER_CALLER} of this caller"):
        uploads.make_room("uid:1")
    uploads.make_room("uid:2")
    uploads.drop(first)

    uploads.make_room("uid:1")


async def test_all_together_have_a_limit(store: BlobStore) -> None:
    """Many callers with a few uploads each are limited too."""
    uploads = Uploads()
    for number in range(AT_ONCE // PER_CALLER):
        await fill(uploads, store, f"uid:{number}", PER_CALLER)

    with pytest.raises(UploadsFull, match=f"{AT_ONCE} in all"):
        uploads.make_room("uid:1000")


async def test_clients_are_told(stranger: aiohttp.ClientSession, node: RunningNode) -> None:
    """Asked for at once, one upload too many is refused with 503 and leaves nothing; one that is
    cancelled makes room for another."""

    async def begin() -> tuple[int, str]:
        async with stranger.post("/v2/localhost/app/blobs/uploads/") as answer:
            return answer.status, answer.headers.get("Location", "")

    begun = await asyncio.gather(*(begin() for _ in range(PER_CALLER + 3)))
    statuses = [status for status, _ in begun]
    files = len(list((node.root / "ingest").iterdir()))
    async with stranger.delete(next(place for _, place in begun if place)) as answer:
        cancelled = answer.status

    assert [202] * PER_CALLER + [503] * 3 == sorted(statuses)
    assert (PER_CALLER, 204) == (files, cancelled)
    assert 202 == (await begin())[0]


async def test_nothing_goes_for_bytes_that_do_not_come(
    stranger: aiohttp.ClientSession, node: RunningNode, upstream: FakeRegistry
) -> None:
    """A chunk makes room as it comes, whatever length it claims; one that never fits is refused
    before it comes."""
    upstream.add_image("team/app", "1", noise(2 * HOP))
    body = {"reference": f"{upstream.name}/team/app:1"}
    async with stranger.post("/api/v1/pull", json=body) as pulled:
        await pulled.read()
    node.node.store.room.bound(Bounds(2 * AHEAD))

    async def send(length: int) -> int:
        """The status of a chunk that claims this length and stops soon, 0 when none comes."""
        async with stranger.post("/v2/localhost/a/blobs/uploads/") as begun:
            place = begun.headers["Location"]
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        head = f"PATCH {place} HTTP/1.1\r\nHost: node\r\nContent-Length: {length}\r\n\r\n"
        writer.write(head.encode() + noise(HOP))
        if length > 2 * AHEAD:
            status = int((await reader.readline()).split()[1])
        else:
            status = await until(lambda: arrived(node) >= HOP) or 0
        writer.close()
        return status

    assert (0, 503) == (await send(2 * AHEAD - HOP), await send(2 * AHEAD + 1))
    assert 1 == await node.node.store.catalogue.count()
