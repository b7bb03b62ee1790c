"""Accounting: where the room of the cache goes, by image and in all.

Invariant:
- a caller learns of the images that they were let into, as if no others were here; of the rest
  there are totals alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from cache.bounds import Bounds
from cache.content import Digest
from cache.index import Name
from cache.shares import Share, Shares
from cache.store import BlobStore
from registryd.operations.node import Node, Result


class Accounting:
    """Where the room goes. Every method raises Faults only."""

    _node: Node
    _store: BlobStore

    async def df(self, *, principal: str = "") -> Result:
        """The account of the cache, the images that take the most alone first."""
        names = await self._readable(principal)
        shares = await self._store.room.shares({name.descriptor.digest for name in names})
        return {
            "root": str(self._store.root),
            "blobs": len(self._store),
            "size": self._store.size,
            # Beside the loop: for all images of a large cache it could not wait.
            "images": await asyncio.to_thread(_images, names, shares.images),
            **_totals(shares),
            **await self._store.usage(),
            **_bounds(self._store.room.bounds),
        }

    async def _readable(self, principal: str) -> list[Name]:
        """The whole images that the caller may see; each repository is asked for once."""
        names = [name for name in await self._store.names() if name.complete]
        if not principal:
            return names
        repositories = {name.repository for name in names}
        may_read = self._node.access.may_read
        seen = {each for each in repositories if await may_read(principal, each)}
        return [name for name in names if name.repository in seen]


def _images(names: Sequence[Name], shares: Mapping[Digest, Share]) -> list[Result]:
    rows = ((name, shares[name.descriptor.digest]) for name in names)
    return [
        {
            "reference": name.name,
            "digest": str(name.descriptor.digest),
            "size": share.size,
            "own_size": share.own,
            "shared_size": share.size - share.own,
        }
        for name, share in sorted(rows, key=lambda row: (-row[1].own, -row[1].size, row[0].name))
    ]


def _totals(shares: Shares) -> Result:
    return {
        "unique_size": shares.unique,
        "shared_size": shares.shared,
        "unreferenced": shares.spare,
        "other_size": shares.other,
        "saved": shares.saved,
        "made_size": shares.made,
        "reclaimable": shares.leaving,
    }


def _bounds(bounds: Bounds) -> Result:
    return {
        "max_size": bounds.max_size,
        "high_water": bounds.high,
        "low_water": bounds.low,
        "min_free": bounds.min_free,
    }
