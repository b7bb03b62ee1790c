"""Notes: what somebody worked out of a blob's content once, so as not to read it again.

Invariants:
- a blob never changes, so neither does what was made of it; the note goes when the blob goes;
- a note is a text, and means something to whoever wrote it alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from cache.database import transaction
from cache.hops import RowHop
from cache.reader import Reader

#: Notes that are written in one transaction: other work goes between.
TOGETHER = 256


class NoteRows:
    """The rows, by the index's connection; blocks, each method is one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, notes: Mapping[str, str]) -> None:
        """Record notes by digest, of blobs that are here."""
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR REPLACE INTO notes SELECT digest, ?2 FROM blobs WHERE digest = ?1",
                notes.items(),
            )


def _all(db: sqlite3.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT digest, text FROM notes"))


class Notes:
    """The same for the event loop. Every method raises StoreUnusable, and DiskFull on writing."""

    def __init__(self, rows: NoteRows, hop: RowHop, reader: Reader) -> None:
        self._rows = rows
        self._hop = hop
        self._reader = reader

    async def add(self, notes: Mapping[str, str]) -> None:
        """Record notes by digest, of blobs that are here."""
        items = list(notes.items())
        for at in range(0, len(items), TOGETHER):
            await self._hop(self._rows.add, dict(items[at : at + TOGETHER]))

    async def all(self) -> dict[str, str]:
        """All notes by digest."""
        return await self._reader(_all)
