"""The rows of what was made here of stored manifests; blocks, each method is one transaction."""

from __future__ import annotations

import sqlite3

from cache.content import Descriptor, Digest
from cache.database import transaction


class MadeRows:
    """The links of the rule ``made``, by the index's connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def of(self, subject: Digest) -> list[Descriptor]:
        """What was made of a manifest, and is kept as long as that is."""
        rows = self._db.execute(
            "SELECT media_type, child, size FROM links WHERE parent = ? AND rule = 'made'",
            (str(subject),),
        )
        return [Descriptor(kind, Digest.parse(child), size) for kind, child, size in rows]

    def add(self, subject: Digest, made: Descriptor) -> None:
        """Record what was made of a manifest."""
        with transaction(self._db):
            self._db.execute(
                "INSERT OR REPLACE INTO links VALUES (?, ?, ?, ?, 'made')",
                (str(subject), str(made.digest), made.size, made.media_type),
            )

    def all(self) -> list[tuple[Digest, Descriptor]]:
        """All that is here of it, each with what it was made of; sorted."""
        rows = self._db.execute(
            "SELECT parent, links.media_type, child, links.size FROM links"
            " JOIN blobs ON blobs.digest = child WHERE rule = 'made' ORDER BY parent, child"
        )
        return [
            (Digest.parse(subject), Descriptor(kind, Digest.parse(child), size))
            for subject, kind, child, size in rows
        ]
