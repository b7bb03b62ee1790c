"""Lookups, written down many at a time: a job's thousand tasks look their image up at once.

Invariant: what was noted is on disk a second later, or when somebody asks for it; a daemon that is
killed loses that second and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from cache.errors import Fault
from registryd.gateway.record import Lookup

#: Seconds for which lookups are gathered.
GATHERED: Final = 1.0

_log = logging.getLogger(__name__)


class Notes:
    """Lookups that are not written down yet."""

    def __init__(self, write: Callable[[Sequence[Lookup]], Awaitable[None]]) -> None:
        self._write = write
        self._noted: list[Lookup] = []
        self._news = asyncio.Event()

    def add(self, lookup: Lookup) -> None:
        """Note one."""
        self._noted.append(lookup)
        self._news.set()

    async def flush(self) -> None:
        """Write down what was noted. Raises StoreUnusable, DiskFull."""
        if self._noted:
            noted, self._noted = self._noted, []
            await self._write(noted)

    async def run(self) -> None:
        """Write down what is noted, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(GATHERED)
            try:
                await self.flush()
            except Fault as fault:
                _log.error("gateway: lookups are not written down: %s", fault)
