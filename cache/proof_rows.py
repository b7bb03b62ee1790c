"""When blobs were last proven, and what is known of one that turned out wrong; blocks, and runs in
the index's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from cache.content import Digest
from cache.database import transaction
from cache.repair_rows import RepairRows

#: Whether a name, or a pin that has not run out, needs this content.
_NEEDED = """
    WITH RECURSIVE up(digest) AS (
        SELECT ?1 UNION SELECT parent FROM links JOIN up ON child = up.digest WHERE rule != 'made'
    ) SELECT EXISTS (SELECT 1 FROM names WHERE digest IN (SELECT digest FROM up))
        OR EXISTS (SELECT 1 FROM pins WHERE digest IN (SELECT digest FROM up)
                   AND (expires IS NULL OR expires > ?2))
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where content can be had: the repositories it belongs to; ``manifest``: what kind it is.

    ``needed``: an image or a pin needs it.
    """

    repositories: tuple[str, ...]
    manifest: bool
    needed: bool


class ProofRows:
    """The rows of proofs, by the index's connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.repairs = RepairRows(db)

    def due(self, before: float, now: float, limit: int) -> list[Digest]:
        """Blobs last proven by ``before`` (Unix seconds), the longest ago first.

        What claims to have been proven later than now was proven by a clock that was wrong: it
        counts as proven now, so that it comes round again, and not all of it at once.
        """
        if self._db.execute("SELECT 1 FROM blobs WHERE proven > ? LIMIT 1", (now,)).fetchone():
            with transaction(self._db):
                self._db.execute("UPDATE blobs SET proven = ?1 WHERE proven > ?1", (now,))
        rows = self._db.execute(
            "SELECT digest FROM blobs WHERE proven <= ? ORDER BY proven LIMIT ?", (before, limit)
        )
        return [Digest.parse(digest) for (digest,) in rows]

    def since(self) -> float | None:
        """Since when every blob has been proven, Unix seconds (0: not all are); None: no blobs."""
        (oldest,) = self._db.execute("SELECT min(proven) FROM blobs").fetchone()
        return None if oldest is None else float(oldest)

    def proven(self, when: Mapping[Digest, float]) -> None:
        """Record when blobs were proven."""
        with transaction(self._db):
            self._db.executemany(
                "UPDATE blobs SET proven = ? WHERE digest = ?",
                [(at, str(digest)) for digest, at in when.items()],
            )

    def origin(self, digest: Digest, now: float) -> Origin:
        """Where content can be had that is not here any more."""
        text = str(digest)
        rows = self._db.execute(
            "SELECT repository FROM members WHERE digest = ? ORDER BY repository", (text,)
        )
        repositories = tuple(repository for (repository,) in rows)
        linked = self._db.execute("SELECT 1 FROM links WHERE parent = ? LIMIT 1", (text,))
        manifest = linked.fetchone() is not None
        (needed,) = self._db.execute(_NEEDED, (text, now)).fetchone()
        return Origin(repositories, manifest, bool(needed))
