"""Rows that a repair compares with the blobs, and puts right; blocks, in the index's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from cache.content import Descriptor, Digest
from cache.database import transaction

#: What is here, or needed by something that is named, pinned or leased.
_BELONGS = """
    WITH RECURSIVE needed(digest) AS (
        SELECT digest FROM names UNION SELECT digest FROM pins UNION SELECT digest FROM leases
        UNION SELECT digest FROM blobs
        UNION SELECT child FROM links JOIN needed ON parent = needed.digest
    ) SELECT digest FROM needed
"""
#: Of a digest: what an index that lists it, or a name, says it is.
_CLAIMED = (
    "SELECT media_type FROM names WHERE digest = ?1 UNION ALL"
    " SELECT media_type FROM links WHERE child = ?1 AND rule = 'any' LIMIT 1"
)


class RepairRows:
    """Links, names and rows of what is gone, by the index's connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def known(self, digest: Digest) -> tuple[str, str, str, frozenset[Descriptor]]:
        """Of a blob: the media type it was linked with, the one that others say it has, and its
        links: their rule ("" without any) and what they point to."""
        text = str(digest)
        row = self._db.execute("SELECT media_type FROM blobs WHERE digest = ?", (text,)).fetchone()
        claimed = self._db.execute(_CLAIMED, (text,)).fetchone()
        links = self._db.execute(
            "SELECT rule, media_type, child, size FROM links WHERE parent = ? AND rule != 'made'",
            (text,),
        ).fetchall()
        children = frozenset(Descriptor(kind, Digest.parse(c), size) for _, kind, c, size in links)
        own, said = (row[0] if row else ""), (claimed[0] if claimed else "")
        return own, said, (links[0][0] if links else ""), children

    def relink(
        self, parent: Digest, media_type: str, children: Sequence[Descriptor], rule: str
    ) -> None:
        """Let a manifest point to these, and to nothing else (but to what was made of it)."""
        text = str(parent)
        with transaction(self._db):
            self._db.execute("UPDATE blobs SET media_type = ? WHERE digest = ?", (media_type, text))
            self._db.execute("DELETE FROM links WHERE parent = ? AND rule != 'made'", (text,))
            self._db.executemany(
                "INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?, ?)",
                [(text, str(c.digest), c.size, c.media_type, rule) for c in children],
            )

    def complete(self, changed: Sequence[tuple[str, bool]]) -> None:
        """Record which names are whole, and which are not."""
        with transaction(self._db):
            self._db.executemany(
                "UPDATE names SET complete = ?2 WHERE name = ?1", [(n, int(w)) for n, w in changed]
            )

    def stray(self) -> dict[str, int]:
        """How many rows are of content that is not here and that nothing needs, by table."""
        return {
            table: self._db.execute(
                f"SELECT count(*) FROM {table} WHERE {column} NOT IN ({_BELONGS})"  # noqa: S608
            ).fetchone()[0]
            for table, column in (("links", "parent"), ("members", "digest"))
        }

    def sweep(self) -> None:
        """Drop those rows."""
        with transaction(self._db):
            for table, column in (("links", "parent"), ("members", "digest")):
                self._db.execute(
                    f"DELETE FROM {table} WHERE {column} NOT IN ({_BELONGS})"  # noqa: S608
                )
