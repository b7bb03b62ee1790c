"""Follower: who reads a blob while it arrives, at their own pace."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cache.ingest import Ingest

Span = tuple[int, int]


class Follower:
    """A reader of an arriving blob at its own pace; iterate it once for the spans to read.

    ``fd`` stays readable after the commit renamed the file and after an abort removed it.
    """

    def __init__(
        self,
        ingest: Ingest,
        fd: int,
        start: int,
        stop: int,
        *,
        proven: bool = True,
        checked: bool = True,
    ) -> None:
        self.fd = fd
        self.start = start
        self.stop = stop
        self._ingest = ingest
        self._proven = proven
        self._checked = checked

    async def __aiter__(self) -> AsyncIterator[Span]:
        """Spans ``(offset, count)`` that can be read from ``fd`` now. Raises IngestAborted."""
        at = self.start
        while at < self.stop:
            here = self._ingest.available(at, proven=self._proven, checked=self._checked)
            reach = min(here, self.stop)
            if reach == at:
                await self._ingest.changed()
                continue
            yield at, reach - at
            at = reach
