"""What keeps blobs, and the rows of those that nothing does; blocks, by the index's connection.

Invariant: what some blobs are kept by is asked from them upwards, so that letting a few of them go
costs the same in a large cache as in a small one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

from cache.content import Digest
from cache.database import is_full, transaction
from cache.pins import PINNED

#: Everything reachable from the digests in the table ``roots``, themselves included.
CLOSURE = """
    WITH RECURSIVE closure(digest) AS (
        SELECT digest FROM ({roots})
        UNION SELECT child FROM links JOIN closure ON parent = digest WHERE {which}
    ) SELECT digest FROM closure
"""
#: Which links count: all of them, or those to what a manifest needs.
EVERY, NEEDED = "true", "rule != 'made'"
#: What keeps content beside names: leases and pins that have not run out.
_HOLDS = f"SELECT digest FROM leases WHERE expires > ?1 {PINNED}"  # noqa: S608 (our own text)
#: What keeps content: names (complete or not), and those.
_ROOTS = f"SELECT digest FROM names UNION {_HOLDS}"  # noqa: S608 (our own text)
#: A digest and everything that leads to it, each with whether a name means it.
_ABOVE = """
    WITH RECURSIVE up(digest) AS (
        SELECT ? UNION SELECT parent FROM links JOIN up ON child = up.digest
    ) SELECT digest, EXISTS (SELECT 1 FROM names WHERE names.digest = up.digest) FROM up
"""


def unreferenced(db: sqlite3.Connection, now: float) -> dict[Digest, int]:
    """Blobs that no name, no lease and no pin keeps, with sizes in bytes; by any connection."""
    query = CLOSURE.format(roots=_ROOTS, which=EVERY)
    rows = db.execute(
        f"SELECT digest, size FROM blobs WHERE digest NOT IN ({query})",  # noqa: S608 (our own text)
        (now,),
    )
    return {Digest.parse(digest): size for digest, size in rows}


class KeptRows:
    """Blobs that nothing keeps, and may go."""

    _db: sqlite3.Connection

    def collect(
        self, digests: Iterable[Digest], now: float, make_room: Callable[[Iterable[Digest]], None]
    ) -> dict[Digest, int]:
        """Drop those of these blobs that nothing keeps, with the links that start at them.

        Gives what was dropped, with sizes in bytes. A lease that was taken before is seen, and one
        taken after finds the blob gone. ``make_room`` removes their files first where the disk is
        too full to write even that down.
        """
        gone = self._free(digests, now)
        try:
            self._drop(gone)
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            make_room(gone)
            self._drop(gone)
        return gone

    def _free(self, digests: Iterable[Digest], now: float) -> dict[Digest, int]:
        """Those of these blobs that nothing keeps, with sizes in bytes."""
        held = {digest for (digest,) in self._db.execute(_HOLDS, (now,))}
        free = {}
        for digest in digests:
            query = "SELECT size FROM blobs WHERE digest = ?"
            row = self._db.execute(query, (str(digest),)).fetchone()
            if row is not None and not self._is_kept(str(digest), held):
                free[digest] = row[0]
        return free

    def _is_kept(self, digest: str, held: set[str]) -> bool:
        above = self._db.execute(_ABOVE, (digest,))
        return any(named or each in held for each, named in above)

    def _drop(self, digests: Iterable[Digest]) -> None:
        rows = [(str(digest),) for digest in digests]
        with transaction(self._db):
            self._db.executemany("DELETE FROM blobs WHERE digest = ?", rows)
            self._db.executemany("DELETE FROM links WHERE parent = ?", rows)
            self._db.executemany("DELETE FROM members WHERE digest = ?", rows)
