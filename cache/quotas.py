"""Quotas: how much the images may have that one user's pulls have brought.

Invariants:
- an image is held by the user whose pull or push brought something of it, for as long as it has a
  name here, and by the users who have pinned it; what was here already costs nobody anything;
- a user's images count whole, with what was made of them, and what several of them share once;
- what somebody brings counts from before its first byte on, so that two cannot have the same room;
- where a user's own images have to go, those of nobody else do.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.content import Digest
from cache.database import transaction
from cache.errors import QuotaExceeded
from cache.hops import RowHop

if TYPE_CHECKING:
    from cache.room import Room

#: All that an owner (?1) holds at a time (?2): images by their digests.
_HELD = (
    "SELECT digest FROM holdings WHERE owner = ?1 AND digest IN (SELECT digest FROM names)"
    " UNION SELECT digest FROM pins WHERE owner = ?1 AND (expires IS NULL OR expires > ?2)"
)
_BELOW = (
    "WITH RECURSIVE below(digest) AS (SELECT digest FROM ({roots}) UNION SELECT child FROM links"
    " JOIN below ON parent = below.digest)"
    " SELECT digest, size FROM blobs WHERE digest IN (SELECT digest FROM below)"
)

_ADD_ABOVE = (
    "INSERT OR IGNORE INTO holdings SELECT ?1, digest FROM members WHERE repository = ?2"
    " AND digest IN (WITH RECURSIVE up(digest) AS (SELECT ?3 UNION SELECT parent FROM links"
    " JOIN up ON child = up.digest) SELECT digest FROM up)"
)

#: Bytes that an owner may hold, 0: as many as they like.
Limit = Callable[[str], int]


class HoldingRows:
    """Whose images are whose, by the index's connection; blocks."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, owner: str, digest: Digest) -> None:
        """Record that somebody brought an image; forget those that are here no more."""
        with transaction(self._db):
            self._db.execute(
                "DELETE FROM holdings WHERE digest NOT IN (SELECT digest FROM names)"
                " AND digest NOT IN (SELECT digest FROM blobs)"
            )
            self._db.execute("INSERT OR IGNORE INTO holdings VALUES (?, ?)", (owner, str(digest)))

    def add_above(self, owner: str, repository: str, digest: Digest) -> None:
        """Record that somebody brings a blob: of the images that need it, named or to be named."""
        with transaction(self._db):
            self._db.execute(_ADD_ABOVE, (owner, repository, str(digest)))

    def unnamed(self, digest: Digest) -> None:
        """An image has lost a name: without another it is nobody's; within a transaction."""
        self._db.execute(
            "DELETE FROM holdings WHERE digest = ?1"
            " AND NOT EXISTS (SELECT 1 FROM names WHERE digest = ?1)",
            (str(digest),),
        )

    def has_name(self, root: Digest) -> bool:
        """Whether an image has a name."""
        found = self._db.execute("SELECT 1 FROM names WHERE digest = ? LIMIT 1", (str(root),))
        return found.fetchone() is not None

    def release(self, owner: str, digests: Iterable[Digest]) -> None:
        """Let images be an owner's no more."""
        with transaction(self._db):
            self._db.executemany(
                "DELETE FROM holdings WHERE owner = ? AND digest = ?",
                [(owner, str(digest)) for digest in digests],
            )

    def roots(self, owner: str, now: float) -> set[Digest]:
        """The images that an owner holds."""
        return {Digest.parse(digest) for (digest,) in self._db.execute(_HELD, (owner, now))}

    def of_others(self, owner: str, now: float) -> set[Digest]:
        """The images that others than this owner hold."""
        return {
            digest
            for other in self.owners(now)
            if other != owner
            for digest in self.roots(other, now)
        }

    def owners(self, now: float) -> list[str]:
        """Who holds something, sorted."""
        rows = self._db.execute(
            "SELECT owner FROM holdings WHERE digest IN (SELECT digest FROM names) UNION"
            " SELECT owner FROM pins WHERE owner != '' AND (expires IS NULL OR expires > ?)"
            " ORDER BY owner",
            (now,),
        )
        return [owner for (owner,) in rows]

    def blobs(self, owner: str, now: float) -> dict[str, int]:
        """All blobs of an owner's images that are here, with their sizes."""
        return dict(self._db.execute(_BELOW.format(roots=_HELD), (owner, now)))

    def blobs_of(self, root: Digest) -> dict[str, int]:
        """The same of one image."""
        return dict(self._db.execute(_BELOW.format(roots="SELECT ?1 AS digest"), (str(root),)))


@dataclass(frozen=True, slots=True)
class Usage:
    """What an owner holds: bytes, images, and how many bytes they may (0: as many as they like)."""

    owner: str
    used: int
    images: int
    limit: int


class Quotas:
    """The quotas of a store. Every method raises StoreUnusable and DiskFull."""

    def __init__(
        self, room: Room, rows: HoldingRows, db: RowHop, clock: Callable[[], float]
    ) -> None:
        #: What somebody may hold; the cache's own user ("") is never asked for.
        self.limit: Limit = lambda _: 0
        self._room = room
        self._rows = rows
        self._db = db
        self._clock = clock
        self._turn = asyncio.Lock()
        self._coming: defaultdict[str, list[Mapping[str, int]]] = defaultdict(list)

    def bounds(self, owner: str) -> bool:
        """Whether there is a bound for this owner at all."""
        return bool(owner) and self.limit(owner) > 0

    async def hold(self, owner: str, digest: Digest) -> None:
        """Let an image that has a name be an owner's, who brought something of it."""
        if owner:
            await self._db(self._rows.add, owner, digest)

    async def is_found(self, digest: Digest) -> bool:
        """Whether an image has a name here already: who comes then brings nothing."""
        return await self._db(self._rows.has_name, digest)

    async def hold_above(self, owner: str, repository: str, digest: Digest) -> None:
        """The same for the images of a repository that need a blob which they bring."""
        await self._db(self._rows.add_above, owner, repository, digest)

    @asynccontextmanager
    async def coming(
        self, owner: str, blobs: Mapping[Digest, int], *, missing: Iterable[Digest] | None = None
    ) -> AsyncIterator[None]:
        """Within this block an owner brings these blobs, in bytes. Raises QuotaExceeded.

        ``missing`` are those that are not here, all of them unless said: what needs one stays.
        """
        new = {str(digest): size for digest, size in blobs.items()}
        if not new or not self.bounds(owner):
            yield
            return
        async with self._turn:
            await self._fit(owner, new, new if missing is None else map(str, missing))
            self._coming[owner].append(new)
        try:
            yield
        finally:
            self._coming[owner].remove(new)
            if not self._coming[owner]:
                del self._coming[owner]

    async def check_pin(self, owner: str, root: Digest) -> None:
        """Have room for an image that an owner wants kept. Raises QuotaExceeded."""
        if self.bounds(owner):
            async with self._turn:
                new = await self._db(self._rows.blobs_of, root)
                await self._fit(owner, new, new)

    async def _fit(self, owner: str, new: Mapping[str, int], sparing: Iterable[str]) -> None:
        """Let the owner's own images go until these have room. Raises QuotaExceeded."""
        limit = self.limit(owner)
        held = await self._db(self._rows.blobs, owner, self._clock())
        before = dict(held)
        for each in self._coming[owner]:
            before |= each
        used, after = sum(before.values()), sum({**before, **new}.values())
        if after <= limit or after == used:  # what is theirs already is not refused
            return
        needed = after - used
        if needed <= limit and await self._give_way(owner, after - limit, sparing):
            return
        raise QuotaExceeded(
            f"this needs {needed} bytes more in the cache, your images hold {used} of your quota of"
            f" {limit}, and what may go of them is not enough (what you have pinned or use stays):"
            " see registryctl cache quota, unpin images, or ask the cache's owner for more"
        )

    async def _give_way(self, owner: str, wanted: int, sparing: Iterable[str]) -> bool:
        """Let go what the owner used longest ago, so that they hold less; whether enough went."""
        now = self._clock()
        own = await self._db(self._rows.roots, owner, now)
        others = await self._db(self._rows.of_others, owner, now)
        spared = {Digest.parse(text) for text in sparing}
        gone = await self._room.give_way(own, others, spared, wanted)
        await self._db(self._rows.release, owner, gone)
        return bool(gone)

    async def usage(self, owner: str = "") -> list[Usage]:
        """What somebody holds; of everybody who holds something, unless one is named."""
        now = self._clock()
        owners = [owner] if owner else await self._db(self._rows.owners, now)
        return [await self._usage(each, now) for each in owners]

    async def _usage(self, owner: str, now: float) -> Usage:
        held = await self._db(self._rows.blobs, owner, now)
        roots = await self._db(self._rows.roots, owner, now)
        return Usage(owner, sum(held.values()), len(roots), self.limit(owner))
