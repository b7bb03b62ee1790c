"""The rows that eviction is decided by; blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from cache.content import Digest
from cache.database import transaction
from cache.eviction import Table
from cache.graph import Graph
from cache.patterns import matcher
from cache.pins import RULES
from cache.quotas import HoldingRows

_PINNED = "SELECT digest FROM pins WHERE expires IS NULL OR expires > ?"
_LEASED = "SELECT digest FROM leases WHERE expires > ?"


def read_table(
    graph: Graph, db: sqlite3.Connection, now: float, always: Sequence[str] = ()
) -> Table:
    """What is held, as the graph says, and what keeps it now; by any connection to the index.

    Names of the patterns ``always`` are pinned in any case.
    """
    return graph.table(
        [digest for (digest,) in db.execute(_PINNED, (now,))],
        [digest for (digest,) in db.execute(_LEASED, (now,))],
        _meant(db, now, always),
    )


def _meant(db: sqlite3.Connection, now: float, always: Sequence[str]) -> Callable[[str], bool]:
    """What says of a name whether a rule keeps it."""
    return matcher([*always, *(pattern for pattern, _ in db.execute(RULES, (now,)))])


class TableRows:
    """Names that go, by the index's connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.holdings = HoldingRows(db)

    def names(self) -> set[str]:
        """All names, and nothing of what they mean: as cheap as can be."""
        return {name for (name,) in self._db.execute("SELECT name FROM names")}

    def forget(
        self,
        images: Iterable[tuple[Digest, Sequence[str]]],
        now: float,
        always: Sequence[str] = (),
    ) -> set[Digest]:
        """Take their names from images, but from those that somebody keeps by now; gives these."""
        is_kept = f"SELECT 1 WHERE ?1 IN ({_PINNED}2) OR ?1 IN ({_LEASED}2)"
        kept = set()
        with transaction(self._db):
            meant = _meant(self._db, now, always)
            for digest, names in images:
                text = str(digest)
                if any(map(meant, names)) or self._db.execute(is_kept, (text, now)).fetchone():
                    kept.add(digest)
                    continue
                self._db.executemany(
                    "DELETE FROM names WHERE name = ? AND digest = ?",
                    [(name, text) for name in names],
                )
                self.holdings.unnamed(digest)
        return kept
