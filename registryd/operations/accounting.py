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
from registryd.operations.holdings import Holdings
from registryd.operations.node import Result


class Accounting(Holdings):
    """Where the room goes. Every method raises Faults only."""

    async def df(self, *, principal: str = "") -> Result:
        """The account of the cache, the images that take the most alone first."""
        names = await self._visible(principal)
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
