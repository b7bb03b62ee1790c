"""Quotas as the API shows them.

Invariant: a user sees what they themselves hold; the owner sees everybody, and nobody any name.
"""

from __future__ import annotations

import asyncio

from cache.quotas import Usage
from cache.store import BlobStore
from registryd.operations.node import Result
from registryd.user_quotas import user_of


class Quoted:
    """Quotas. Every method raises Faults only."""

    _store: BlobStore

    async def quota(self, *, principal: str = "") -> Result:
        """What the caller holds, and may hold; to the owner, everybody who holds something."""
        found = await self._store.room.quotas.usage(principal)
        return {"quotas": [await _shown(each) for each in found]}


async def _shown(usage: Usage) -> Result:
    return {
        "owner": usage.owner,
        "user": await asyncio.to_thread(user_of, usage.owner),
        "used": usage.used,
        "images": usage.images,
        "quota": usage.limit or None,
    }
