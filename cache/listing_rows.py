"""The rows that ``index.json`` tells of; blocks, by any connection to the index."""

from __future__ import annotations

import sqlite3

from cache.layout import render_index


def rendered(db: sqlite3.Connection) -> bytes:
    """``index.json`` as it ought to be now: the names that are complete, and what was made here."""
    names = db.execute("SELECT name, media_type, digest, size FROM names WHERE complete ORDER BY 1")
    made = db.execute(
        "SELECT parent, links.media_type, child, links.size FROM links"
        " JOIN blobs ON blobs.digest = child WHERE rule = 'made' ORDER BY parent, child"
    )
    return render_index(names, made)
