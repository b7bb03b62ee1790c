"""A scripted registry that lets go of everything it holds back when its test has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

from typing_extensions import override

from tests.fakes.registry import FakeRegistry


class Upstream(FakeRegistry):
    """The registry; ``gates`` are opened at the end, so that a failed test ends too."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.gates: list[asyncio.Event] = []

    @override
    def stall(self, pattern: str, gate: asyncio.Event, at: int = 0, times: int | None = 1) -> None:
        self.gates.append(gate)
        super().stall(pattern, gate, at, times)

    @override
    @asynccontextmanager
    async def serve(self, **site: Any) -> AsyncIterator[Self]:
        async with super().serve(**site):
            try:
                yield self
            finally:
                for gate in self.gates:
                    gate.set()
