"""One conversion under way, shared by all who ask for it.

Invariants:
- it goes on while anybody waits, whoever began it; with the last one who leaves it ends;
- once it is let go nobody joins it any more: who comes then begins another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from cache.errors import Fault, IngestAborted
from registryd.conversion.recipe import Recipe
from registryd.oci.manifest import Manifest

#: How often (seconds) those who wait are told how far it is.
INTERVAL = 0.2


class Stopped(Fault):
    """Raised in the thread of a conversion that nobody waits for any more."""


class Run:
    """A conversion by ``work``; ``offset`` of ``total`` bytes of layers have been read.

    Each layer is read twice: for the plan, and for its files.
    """

    def __init__(
        self,
        manifest: Manifest,
        recipe: Recipe,
        work: Callable[[Run], Awaitable[Manifest | None]],
        outcome: str = "made",
        *,
        able: bool = True,
    ) -> None:
        """``outcome`` is what it is counted as when it ends well; ``able``: this node could make it
        by itself.
        """
        self.manifest = manifest
        self.recipe = recipe
        self.work = work
        self.outcome = outcome
        self.able = able
        self.offset = 0
        self.total = 2 * sum(layer.size for layer in manifest.layers)
        self.over = False
        self.task: asyncio.Task[None] | None = None
        #: How many wait for it.
        self.waiters = 0
        loop = asyncio.get_running_loop()
        self._made: asyncio.Future[Manifest | None] = loop.create_future()

    def count(self, read: int) -> None:
        """Bytes of a layer were read, by a thread. Raises Stopped."""
        self.offset += read
        if self.over:
            raise Stopped("nobody waits for it any more")

    def reached(self, offset: int, total: int) -> None:
        """Another node has read so many bytes."""
        self.offset, self.total = offset, total or self.total

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within this somebody waits; to be entered before the first await after joining."""
        self.waiters += 1
        try:
            yield
        finally:
            self.waiters -= 1
            if not self.waiters and not self._made.done():
                self.over = True
                if self.task is not None:
                    self.task.cancel()

    async def made(self, tell: Callable[[int, int], None]) -> Manifest | None:
        """The manifest of what was made; tells how far it is. Raises why there is none."""
        while not self._made.done():
            await asyncio.wait([self._made], timeout=INTERVAL)
            if not self._made.done():
                tell(min(self.offset, self.total), self.total)
        made = self._made.result()
        if made is not None:
            tell(self.total, self.total)  # what no file needs is not read a second time
        return made

    def end(self, made: Manifest | None) -> None:
        """It is done."""
        if not self._made.done():
            self._made.set_result(made)

    def fail(self, error: Exception) -> None:
        """There is nothing, for this reason."""
        if not self._made.done():
            self._made.set_exception(error)
            self._made.exception()  # it may be that nobody is left to ask

    def stopped(self) -> None:
        """It was stopped, unless it has ended by itself."""
        self.fail(IngestAborted(f"the conversion of {self.manifest.digest} was stopped"))
