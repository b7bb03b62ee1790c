"""A source that is read only while its registry allows some more requests.

Invariants:
- what costs an allowance is a manifest that is read: blobs and questions by HEAD cost nothing;
- a registry that says nothing of an allowance is not waited for;
- after each wait the registry is asked anew, by HEAD.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from cache.content import Descriptor, Digest
from registryd.oci.manifest import Document, IndexEntry
from registryd.ports import Body, Named, Referring
from registryd.transfer.report import Report

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Ration:
    """Wait ``patience`` seconds at a time while fewer than ``least`` requests are left."""

    least: int
    patience: float


class Readable(Named, Referring, Protocol):
    """A registry's image."""


class Rationed:
    """An image of a registry whose requests are counted."""

    def __init__(
        self,
        source: Readable,
        ration: Ration,
        left: Callable[[], int | None],
        report: Report,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._source = source
        self._ration = ration
        self._left = left
        self._report = report
        self._sleep = sleep

    async def resolve(self) -> Descriptor:
        """The root's descriptor. Raises as the source does."""
        return await self._source.resolve()

    async def root(self) -> Document:
        """The root, when there are requests to spare. Raises as the source does."""
        await self._spare()
        return await self._source.root()

    async def manifest(self, descriptor: Descriptor) -> Document:
        """A child, when there are requests to spare. Raises as the source does."""
        await self._spare()
        return await self._source.manifest(descriptor)

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[Body]:
        """A config or layer. Raises as the source does."""
        return self._source.blob(descriptor)

    async def referrers(self, digest: Digest) -> tuple[IndexEntry, ...]:
        """What is attached to a manifest. Raises as the source does."""
        await self._spare()
        return await self._source.referrers(digest)

    async def _spare(self) -> None:
        while (left := self._left()) is not None and left < self._ration.least:
            seconds = self._ration.patience
            self._report(
                {
                    "event": "waiting",
                    "message": f"{left} requests are left, {self._ration.least} are to be kept:"
                    f" waiting {round(seconds)} s",
                    "seconds": seconds,
                }
            )
            await self._sleep(seconds)
            await self._source.resolve()
