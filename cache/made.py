"""Made: blobs that a program writes as files of the store, and what they were made of.

Invariants:
- a draft is gone at the end of its block, or at the next start, unless it was published;
- it is hashed by reading it back: what is published is what is in the file;
- what was made of a manifest is kept as long as that is, and needed by nothing. It is recorded by
  this process alone: that an artifact says of itself what it was made of proves nothing.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from cache.content import Descriptor, Digest, new_hash
from cache.files import Files, os_errors
from cache.hops import RowHop
from cache.layout import DRAFT_PREFIX
from cache.listing import Listing
from cache.made_rows import MadeRows

#: How much is read at a time to be hashed.
READ = 1 << 20
_MODE = 0o600


class Land(Protocol):
    """Lets a digest become a blob: ``place`` puts its file there, unless there is one."""

    def __call__(
        self, digest: Digest, size: int, place: Callable[[], None], repository: str
    ) -> Awaitable[None]:
        """Runs to its end once begun."""


class Draft:
    """A file to be written by its path, by another program too; its methods block."""

    def __init__(self, files: Files) -> None:
        self.path: Path = files.ingest / f"{DRAFT_PREFIX}{secrets.token_hex(16)}"
        self._files = files

    def create(self) -> None:
        """Make it, empty."""
        with os_errors(str(self.path)):
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE))

    def read_through(self) -> tuple[Digest, int]:
        """Its digest and its size in bytes."""
        seen, size = new_hash("sha256"), 0
        with os_errors(str(self.path)), open(self.path, "rb", buffering=0) as file:
            while piece := file.read(READ):
                seen.update(piece)
                size += len(piece)
        return Digest("sha256", seen.hexdigest()), size

    def publish(self, digest: Digest) -> None:
        """Let it be the blob of this digest."""
        with os_errors(str(self.path)), open(self.path, "rb") as file:
            self._files.publish(file.fileno(), self.path, digest)

    def drop(self) -> None:
        """Remove it; that it is gone is a success."""
        with os_errors(str(self.path)):
            self.path.unlink(missing_ok=True)


class Made:
    """What was made here. Every method raises StoreUnusable, and DiskFull on writing."""

    def __init__(
        self, files: Files, rows: MadeRows, io: RowHop, db: RowHop, land: Land, listing: Listing
    ) -> None:
        self._files = files
        self._rows = rows
        self._io = io
        self._db = db
        self._land = land
        self._listing = listing
        #: What ``index.json`` told of when ``cache.db`` was found missing or damaged.
        self.lost: list[tuple[Digest, Descriptor]] = []

    @asynccontextmanager
    async def draft(self) -> AsyncIterator[Draft]:
        """A new file, empty and closed, that is gone at the end of the block."""
        draft = Draft(self._files)
        try:
            await asyncio.shield(self._io(draft.create))
            yield draft
        finally:
            await asyncio.shield(self._io(draft.drop))

    async def proven(self, draft: Draft, media_type: str) -> Descriptor:
        """What a draft is that nobody writes to any more."""
        digest, size = await self._io(draft.read_through)
        return Descriptor(media_type, digest, size)

    async def publish(self, draft: Draft, proven: Descriptor, *, repository: str = "") -> None:
        """Let a draft be a blob; runs to its end once begun."""
        digest = proven.digest
        await self._land(digest, proven.size, lambda: draft.publish(digest), repository)

    async def of(self, subject: Digest) -> list[Descriptor]:
        """The manifests of what was made of a manifest."""
        return await self._db(self._rows.of, subject)

    async def record(self, subject: Digest, made: Descriptor) -> None:
        """Keep a stored manifest as long as the one is kept of which its content was made."""
        await self._db(self._rows.add, subject, made)
        await self._listing.publish()
