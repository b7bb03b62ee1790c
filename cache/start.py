"""Start: a cache root is locked, its index opened, and all that tells of it made to tell the same.

Blocks. Invariants:
- every name under ``blobs/`` is compared with the index at each start, however the last process
  ended: what went or came meanwhile (by hand, or by a kill between two steps) is found;
- the size of a blob that was known is taken from the index, and not asked of the file: a hundred
  thousand of these would be looked at. Whoever reads the file sees what it has;
- all is read while SQLite proves its file. What was read of one that is damaged is dropped.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cache.content import Digest
from cache.database import keep_private, read_only, sql_errors
from cache.files import Files
from cache.index import Index, known
from cache.layout import DATABASE
from cache.listing_rows import rendered
from cache.lost import Lost, lost


@dataclass(frozen=True)
class Started:
    """An open index, and the blobs that are here: their sizes by the digits of their digests.

    ``listing`` is what ``index.json`` says, if that is all that it ought to say; ``lost`` is what
    it alone says.
    """

    index: Index
    sizes: Mapping[str, int]
    listing: bytes | None
    lost: Lost


@dataclass
class _Glance:
    """What the directory holds, and what the index says: both as they are before they are one."""

    files: Files
    database: Path
    listed: set[str] = field(default_factory=set)
    known: dict[str, int] | None = None
    listing: bytes | None = None

    def __call__(self) -> None:
        self.listed, self.known, self.listing = self.files.listed(), None, None
        # There may be no tables yet, or older ones, or only damage.
        with suppress(sqlite3.Error), closing(read_only(self.database)) as db:
            self.listing = rendered(db)
            self.known = known(db)


def start(files: Files, now: float) -> Started:
    """Raises StoreLocked, StoreUnusable and DiskFull, and gives the root back then."""
    try:
        files.prepare()
        files.sweep()
        database = files.root / DATABASE
        keep_private(database)
        glance = _Glance(files, database)
        index = Index(database, glance)
        try:
            with sql_errors(database):
                return _agreed(index, glance, now)
        except BaseException:
            index.close()
            raise
    except BaseException:
        files.release()
        raise


def _agreed(index: Index, glance: _Glance, now: float) -> Started:
    sizes = index.known() if glance.known is None else glance.known
    gone = sizes.keys() - glance.listed
    come = glance.files.sized(glance.listed - sizes.keys())
    index.reconcile([Digest.of_hex(digits) for digits in gone], come, now)
    for digits in gone:
        del sizes[digits]
    sizes |= {digest.hex: size for digest, size in come.items()}
    content = glance.files.read_index()
    if not (gone or come) and content and content == glance.listing:
        return Started(index, sizes, content, ([], []))
    return Started(index, sizes, None, lost(glance.files, index))
