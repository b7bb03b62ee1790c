"""Quotas as the API shows them.

Invariant: a user sees what they themselves hold; the owner sees everybody, and nobody any name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cache.content import Digest
from cache.quotas import Usage
from cache.store import BlobStore
from registryd.operations.node import Result
from registryd.user_quotas import charged, user_of


class Quoted:
    """Quotas. Every method raises Faults only."""

    _store: BlobStore

    async def quota(self, *, principal: str = "") -> Result:
        """What the caller holds, and may hold; to the owner, everybody who holds something."""
        found = await self._store.room.quotas.usage(principal)
        return {"quotas": [await _shown(each) for each in found]}

    @asynccontextmanager
    async def _named_for(self, principal: str, root: Digest) -> AsyncIterator[None]:
        """Within this block an image gets a name of the node's own: as nothing takes that away, it
        counts for the user who wants it, whoever has brought the image. Raises QuotaExceeded."""
        quotas, owner = self._store.room.quotas, charged(principal)
        if not owner:
            yield
            return
        async with quotas.coming(owner, await self._store.closure(root, made=True)):
            yield
            await quotas.hold(owner, root)


async def _shown(usage: Usage) -> Result:
    return {
        "owner": usage.owner,
        "user": await asyncio.to_thread(user_of, usage.owner),
        "used": usage.used,
        "images": usage.images,
        "quota": usage.limit or None,
    }
