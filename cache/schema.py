"""The tables of ``cache.db`` and how an older file becomes a newer one.

``user_version`` counts the steps of ``MIGRATIONS`` that a file has been through.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from cache.errors import StoreUnusable
from cache.layout import DATABASE

MIGRATIONS = (
    """
    CREATE TABLE blobs (
        digest TEXT PRIMARY KEY, size INTEGER NOT NULL, media_type TEXT NOT NULL DEFAULT '',
        added REAL NOT NULL, used REAL NOT NULL
    ) WITHOUT ROWID;
    -- what a manifest or index points to; 'all': each child is needed, 'any': one is enough
    CREATE TABLE links (
        parent TEXT NOT NULL, child TEXT NOT NULL, size INTEGER NOT NULL,
        media_type TEXT NOT NULL, rule TEXT NOT NULL CHECK (rule IN ('all', 'any')),
        PRIMARY KEY (parent, child)
    ) WITHOUT ROWID;
    CREATE INDEX links_by_child ON links (child);
    -- complete: its closure is here, so images lists it and index.json names it
    CREATE TABLE names (
        name TEXT PRIMARY KEY, repository TEXT NOT NULL, digest TEXT NOT NULL,
        media_type TEXT NOT NULL, size INTEGER NOT NULL, complete INTEGER NOT NULL,
        checked REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX names_by_repository ON names (repository);
    CREATE INDEX names_by_digest ON names (digest);
    CREATE INDEX names_incomplete ON names (digest) WHERE complete = 0;
    -- a blob that was proven to belong to a repository: fetched from it, or pushed to it
    CREATE TABLE members (
        repository TEXT NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (repository, digest)
    ) WITHOUT ROWID;
    CREATE INDEX members_by_digest ON members (digest);
    -- who was seen to be let into a repository, until when
    CREATE TABLE grants (
        repository TEXT NOT NULL, principal TEXT NOT NULL, expires REAL NOT NULL,
        PRIMARY KEY (repository, principal)
    ) WITHOUT ROWID;
    CREATE TABLE leases (
        lease TEXT NOT NULL, digest TEXT NOT NULL, expires REAL NOT NULL,
        PRIMARY KEY (lease, digest)
    ) WITHOUT ROWID;
    """,
    """
    -- which member of a repository is attached to what (its subject need not be here)
    CREATE TABLE referrers (
        repository TEXT NOT NULL, subject TEXT NOT NULL, digest TEXT NOT NULL,
        size INTEGER NOT NULL, media_type TEXT NOT NULL, artifact_type TEXT NOT NULL,
        annotations TEXT NOT NULL,
        PRIMARY KEY (repository, subject, digest)
    ) WITHOUT ROWID;
    CREATE INDEX referrers_by_digest ON referrers (digest);
    CREATE TRIGGER referrers_leave AFTER DELETE ON members BEGIN
        DELETE FROM referrers WHERE repository = OLD.repository AND digest = OLD.digest;
    END;
    """,
    """
    -- random bytes by which this cache signs and salts; losing them ends sessions, nothing else
    CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    -- one more rule, 'made': the child was made here of the parent, which needs it for nothing
    CREATE TABLE links_new (
        parent TEXT NOT NULL, child TEXT NOT NULL, size INTEGER NOT NULL,
        media_type TEXT NOT NULL, rule TEXT NOT NULL CHECK (rule IN ('all', 'any', 'made')),
        PRIMARY KEY (parent, child)
    ) WITHOUT ROWID;
    INSERT INTO links_new SELECT parent, child, size, media_type, rule FROM links;
    DROP TABLE links;
    ALTER TABLE links_new RENAME TO links;
    CREATE INDEX links_by_child ON links (child);
    -- index.json tells of all that was made, and is rendered whenever a name is set
    CREATE INDEX links_made ON links (parent, child) WHERE rule = 'made';
    """,
    """
    -- what somebody wants kept, and until when (NULL: until they say otherwise)
    CREATE TABLE pins (
        owner TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, reference TEXT NOT NULL,
        expires REAL,
        PRIMARY KEY (owner, name, digest)
    ) WITHOUT ROWID;
    """,
    """
    -- when the bytes of a blob were last seen to be its digest's (0: not known)
    ALTER TABLE blobs ADD COLUMN proven REAL NOT NULL DEFAULT 0;
    CREATE INDEX blobs_by_proven ON blobs (proven);
    """,
    """
    -- patterns of names that are kept, and until when (NULL: until somebody says otherwise)
    CREATE TABLE pin_rules (pattern TEXT PRIMARY KEY, expires REAL) WITHOUT ROWID;
    -- whose pull or push brought an image here; it is theirs for as long as it has a name
    CREATE TABLE holdings (
        owner TEXT NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (owner, digest)
    ) WITHOUT ROWID;
    """,
    """
    -- what somebody worked out of a blob's content once
    CREATE TABLE notes (digest TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
    CREATE TRIGGER notes_leave AFTER DELETE ON blobs BEGIN
        DELETE FROM notes WHERE digest = OLD.digest;
    END;
    """,
)


def migrate(
    connection: sqlite3.Connection, steps: Sequence[str] = MIGRATIONS, file: str = DATABASE
) -> bool:
    """Bring a file up to date by these steps, a transaction each; whether it was empty before.

    Raises StoreUnusable if it comes from a newer registryd.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(steps):
        raise StoreUnusable(
            f"{file} has schema {version}, this registryd knows {len(steps)}: upgrade it,"
            " or go back as docs/disk.md says"
        )
    for step in range(version, len(steps)):
        connection.executescript(f"BEGIN;{steps[step]};PRAGMA user_version = {step + 1};COMMIT;")
    return bool(version == 0)
