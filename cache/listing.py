"""Listing: ``index.json``, kept true while names come and go.

Invariants:
- when ``publish`` returns, the file says what was so at some instant since it was called;
- nothing is written before ``restored``: what the file says may be known from nowhere else;
- callers that come while one writes are served together by the next write;
- what the file says already is not written again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable


class Listing:
    """The file, by what renders it and what puts it in its place.

    ``waits``: somebody will call ``restored``.
    """

    def __init__(
        self,
        render: Callable[[], Awaitable[bytes]],
        write: Callable[[bytes], Awaitable[None]],
        *,
        waits: bool = False,
    ) -> None:
        self._render = render
        self._write = write
        self._waits = waits
        self._lock = asyncio.Lock()
        self._stale = True
        self._written = b""  #: The hash of what it says; itself it may be large.

    def told(self, content: bytes) -> None:
        """The file says this, and nothing of it was lost: from now on it is written."""
        self._waits = self._stale = False
        self._written = hashlib.blake2b(content).digest()

    async def restored(self) -> None:
        """From now on the file is written: what it named and was lost is back, if it is here.

        Raises DiskFull and StoreUnusable.
        """
        self._waits = False
        await self.publish()

    async def publish(self) -> None:
        """Bring the file up to date; what fails is tried again by the next call.

        Raises DiskFull and StoreUnusable.
        """
        self._stale = True
        async with self._lock:
            if self._waits or not self._stale:
                return
            self._stale = False
            try:
                content = await self._render()
                seen = hashlib.blake2b(content).digest()
                if seen != self._written:
                    await self._write(content)
                    self._written = seen
            except BaseException:
                self._stale = True
                raise
