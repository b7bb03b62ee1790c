"""Repair: what a store's directory and its index say of each other, compared while it is open.

Invariants:
- content decides: a file that is here is found, if it is what it is called; one that is not is put
  aside, and a row without its file is forgotten;
- nothing becomes anybody's by it: no membership, no grant and no pin is ever made here;
- ``look`` changes nothing.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cache import layout
from cache.content import Descriptor, Digest
from cache.errors import CacheError, DigestInvalid
from cache.files import Files, os_errors
from cache.hops import RowHop
from cache.index import Index, Links
from cache.listing import Listing
from cache.passages import Passages
from cache.quarantine import put_aside
from cache.reading import HOP, Reading

if TYPE_CHECKING:
    from cache.store import BlobStore


@dataclass(frozen=True, slots=True)
class Differences:
    """Files of ``blobs/`` that the store does not know (blobs, and what is none), and blobs that
    it knows and whose files are gone or have another size."""

    unknown: tuple[tuple[Digest, int], ...]
    strays: tuple[Path, ...]
    wrong: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What the index knows of a blob: its type, what others say it is, its links and their rule."""

    media_type: str
    claimed: str
    rule: str
    children: frozenset[Descriptor]


class Repair:
    """The repair of one store. Every method raises StoreUnusable and DiskFull."""

    def __init__(
        self,
        store: BlobStore,
        files: Files,
        index: Index,
        io: RowHop,
        change: RowHop,
        listing: Listing,
        passages: Passages,
    ) -> None:
        self._store = store
        self._files = files
        self._index = index
        self._rows = index.proofs.repairs
        self._io = io
        self._change = change
        self._listing = listing
        self._passages = passages

    async def look(self) -> Differences:
        """What differs between the directory and what the store holds."""
        found, strays = await self._io(self._scan)
        held = dict(self._store.held.items())
        # What came or went while it was looked for is no difference.
        unknown = [(d, size) for d, size in found.items() if d not in held]
        wrong = [d for d, size in held.items() if found.get(d) != size and d in self._store.held]
        return Differences(tuple(unknown), tuple(strays), tuple(wrong))

    def _scan(self) -> tuple[dict[Digest, int], list[Path]]:
        strays = []
        with os_errors(f"cache root {self._files.root}"):
            for folder in layout.blob_folders(self._files.root):
                for path in folder.iterdir():
                    try:
                        Digest(folder.name, path.name)
                    except DigestInvalid:
                        strays.append(path)
        return self._files.sized(self._files.listed()), strays

    async def adopt(self, digest: Digest, size: int) -> bool:
        """Take in a file that the store does not know, if it is what it is called; else it is put
        aside. Whether it was taken in."""
        right = await self._is_right(digest, size)
        async with self._passages.leaving([digest]) as leaving:
            if digest not in leaving or digest in self._store.held:
                return True  # it has come meanwhile, or comes, as any blob does
            if right:
                await self._store.record(digest, size)
            else:
                await self._io(put_aside, self._files.root, digest)
        return right

    async def _is_right(self, digest: Digest, size: int) -> bool:
        reading = Reading(self._files, digest, size)
        try:
            with suppress(CacheError, OSError):
                while await self._io(reading.step, HOP):
                    continue
        finally:
            await asyncio.shield(self._io(reading.drop))
        return reading.at == size and reading.hex == digest.hex

    async def drop(self, stray: Path) -> None:
        """Remove a file that is no blob; a folder stays."""
        with suppress(CacheError):
            await self._io(_unlink, stray)

    async def known(self, digest: Digest) -> Known:
        """What the index knows of a blob."""
        return Known(*await self._change(self._rows.known, digest))

    async def relink(self, parent: Digest, links: Links) -> None:
        """Let a manifest that is here point to these and to nothing else."""
        await self._change(
            self._rows.relink, parent, links.media_type, tuple(links.children), links.rule
        )

    async def settle(self, *, dry_run: bool) -> list[tuple[str, bool]]:
        """Names that are whole though the index said no, and the other way round; put right."""
        changed = await self._change(self._unsettled)
        if changed and not dry_run:
            await self._change(self._rows.complete, changed)
        return changed

    def _unsettled(self) -> list[tuple[str, bool]]:
        names = [(n, self._index.is_complete(n.descriptor)) for n in self._index.names()]
        return [(name.name, whole) for name, whole in names if name.complete != whole]

    async def sweep(self, *, dry_run: bool) -> dict[str, int]:
        """Rows of content that is not here and that nothing needs, by table; dropped."""
        stray = await self._change(self._rows.stray)
        if any(stray.values()) and not dry_run:
            await self._change(self._rows.sweep)
        return stray

    async def end(self) -> None:
        """Let index.json say what is so now."""
        await self._listing.publish()


def _unlink(path: Path) -> None:
    with os_errors(str(path)):
        if path.is_symlink() or not path.is_dir():
            os.unlink(path)
