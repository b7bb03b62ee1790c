"""A scripted registry that keeps requests waiting before it does anything with them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from aiohttp import web
from typing_extensions import override

from tests.fakes.http import Reply
from tests.fakes.registry import FakeRegistry


class HeldRegistry(FakeRegistry):
    """The registry: ``stall`` holds an answer back, ``hold`` what was asked from being done."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._held: list[tuple[str, asyncio.Event]] = []

    def hold(self, pattern: str) -> asyncio.Event:
        """Requests with this in them ("METHOD /path?query") wait until the event is set."""
        gate = asyncio.Event()
        self._held.append((pattern, gate))
        return gate

    def release(self) -> None:
        """Nobody waits any more."""
        for _, gate in self._held:
            gate.set()

    @override
    async def respond(self, request: web.BaseRequest) -> Reply:
        line = f"{request.method} {request.raw_path}"
        for pattern, gate in self._held:
            if re.search(pattern, line):
                await gate.wait()
        return await super().respond(request)

    @override
    @asynccontextmanager
    async def serve(self, **site: Any) -> AsyncIterator[Self]:
        async with super().serve(**site):
            try:
                yield self
            finally:
                self.release()
