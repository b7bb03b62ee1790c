"""Pins: content that somebody wants kept, by a name that they chose, for a time or until it ends.

Invariants:
- a pin keeps a digest, whatever names mean it: a tag that moves on frees nothing that is pinned;
- it outlives the process; one that has run out keeps nothing, and is forgotten when one is made;
- names belong to their owner: two owners may have pins of the same name, each ends their own;
- a rule keeps what a pattern of names means, now or later, for as long as it has such a name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from cache.content import Digest
from cache.database import transaction
from cache.hops import RowHop
from cache.patterns import checked

#: Added to what keeps content at the time ?1.
PINNED = "UNION SELECT digest FROM pins WHERE expires IS NULL OR expires > ?1"
#: The rules at the time ?1.
RULES = (
    "SELECT pattern, expires FROM pin_rules WHERE expires IS NULL OR expires > ?1 ORDER BY pattern"
)
_COLUMNS = "owner, name, digest, reference, expires"


@dataclass(frozen=True, slots=True)
class Pin:
    """That ``owner`` ("": the cache's own) keeps a digest, which ``reference`` meant.

    ``expires``: until then (Unix seconds); None is until it is taken away.
    """

    owner: str
    name: str
    digest: Digest
    reference: str
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """That all names of a pattern are kept; ``configured``: by the configuration, not by a row."""

    pattern: str
    expires: float | None = None
    configured: bool = False


class PinRows:
    """The rows, by the index's connection; blocks, each method is one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, pin: Pin, now: float) -> None:
        """Record a pin, in the place of the same one with another end; forget what ran out."""
        with transaction(self._db):
            self._db.execute("DELETE FROM pins WHERE expires <= ?", (now,))
            self._db.execute(
                f"INSERT OR REPLACE INTO pins ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608 (our own text)
                (pin.owner, pin.name, str(pin.digest), pin.reference, pin.expires),
            )

    def all(self, now: float) -> list[Pin]:
        """The pins that have not run out, by owner, name and digest."""
        return self._pins("expires IS NULL OR expires > ?", now)

    def drop(self, owner: str, name: str) -> list[Pin]:
        """Take an owner's pins of this name away; gives them."""
        with transaction(self._db):
            gone = self._pins("owner = ? AND name = ?", owner, name)
            self._db.execute("DELETE FROM pins WHERE owner = ? AND name = ?", (owner, name))
        return gone

    def add_rule(self, rule: Rule, now: float) -> None:
        """Record a rule, in the place of the same one with another end; forget what ran out."""
        with transaction(self._db):
            self._db.execute("DELETE FROM pin_rules WHERE expires <= ?", (now,))
            values = (rule.pattern, rule.expires)
            self._db.execute("INSERT OR REPLACE INTO pin_rules VALUES (?, ?)", values)

    def rules(self, now: float) -> list[Rule]:
        """The rules that have not run out, by their patterns."""
        return [Rule(pattern, end) for pattern, end in self._db.execute(RULES, (now,))]

    def drop_rule(self, pattern: str, now: float) -> Rule | None:
        """Take a rule away; gives it."""
        with transaction(self._db):
            gone = [rule for rule in self.rules(now) if rule.pattern == pattern]
            self._db.execute("DELETE FROM pin_rules WHERE pattern = ?", (pattern,))
        return gone[0] if gone else None

    def _pins(self, where: str, *values: object) -> list[Pin]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM pins WHERE {where} ORDER BY owner, name, digest",  # noqa: S608 (clauses of this file)
            values,
        )
        return [Pin(owner, name, Digest.parse(d), ref, end) for owner, name, d, ref, end in rows]


class Pins:
    """The same for the event loop. Every method raises StoreUnusable, and DiskFull on writing."""

    def __init__(self, rows: PinRows, hop: RowHop, clock: Callable[[], float]) -> None:
        self._rows = rows
        self._hop = hop
        self.now = clock
        #: Patterns that are kept whatever the rows say.
        self.always: tuple[str, ...] = ()

    async def add(
        self, digest: Digest, *, name: str, owner: str = "", reference: str = "", ttl: float | None
    ) -> Pin:
        """Keep a digest (here or on its way) for ``ttl`` seconds, None: until it is dropped."""
        now = self.now()
        pin = Pin(owner, name, digest, reference, None if ttl is None else now + ttl)
        await self._hop(self._rows.add, pin, now)
        return pin

    async def all(self) -> list[Pin]:
        """The pins that count now, by owner, name and digest."""
        return await self._hop(self._rows.all, self.now())

    async def of(self, digest: Digest) -> list[Pin]:
        """The pins that keep just this digest now."""
        return [pin for pin in await self.all() if pin.digest == digest]

    async def drop(self, name: str, *, owner: str = "") -> list[Pin]:
        """Take an owner's pins of this name away; gives them."""
        return await self._hop(self._rows.drop, owner, name)

    # rules

    async def add_rule(self, pattern: str, *, ttl: float | None) -> Rule:
        """Keep what this pattern means for ``ttl`` seconds, None: until it is dropped.

        Raises PatternInvalid.
        """
        now = self.now()
        rule = Rule(checked(pattern), None if ttl is None else now + ttl)
        await self._hop(self._rows.add_rule, rule, now)
        return rule

    async def rules(self) -> list[Rule]:
        """The rules that count now: those of the configuration, then the others."""
        kept = await self._hop(self._rows.rules, self.now())
        return [*(Rule(pattern, configured=True) for pattern in self.always), *kept]

    async def drop_rule(self, pattern: str) -> Rule | None:
        """Take a rule away; gives it. One of the configuration stays."""
        return await self._hop(self._rows.drop_rule, pattern, self.now())
