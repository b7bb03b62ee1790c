"""Reader: a second connection to the index, for answers that take all of it.

Invariants:
- it only reads, and has a thread of its own: who looks something up waits for no long answer;
- an answer is of one instant, and has seen every change that was committed before it was asked for.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate

from cache.database import read_only, sql_errors
from cache.hops import P, T, hop


class Reader:
    """Reads a database that an index has open. A call raises StoreUnusable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "cache-reader")
        self._db: sqlite3.Connection | None = None
        self._asked = False

    def __call__(
        self,
        act: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Future[T]:
        """What an act makes of what there is now; it runs in the reader's thread."""

        def read() -> T:
            with sql_errors(self._path):
                if self._db is None:
                    self._db = read_only(self._path)
                self._db.execute("BEGIN")
                try:
                    return act(self._db, *args, **kwargs)
                finally:
                    self._db.execute("ROLLBACK")

        self._asked = True
        return hop(self._thread, read)

    async def close(self) -> None:
        """End what it reads, and close."""
        try:
            if self._asked:  # what opens it may be under way yet, and nobody waits for it
                await hop(self._thread, self._end)
        finally:
            self._thread.shutdown(wait=False)

    def _end(self) -> None:
        if self._db is not None:
            self._db.close()
