"""Grants: who was seen to be let into a repository, and until when; and the secrets of the index.

Invariants:
- a grant that has run out admits nobody, but is remembered for a while: ``covers(expired=True)``
  tells what was open when its registry could last be asked; a revoked one leaves nothing behind;
- a principal is what the caller of this module makes of a user or a login: never a password.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cache.database import transaction
from cache.hops import RowHop
from cache.memo import Memo

#: How long (seconds) a grant is remembered after it ran out, should its registry be away then.
KEPT = 30 * 86400.0
#: Bytes of a secret that is made here.
SECRET_SIZE = 32


@dataclass(frozen=True, slots=True)
class Grant:
    """That a principal may read a repository until ``expires`` (Unix seconds)."""

    repository: str
    principal: str
    expires: float


class GrantRows:
    """The rows, by the index's connection; blocks, each method is one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, grant: Grant) -> None:
        """Record a grant, in the place of an earlier one."""
        with transaction(self._db):
            self._db.execute(
                "INSERT OR REPLACE INTO grants VALUES (?, ?, ?)",
                (grant.repository, grant.principal, grant.expires),
            )

    def until(self, repository: str, principals: Sequence[str]) -> float:
        """When the last of these principals' grants runs out, 0.0 for none."""
        marks = ", ".join("?" * len(principals))
        row = self._db.execute(
            f"SELECT max(expires) FROM grants WHERE repository = ? AND principal IN ({marks})",  # noqa: S608 (question marks)
            (repository, *principals),
        ).fetchone()
        return float(row[0] or 0.0)

    def open_to(self, principals: Sequence[str], now: float) -> set[str]:
        """The repositories that one of these principals has a grant for."""
        marks = ", ".join("?" * len(principals))
        rows = self._db.execute(
            f"SELECT DISTINCT repository FROM grants WHERE expires > ? AND principal IN ({marks})",  # noqa: S608 (question marks)
            (now, *principals),
        )
        return {repository for (repository,) in rows}

    def all(self, now: float) -> list[Grant]:
        """The grants that have not run out, sorted by repository and principal."""
        rows = self._db.execute(
            "SELECT repository, principal, expires FROM grants WHERE expires > ?"
            " ORDER BY repository, principal",
            (now,),
        )
        return [Grant(*row) for row in rows]

    def revoke(self, repository: str | None, principal: str | None) -> list[Grant]:
        """Forget grants, those that ran out too; None means any. Gives what was forgotten."""
        where = "(?1 IS NULL OR repository = ?1) AND (?2 IS NULL OR principal = ?2)"
        with transaction(self._db):
            rows = self._db.execute(
                f"SELECT repository, principal, expires FROM grants WHERE {where}"  # noqa: S608 (our own text)
                " ORDER BY repository, principal",
                (repository, principal),
            ).fetchall()
            self._db.execute(f"DELETE FROM grants WHERE {where}", (repository, principal))  # noqa: S608 (our own text)
        return [Grant(*row) for row in rows]

    def sweep(self, now: float) -> None:
        """Forget those that ran out long ago."""
        with transaction(self._db):
            self._db.execute("DELETE FROM grants WHERE expires <= ?", (now - KEPT,))

    def secret(self, name: str) -> bytes:
        """A secret of this cache by its name: random, made when it is first asked for."""
        with transaction(self._db):
            self._db.execute(
                "INSERT OR IGNORE INTO secrets VALUES (?, ?)",
                (name, secrets.token_bytes(SECRET_SIZE)),
            )
            row = self._db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
        return bytes(row[0])


class Grants:
    """The same for the event loop. Every method raises StoreUnusable, and DiskFull on writing."""

    def __init__(self, rows: GrantRows, hop: RowHop, clock: Callable[[], float]) -> None:
        self._rows = rows
        self._hop = hop
        self._clock = clock
        self._until = Memo(rows.until, hop)

    async def add(self, repository: str, principal: str, ttl: float) -> None:
        """Record that a principal was let into a repository, for ``ttl`` seconds."""
        self._until.forget()
        await self._hop(self._rows.add, Grant(repository, principal, self._clock() + ttl))

    async def covers(
        self, repository: str, principals: Sequence[str], *, expired: bool = False
    ) -> bool:
        """Whether one of these principals has a grant; with ``expired`` also one that ran out."""
        until = await self._until.answer(repository, tuple(principals))
        return until > (0.0 if expired else self._clock())

    async def open_to(self, principals: Sequence[str]) -> set[str]:
        """The repositories that one of these principals has a grant for."""
        return await self._hop(self._rows.open_to, principals, self._clock())

    async def all(self) -> list[Grant]:
        """The live grants, sorted by repository and principal."""
        return await self._hop(self._rows.all, self._clock())

    async def revoke(
        self, repository: str | None = None, principal: str | None = None
    ) -> list[Grant]:
        """Forget grants, None means any; gives what was forgotten."""
        self._until.forget()
        return await self._hop(self._rows.revoke, repository, principal)

    async def secret(self, name: str) -> bytes:
        """A secret of this cache by its name: random bytes that stay the same over restarts."""
        return await self._hop(self._rows.secret, name)
