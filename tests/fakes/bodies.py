"""Bodies to push: ports.Body from memory, and openers that count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from registryd.ports import Body


class HeldBody:
    """A body from memory, in small pieces."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.start = 0
        self.total: int | None = len(content)
        self.source = "memory"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._content), 50_000):
            yield self._content[at : at + 50_000]


class Opener:
    """Opens the same body again and again, and counts."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.opened = 0
        self.closed = 0

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Body]:
        self.opened += 1
        try:
            yield HeldBody(self.content)
        finally:
            self.closed += 1
