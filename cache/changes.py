"""Changes: which rows of the index were written since somebody last asked; blocks.

Invariants:
- SQLite itself tells of each row, by triggers of the one connection that writes: no way of writing
  can forget to say so;
- what is taken between two transactions was committed (or, after a failure, has not changed);
- they are a bounded number: beyond that, and before the first question, everything has changed.
"""

from __future__ import annotations

import sqlite3

#: The tables whose rows are told of, and by what: a name, a manifest (of its links), a blob.
TABLES = {"names": "name", "links": "parent", "blobs": "digest"}
#: More changed rows than this are not told apart: to read all again costs as much.
MOST = 50_000

#: Keys of rows, by their table.
Changed = dict[str, set[str]]


class Changes:
    """What was written by a connection. None stands for everything."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._changed: Changed | None = None
        db.create_function("changed", 2, self._note)
        for table, key in TABLES.items():
            for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
                db.execute(
                    f"CREATE TEMP TRIGGER {table}_{event} AFTER {event} ON main.{table}"
                    f" BEGIN SELECT changed('{table}', {row}.{key}); END"
                )

    def _note(self, table: str, key: str) -> None:
        if self._changed is not None:
            keys = self._changed[table]
            keys.add(key)
            if len(keys) > MOST:
                self._changed = None

    def take(self) -> Changed | None:
        """What was written since the last time; to be called between transactions."""
        taken, self._changed = self._changed, {table: set() for table in TABLES}
        return taken
