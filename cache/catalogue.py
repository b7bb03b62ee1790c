"""Catalogue: all complete images of a store at once, without reading the index for them.

Invariants:
- an answer has seen every change that was committed before it was asked for;
- it is made in the reader's thread: neither the loop nor a lookup waits for it;
- after a failure in the middle everything is read anew.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection
from typing import TypeVar

from cache.changes import Changed, Changes
from cache.graph import Graph, Shown
from cache.hops import RowHop
from cache.reader import Reader
from cache.uses import Uses

T = TypeVar("T")


class Catalogue:
    """The images of a store. Every method raises StoreUnusable."""

    def __init__(self, changes: Changes, db: RowHop, reader: Reader, uses: Uses) -> None:
        self._changes = changes
        self._db = db
        self._reader = reader
        self._uses = uses
        self._graph = Graph()
        self._sound = False
        self._turn = asyncio.Lock()

    async def shown(self, visible: Collection[str] | None = None) -> list[Shown]:
        """The complete names of these repositories (None: of all), sorted, with their images."""
        await self._uses.write()
        return await self.ask(lambda graph, _: graph.shown(visible))

    async def repositories(self) -> set[str]:
        """The repositories that have a complete name."""
        return await self.ask(lambda graph, _: graph.repositories())

    async def count(self) -> int:
        """How many names are complete."""
        return await self._reader(_count)

    async def ask(self, question: Callable[[Graph, sqlite3.Connection], T]) -> T:
        """What a question makes of the graph and of the rows as they are now; it keeps neither."""
        async with self._turn:
            sound, self._sound = self._sound, False
            changed = await self._db(self._changes.take)
            answer = await self._reader(self._answer, changed if sound else None, question)
            self._sound = True
            return answer

    def _answer(
        self,
        db: sqlite3.Connection,
        changed: Changed | None,
        question: Callable[[Graph, sqlite3.Connection], T],
    ) -> T:
        if changed is None or self._graph.worn:
            self._graph = Graph()
            self._graph.load(db)
        else:
            self._graph.update(db, changed)
        return question(self._graph, db)


def _count(db: sqlite3.Connection) -> int:
    (count,) = db.execute("SELECT count(*) FROM names WHERE complete").fetchone()
    return int(count)
