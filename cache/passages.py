"""Passages: no digest comes and goes at the same time.

Invariants:
- a digest that is being published and recorded is not removed meanwhile: removal leaves it out;
- a digest that is being removed is not published meanwhile: whoever publishes waits;
- removals come one after another.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from cache.content import Digest


class Passages:
    """Which digests are on their way in or out."""

    def __init__(self) -> None:
        self._removal = asyncio.Lock()
        self._leaving: frozenset[Digest] = frozenset()
        self._landing: Counter[Digest] = Counter()

    @asynccontextmanager
    async def landing(self, digest: Digest) -> AsyncIterator[None]:
        """Publish and record within this block; several may land the same digest at once."""
        if digest in self._leaving:
            async with self._removal:
                pass
        self._landing[digest] += 1
        try:
            yield
        finally:
            self._landing[digest] -= 1
            self._landing += Counter()  # drops the zeros

    @asynccontextmanager
    async def leaving(self, digests: Iterable[Digest]) -> AsyncIterator[frozenset[Digest]]:
        """Remove within this block those that it gives: the ones that are not landing."""
        async with self._removal:
            self._leaving = frozenset(d for d in digests if d not in self._landing)
            try:
                yield self._leaving
            finally:
                self._leaving = frozenset()
