"""Rounds: every blob of a store proven once in a period, in the background.

Invariants:
- what was proven longest ago comes first, by what the index has written down: a process that ends
  goes on where it stopped, and a verify or an arrival counts as a proof;
- a clock that jumps makes nothing spin (a blob is read once a look, at the pace given) and nothing
  stand still (a proof of the future counts as one of now; it looks again within ``LONGEST``);
- it stands back behind whoever wants the disk, and ends with the step that it is at.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

from cache.content import Digest
from cache.errors import Fault
from cache.hops import RowHop, hop
from cache.idle_io import stand_back
from cache.reading import HOP
from cache.scrub import Pace, Scrub

#: Blobs that are chosen at once.
BATCH: Final = 64
#: Seconds between two looks: the first spares the index, the second bounds what a clock costs.
SHORTEST, LONGEST = 10.0, 3600.0
#: Blobs of a look that could not be judged: it is not the blobs then.
MOST_FAULTS: Final = 3
#: Bytes of a step where there is a limit: what is let through at once is short then. Without one
#: the disk is kept busy by larger ones (measured: 1.1 of openssl's speed against 0.75).
STEP: Final = 4 << 20

_log = logging.getLogger(__name__)


class Rounds:
    """The rounds of one store."""

    def __init__(self, scrub: Scrub, pace: Pace) -> None:
        self._scrub = scrub
        self._pace = pace
        self._news = asyncio.Event()
        #: Seconds in which every blob is read once; 0: none is.
        self.period = 0.0
        self._step = STEP

    def change(self, period: float, *, limited: bool = True) -> None:
        """Go on with this period; ``limited``: the pace waits."""
        self.period, self._step = period, STEP if limited else HOP
        self._news.set()

    async def keep(self) -> None:
        """Go round; runs until it is cancelled."""
        thread = ThreadPoolExecutor(1, "cache-scrub", initializer=stand_back)
        try:
            while True:
                self._news.clear()
                rest = await self._looked(partial(hop, thread))
                try:
                    async with asyncio.timeout(rest):
                        await self._news.wait()
                except TimeoutError:
                    continue
        finally:
            thread.shutdown(wait=False)

    async def _looked(self, io: RowHop) -> float:
        try:
            return await self.look(io)
        except Fault as fault:
            _log.error("the cache could not be read again: %s", fault)
            return LONGEST

    async def look(self, io: RowHop) -> float:
        """Prove what is due now; gives the seconds until more can be. Raises Fault."""
        tried, faults, left = set[Digest](), 0, 0

        def unable(digest: Digest, fault: Fault) -> None:
            nonlocal faults
            faults += 1
            _log.warning("not to be judged now: blob=%s cause=%s", digest, fault)
            if faults >= MOST_FAULTS:
                raise fault

        while self.period:
            # What was tried and is due still (of a batch all, at most) comes before the rest.
            due = await self._scrub.due(self.period, left + 2 * BATCH)
            new = [digest for digest in due if digest not in tried][:BATCH]
            left = sum(digest in tried for digest in due)
            if not new:
                break
            tried.update(new)
            with suppress(_Stopped):
                await self._scrub.prove_all(
                    new, _silent, _silent, unable=unable, io=io, hop=self._step, pace=self._paced
                )
            await self._scrub.write()
        return await self._rest(faults > 0)

    async def _paced(self, count: int) -> None:
        if not self.period:
            raise _Stopped
        await self._pace(count)

    async def _rest(self, faulty: bool) -> float:
        since = await self._scrub.since()
        if not self.period or since is None or faulty:
            return LONGEST
        return min(max(since + self.period - self._scrub.clock(), SHORTEST), LONGEST)


class _Stopped(Exception):
    """Raised within a look when there is to be none any more."""


def _silent(*_: object) -> None:
    """Nobody is told: the scrub's watchers are."""
