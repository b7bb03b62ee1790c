"""How many uploads may be under way at once: each holds a file until it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache.store import BlobStore
from registryd.oci.reference import Reference
from registryd.server.uploads import AT_ONCE, PER_CALLER, Session, Uploads, UploadsFull

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
