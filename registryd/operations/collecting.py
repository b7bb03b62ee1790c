"""Collecting: what goes from the cache so that there is room, said beforehand or done.

Invariant:
- only the owner of the daemon removes what others may be using, or sees what would go.
"""

from __future__ import annotations

import asyncio

from cache.eviction import Verdict
from cache.store import BlobStore
from registryd.oci.errors import Denied
from registryd.operations.holdings import moment
from registryd.operations.node import Result
from registryd.units import parse_size


class Collecting:
    """Room on the disk. Every method raises Faults only."""

    _store: BlobStore

    async def gc(
        self, *, dry_run: bool = False, free: str | None = None, principal: str = ""
    ) -> Result:
        """Let go what no image needs, and images down to the low mark or until ``free`` are free.

        With ``dry_run`` only say what would go. Raises Denied, UsageError.
        """
        if principal:
            raise Denied("only the owner of the daemon removes what others may be using")
        wanted, room = None if free is None else parse_size(free), self._store.room
        choice = await (room.plan(wanted) if dry_run else room.collect(wanted))
        staying = await asyncio.to_thread(lambda: [_verdict(each) for each in choice.staying])
        return {
            "dry_run": dry_run,
            "going": [_gone(each) for each in choice.going],
            "staying": staying,  # all images of a large cache take longer than the loop may wait
            "freed": choice.freed,
            "size": self._store.size,
            "max_size": room.bounds.max_size,
        }


def _gone(verdict: Verdict) -> Result:
    return {**_verdict(verdict), "size": verdict.bytes, "blobs": len(verdict.frees)}


def _verdict(verdict: Verdict) -> Result:
    return {
        "digest": str(verdict.digest),
        "references": list(verdict.names),
        "last_used": moment(verdict.used),
        "why": verdict.why,
    }
