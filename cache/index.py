"""The index of a store in SQLite: blobs, links, names, members, leases, last use.

Everything here blocks and runs in the store's one index thread. Invariants:
- each public method is one transaction: it happened, or it did not;
- the index never knows better than the directory: a blob that is not there is forgotten at start;
- losing the file loses names and links, never content; a damaged file is put aside, not used;
- it may raise sqlite3.Error; the store calls it inside ``sql_errors``, where that ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cache.changes import Changes
from cache.content import Descriptor, Digest
from cache.database import open_database, transaction
from cache.grants import GrantRows
from cache.kept_rows import CLOSURE, EVERY, NEEDED, KeptRows
from cache.made_rows import MadeRows
from cache.notes import NoteRows
from cache.pins import PinRows
from cache.proof_rows import ProofRows
from cache.repositories import RepositoryRows
from cache.table_rows import TableRows
from cache.whole import whole

Rule = Literal["all", "any"]

#: Everything that needs a digest, itself included.
_ABOVE = (
    "WITH RECURSIVE up(digest) AS (SELECT ? UNION SELECT parent FROM links JOIN up"
    " ON child = up.digest WHERE rule != 'made') SELECT digest FROM up"
)


@dataclass(frozen=True, slots=True)
class Name:
    """A name in the store: what it means, and when (Unix seconds) that was last checked."""

    name: str
    repository: str
    descriptor: Descriptor
    complete: bool
    checked: float


@dataclass(frozen=True, slots=True)
class Links:
    """What a manifest is and points to: ``all`` its children are needed, or ``any`` one."""

    media_type: str
    children: Sequence[Descriptor]
    rule: Rule


class Index(KeptRows):
    """The open database. Raises StoreUnusable or DiskFull when it cannot be opened.

    ``meanwhile`` is done while it is proven.
    """

    def __init__(self, path: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._db, _ = open_database(path, meanwhile=meanwhile)
        self.repositories = RepositoryRows(self._db)
        self.grants = GrantRows(self._db)
        self.made = MadeRows(self._db)
        self.pins = PinRows(self._db)
        self.proofs = ProofRows(self._db)
        self.tables = TableRows(self._db)
        self.notes = NoteRows(self._db)
        self.changes = Changes(self._db)

    def close(self) -> None:
        """Write everything out and close."""
        self._db.close()

    # blobs

    def known(self) -> dict[str, int]:
        """The blobs of the table by the digits of their digests, with their sizes in bytes."""
        return known(self._db)

    def reconcile(self, gone: Sequence[Digest], come: Mapping[Digest, int], now: float) -> None:
        """Make the blobs table say what the directory holds: what has gone from it and has come.

        Only names that need some of it are looked at: each change keeps the others right.
        """
        with self._transaction():
            self._db.executemany("DELETE FROM blobs WHERE digest = ?", [(str(d),) for d in gone])
            self._db.executemany(
                "INSERT INTO blobs (digest, size, added, used) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (digest) DO UPDATE SET size = excluded.size, proven = 0",
                [(str(digest), size, now, now) for digest, size in come.items()],
            )
            # Whoever held something was a task of a process that has ended: one at a time has us.
            self._db.execute("DELETE FROM leases")
            self._mark(self._needing([*gone, *come]))
        self.grants.sweep(now)

    def _needing(self, digests: Iterable[Digest]) -> list[Name]:
        """The names that need some of these digests, sorted."""
        if not self._db.execute("SELECT 1 FROM names LIMIT 1").fetchone():
            return []
        above = f"WHERE digest IN ({_ABOVE})"
        found = {name.name: name for each in digests for name in self._names(above, str(each))}
        return [found[name] for name in sorted(found)]

    def _mark(self, names: Iterable[Name]) -> None:
        """Mark each of these names complete, or not."""
        marks = [(self.is_complete(each.descriptor), each.name) for each in names]
        self._db.executemany("UPDATE names SET complete = ? WHERE name = ?", marks)

    def add_blob(
        self,
        digest: Digest,
        size: int,
        now: float,
        repository: str = "",
        links: Links | None = None,
    ) -> list[str]:
        """Record a blob that has just been published: where it belongs, what it points to.

        Gives the names that this made complete, or (by what it was not known to need) incomplete.
        """
        with self._transaction():
            self._db.execute(
                "INSERT INTO blobs (digest, size, added, used, proven) VALUES (?1, ?2, ?3, ?3, ?3)"
                " ON CONFLICT (digest) DO UPDATE SET used = excluded.used",
                (str(digest), size, now),
            )
            if repository:
                self._db.execute(
                    "INSERT OR IGNORE INTO members VALUES (?, ?)", (repository, str(digest))
                )
            told = links is not None and not self.children(digest)
            if links is not None:
                self._link(digest, links)
            return self._settle(digest, told=told)

    def _link(self, parent: Digest, links: Links) -> None:
        self._db.execute(
            "UPDATE blobs SET media_type = ? WHERE digest = ?", (links.media_type, str(parent))
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?, ?)",
            [
                (str(parent), str(child.digest), child.size, child.media_type, links.rule)
                for child in links.children
            ],
        )

    def touch(self, used: Mapping[Digest, float]) -> None:
        """Record when blobs were last used."""
        with self._transaction():
            self._db.executemany(
                "UPDATE blobs SET used = max(used, ?) WHERE digest = ?",
                [(when, str(digest)) for digest, when in used.items()],
            )

    def last_used(self, digests: Iterable[Digest]) -> float:
        """When the most recently used of these blobs was used (0.0 when none is known)."""
        rows = (
            self._db.execute("SELECT used FROM blobs WHERE digest = ?", (str(digest),)).fetchone()
            for digest in digests
        )
        return max((row[0] for row in rows if row), default=0.0)

    def add_member(self, repository: str, digests: Iterable[Digest]) -> None:
        """Record that these blobs were proven to belong to a repository."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO members VALUES (?, ?)",
                [(repository, str(digest)) for digest in digests],
            )

    def is_member(self, repository: str, digest: Digest) -> bool:
        """Whether a blob was proven to belong to a repository ("HOST/": to any of that host)."""
        own = "substr(repository, 1, length(?1))" if repository.endswith("/") else "repository"
        row = self._db.execute(
            f"SELECT 1 FROM members WHERE digest = ?2 AND {own} = ?1",  # noqa: S608 (our own text)
            (repository, str(digest)),
        ).fetchone()
        return row is not None

    def drop_member(self, repository: str, digest: Digest) -> bool:
        """Forget that a blob belongs to a repository; whether it did."""
        delete = "DELETE FROM members WHERE repository = ? AND digest = ?"
        with self._transaction():
            return self._db.execute(delete, (repository, str(digest))).rowcount > 0

    # links

    def children(self, parent: Digest) -> list[Descriptor]:
        """What a manifest points to, as it was linked."""
        rows = self._db.execute(
            "SELECT media_type, child, size FROM links WHERE parent = ? AND rule != 'made'",
            (str(parent),),
        )
        return [Descriptor(kind, Digest.parse(child), size) for kind, child, size in rows]

    def expected_size(self, digest: Digest) -> int | None:
        """The size that some manifest says this content has, whether it is here or not."""
        row = self._db.execute(
            "SELECT size FROM links WHERE child = ? LIMIT 1", (str(digest),)
        ).fetchone()
        return row[0] if row else None

    def media_type(self, digest: Digest) -> str:
        """The media type a stored manifest was linked with ("" for any other blob)."""
        row = self._db.execute(
            "SELECT media_type FROM blobs WHERE digest = ?", (str(digest),)
        ).fetchone()
        return row[0] if row else ""

    def is_complete(self, root: Descriptor) -> bool:
        """Whether the content is here with all (or, by its rule, any one) of what it points to."""
        query = CLOSURE.format(roots="SELECT ? AS digest", which=NEEDED)
        start = (str(root.digest),)
        blobs = f"SELECT digest FROM blobs WHERE digest IN ({query})"  # noqa: S608 (our own text)
        links = f"SELECT parent, child, rule FROM links WHERE parent IN ({query}) AND {NEEDED}"  # noqa: S608
        held = {digest for (digest,) in self._db.execute(blobs, start)}
        return str(root.digest) in whole(held, self._db.execute(links, start))

    def closure(self, root: Digest, made: bool = False) -> dict[Digest, int]:
        """Everything held that is reachable from a digest, itself included, with sizes in bytes.

        With ``made`` also what was made of it.
        """
        which = EVERY if made else NEEDED
        query = CLOSURE.format(roots="SELECT ? AS digest", which=which)
        rows = self._db.execute(
            f"SELECT digest, size FROM blobs WHERE digest IN ({query})",  # noqa: S608 (our own text)
            (str(root),),
        )
        return {Digest.parse(digest): size for digest, size in rows}

    # names

    def set_name(
        self, name: str, repository: str, descriptor: Descriptor, now: float
    ) -> tuple[Name, Name | None]:
        """Let a name mean this descriptor; gives what it means now, and what it meant before."""
        with self._transaction():
            before = self.name(name)
            entry = Name(name, repository, descriptor, self.is_complete(descriptor), now)
            self._db.execute(
                "INSERT OR REPLACE INTO names VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name, repository, str(descriptor.digest), descriptor.media_type, descriptor.size,
                 entry.complete, now),
            )  # fmt: skip
            if before is not None:
                self.tables.holdings.unnamed(before.descriptor.digest)
        return entry, before

    def check_name(self, name: str, digest: Digest, now: float) -> None:
        """Record that a name was found to mean this still; nothing if it means another by now."""
        with self._transaction():
            self._db.execute(
                "UPDATE names SET checked = ? WHERE name = ? AND digest = ?",
                (now, name, str(digest)),
            )

    def name(self, name: str) -> Name | None:
        """What a name means, or None."""
        found = self._names("WHERE name = ?", name)
        return found[0] if found else None

    def names(self, repository: str | None = None) -> list[Name]:
        """All names (of one repository), sorted."""
        if repository is None:
            return self._names("ORDER BY name")
        return self._names("WHERE repository = ? ORDER BY name", repository)

    def names_of(self, digest: Digest) -> list[Name]:
        """All names that mean this digest, sorted."""
        return self._names("WHERE digest = ? ORDER BY name", str(digest))

    def _names(self, where: str, *values: str) -> list[Name]:
        columns = "name, repository, media_type, digest, size, complete, checked"
        rows = self._db.execute(
            f"SELECT {columns} FROM names {where}",  # noqa: S608 (clauses of this file)
            values,
        )
        return [
            Name(name, repository, Descriptor(kind, Digest.parse(digest), size), bool(whole), at)
            for name, repository, kind, digest, size, whole, at in rows
        ]

    def drop_name(self, name: str) -> Name | None:
        """Forget a name; gives what it meant, or None."""
        with self._transaction():
            before = self.name(name)
            self._db.execute("DELETE FROM names WHERE name = ?", (name,))
            if before is not None:
                self.tables.holdings.unnamed(before.descriptor.digest)
        return before

    def _settle(self, arrived: Digest, *, told: bool) -> list[str]:
        """Mark the names complete whose closure became whole by ``arrived``; gives them.

        With ``told``, that its needs were not known before, also those that are not whole by them.
        """
        if told:
            return self._settle_anew(self._needing([arrived]))
        if not self._db.execute("SELECT 1 FROM names WHERE complete = 0 LIMIT 1").fetchone():
            return []
        return self._settle_anew(
            self._names(f"WHERE complete = 0 AND digest IN ({_ABOVE})", str(arrived))
        )

    def _settle_anew(self, names: Iterable[Name]) -> list[str]:
        """Mark each of these names complete, or not; gives those that were marked otherwise."""
        turned = [each for each in names if each.complete != self.is_complete(each.descriptor)]
        self._db.executemany(
            "UPDATE names SET complete = ? WHERE name = ?",
            [(not each.complete, each.name) for each in turned],
        )
        return [each.name for each in turned]

    def lose(self, digest: Digest) -> list[str]:
        """Forget that a blob is here, and nothing else of it; gives the names that need it."""
        with self._transaction():
            self._db.execute("DELETE FROM blobs WHERE digest = ?", (str(digest),))
            needing = self._needing([digest])
            self._mark(needing)
        return [entry.name for entry in needing]

    # leases and what may go

    def hold(self, lease: str, digests: Iterable[Digest], expires: float) -> None:
        """Keep these digests (here or on their way) until ``expires``, Unix seconds."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)",
                [(lease, str(digest), expires) for digest in digests],
            )

    def release(self, lease: str) -> None:
        """End a lease."""
        with self._transaction():
            self._db.execute("DELETE FROM leases WHERE lease = ?", (lease,))

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._db)


def known(db: sqlite3.Connection) -> dict[str, int]:
    """The same by any connection."""
    # The name of each algorithm has six letters.
    return dict(db.execute("SELECT substr(digest, 8), size FROM blobs"))
