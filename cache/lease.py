"""Lease: content that is kept while something is built on it."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable

from cache.content import Digest

#: How long a lease holds without being renewed, should its owner be killed (seconds).
LEASE_TTL = 3600.0


class Lease:
    """Keeps digests, here or on their way, from being collected; ends by itself in the end."""

    def __init__(
        self, hold: Callable[[str, Iterable[Digest], float], Awaitable[None]], ttl: float
    ) -> None:
        self.key = secrets.token_hex(8)
        self._hold = hold
        self._ttl = ttl

    async def hold(self, *digests: Digest) -> None:
        """Keep these too, for the whole time from now on."""
        await self._hold(self.key, digests, self._ttl)
