"""Repositories: which there are, and what in them is attached to what.

Invariants:
- a repository is what its members make it: it is there while it has one;
- a referrer is listed only while its manifest is here and a member of the repository: the tables
  see to the second by a trigger, the queries to the first;
- a page is bounded by the bytes of what it lists, and has one entry at least.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from cache.content import Descriptor, Digest
from cache.database import transaction
from cache.hops import RowHop


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that is attached to another one, as a list of referrers shows it."""

    descriptor: Descriptor
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Page:
    """A stretch of a list, and whether there is more behind it."""

    referrers: tuple[Referrer, ...]
    more: bool


class RepositoryRows:
    """The rows, by the index's connection; blocks, each method is one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def refer(self, repository: str, subject: Digest, referrer: Referrer) -> None:
        """Record what a member of the repository is attached to; nothing if it is none by now."""
        manifest = referrer.descriptor
        with transaction(self._db):
            self._db.execute(
                "INSERT OR REPLACE INTO referrers SELECT ?, ?, digest, ?, ?, ?, ? FROM members"
                " WHERE repository = ? AND digest = ?",
                (repository, str(subject), manifest.size, manifest.media_type,
                 referrer.artifact_type, json.dumps(dict(referrer.annotations)),
                 repository, str(manifest.digest)),
            )  # fmt: skip

    def referrers(
        self,
        repository: str,
        subject: Digest,
        artifact_type: str | None,
        last: str,
        limit: int | None,
        room: int,
    ) -> Page:
        """What is attached to a digest, by digest after ``last``: ``limit`` entries at most.

        A page ends where its annotations would have more than ``room`` bytes.
        """
        rows = self._db.execute(
            "SELECT referrers.media_type, digest, referrers.size, artifact_type, annotations"
            " FROM referrers JOIN blobs USING (digest)"
            " WHERE repository = ? AND subject = ? AND digest > ?"
            " AND (? IS NULL OR artifact_type = ?) ORDER BY digest",
            (repository, str(subject), last, artifact_type, artifact_type),
        )
        found: list[Referrer] = []
        for kind, digest, size, artifact, labels in rows:
            room -= len(labels)
            if len(found) == limit or (found and room < 0):
                rows.close()
                return Page(tuple(found), more=True)
            descriptor = Descriptor(kind, Digest.parse(digest), size)
            found.append(Referrer(descriptor, artifact, json.loads(labels)))
        return Page(tuple(found), more=False)

    def listing(self, repository: str, child: Digest, limit: int) -> list[Digest]:
        """Some of the repository's indexes that list a manifest; sorted."""
        rows = self._db.execute(
            "SELECT parent FROM links JOIN members ON members.digest = links.parent"
            " WHERE child = ? AND repository = ? AND rule = 'any' ORDER BY parent LIMIT ?",
            (str(child), repository, limit),
        )
        return [Digest.parse(parent) for (parent,) in rows]

    def exists(self, repository: str) -> bool:
        """Whether a repository has anything."""
        row = self._db.execute(
            "SELECT 1 FROM members WHERE repository = ? LIMIT 1", (repository,)
        ).fetchone()
        return row is not None

    def below(self, prefix: str) -> list[str]:
        """The repositories that have a manifest by name, and begin with this; sorted."""
        rows = self._db.execute(
            "SELECT DISTINCT repository FROM names WHERE substr(repository, 1, ?) = ?"
            " ORDER BY repository",
            (len(prefix), prefix),
        )
        return [repository for (repository,) in rows]

    def is_member_below(self, prefix: str, digest: Digest) -> bool:
        """Whether some repository that begins with this has a blob."""
        row = self._db.execute(
            "SELECT 1 FROM members WHERE digest = ? AND substr(repository, 1, ?) = ? LIMIT 1",
            (str(digest), len(prefix), prefix),
        ).fetchone()
        return row is not None

    def holding(self, prefix: str, digest: Digest, limit: int) -> list[str]:
        """Some of the repositories that begin with this and have a blob; sorted."""
        rows = self._db.execute(
            "SELECT repository FROM members WHERE digest = ? AND substr(repository, 1, ?) = ?"
            " ORDER BY repository LIMIT ?",
            (str(digest), len(prefix), prefix, limit),
        )
        return [repository for (repository,) in rows]


class Repositories:
    """The same for the event loop. Every method raises StoreUnusable, and DiskFull on writing."""

    def __init__(self, rows: RepositoryRows, hop: RowHop) -> None:
        self._rows = rows
        self._hop = hop

    async def refer(self, repository: str, subject: Digest, referrer: Referrer) -> None:
        """Record what a member of the repository is attached to."""
        await self._hop(self._rows.refer, repository, subject, referrer)

    async def referrers(
        self,
        repository: str,
        subject: Digest,
        *,
        artifact_type: str | None = None,
        last: str = "",
        limit: int | None = None,
        room: int,
    ) -> Page:
        """A page of what is attached to a digest, sorted by digest, after ``last``."""
        return await self._hop(
            self._rows.referrers, repository, subject, artifact_type, last, limit, room
        )

    async def listing(self, repository: str, child: Digest, limit: int) -> list[Digest]:
        """Some of the repository's indexes that list a manifest; sorted."""
        return await self._hop(self._rows.listing, repository, child, limit)

    async def exists(self, repository: str) -> bool:
        """Whether a repository has anything."""
        return await self._hop(self._rows.exists, repository)

    async def below(self, prefix: str) -> list[str]:
        """The repositories that have a manifest by name, and begin with this; sorted."""
        return await self._hop(self._rows.below, prefix)

    async def is_member_below(self, prefix: str, digest: Digest) -> bool:
        """Whether some repository that begins with this has a blob."""
        return await self._hop(self._rows.is_member_below, prefix, digest)

    async def holding(self, prefix: str, digest: Digest, limit: int) -> list[str]:
        """Some of the repositories that begin with this and have a blob; sorted."""
        return await self._hop(self._rows.holding, prefix, digest, limit)
