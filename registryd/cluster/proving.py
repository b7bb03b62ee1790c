"""Proving: what becomes of a blob's chunks after they have come.

Invariants:
- a chunk is proven once at a time; a right one is believed from then on, a wrong one is forgotten
  at once and fetched again, and those who are being given it are cut off (its ``generation``);
- a chunk for which nobody speaks is asked about again from time to time. Where a reader waits for
  it, and the whole, which would prove it, is not on its way, the registry has to bring it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from cache.content import Digest
from registryd.cluster.checking import Checking, Verdict
from registryd.cluster.choosing import UPSTREAM
from registryd.cluster.company import Effort
from registryd.oci.errors import RegistryError
from registryd.ports import TransportError

#: Seconds between two tries to have a chunk proven for which nobody spoke, and how many at once.
ASK_AGAIN: Final = 3.0
AT_ONCE: Final = 4
#: Seconds for which somebody who asks for a chunk's hash is kept waiting for our own check.
PATIENCE: Final = 2.0

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Proving:
    """The proofs of one blob's chunks; ``spawn`` runs one beside the swarm's other tasks."""

    def __init__(self, effort: Effort, spawn: Spawn, bring_whole: Callable[[], None]) -> None:
        self.checking = Checking(effort)
        #: How often each chunk was found to be wrong.
        self.generations: Counter[int] = Counter()
        #: Ranges of the blob that readers on this node wait for.
        self.demands: list[tuple[int, int]] = []
        self._effort = effort
        self._spawn = spawn
        self._bring_whole = bring_whole
        self._busy: set[int] = set()
        self._unproven: dict[int, float] = {}
        self._news = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether a chunk is being proven."""
        return bool(self._busy)

    def came(self, chunk: int) -> None:
        """A chunk is here."""
        if chunk not in self._busy and self._spawn(self._prove(chunk)) is not None:
            self._busy.add(chunk)
            self._unproven.pop(chunk, None)

    def demanded(self) -> None:
        """Somebody waits for more: see to what nobody spoke for."""
        for chunk in [chunk for chunk in self._unproven if self._is_needed(chunk)]:
            self.came(chunk)

    def tick(self) -> None:
        """Time went by: ask again about chunks for which nobody spoke, those in need first."""
        before = self._effort.now - ASK_AGAIN
        waiting = [chunk for chunk, since in self._unproven.items() if since <= before]
        waiting.sort(key=lambda chunk: not self._is_needed(chunk))
        for chunk in waiting[:AT_ONCE]:
            self.came(chunk)

    async def word(self, chunk: int) -> Digest | None:
        """The hash of a chunk, if it is proven; one that is just being proven is waited for."""
        effort = self._effort
        if self._find(chunk) is None and effort.ingest.is_checked(*effort.geometry.span(chunk)):
            self.came(chunk)  # it was here from the beginning, or its hash was forgotten
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._find(chunk) is None and chunk not in self._unproven:
                    if effort.ingest.ended:
                        break
                    await self._news.wait()
        return self._find(chunk)

    def _find(self, chunk: int) -> Digest | None:
        return self._effort.company.hashes.find(self._effort.errand.digest, chunk)

    async def _prove(self, chunk: int) -> None:
        try:
            verdict = await self.checking.judge(chunk)
            if verdict is Verdict.UNPROVEN and self._is_needed(chunk):
                verdict = await self._settle(chunk)
        finally:
            self._busy.discard(chunk)
        if verdict is Verdict.RIGHT:
            self._effort.ingest.check(*self._effort.geometry.span(chunk))
        elif verdict is Verdict.WRONG:
            self._spoil(chunk)
        else:
            self._unproven[chunk] = self._effort.now
        self._leave_liars()
        self._tell()
        self._effort.told()

    def _spoil(self, chunk: int) -> None:
        effort = self._effort
        node, sure = self.checking.blame(chunk)
        effort.senders.pop(chunk, None)
        self.generations[chunk] += 1
        effort.ingest.forget(*effort.geometry.span(chunk))
        effort.fetching.spoilt(chunk, node, effort.now, sure=sure)

    def _leave_liars(self) -> None:
        """Nothing of a liar is kept that nobody has spoken for."""
        effort = self._effort
        for chunk in list(self._unproven):
            senders = {each.node for each in effort.senders.get(chunk, ())}
            if senders & effort.company.peers.liars:
                del self._unproven[chunk]
                self._spoil(chunk)

    async def _settle(self, chunk: int) -> Verdict:
        """Have the registry bring what nobody speaks for."""
        effort = self._effort
        span = effort.geometry.span(chunk)
        effort.company.counts.double["unproven"] += 1
        effort.company.counts.upstream += 1
        effort.ingest.forget(*span)
        try:
            await effort.errand.from_registry(*span)
        except (TransportError, RegistryError):
            # The chunk comes from peers again, and the rest with it: the whole proves itself.
            effort.fetching.spoilt(chunk, UPSTREAM, effort.now, sure=False)
            self._bring_whole()
            return Verdict.UNPROVEN
        effort.senders.pop(chunk, None)
        return await self.checking.judge(chunk)

    def _is_needed(self, chunk: int) -> bool:
        """Whether a reader waits for a chunk which only its own proof can give it."""
        start, stop = self._effort.geometry.span(chunk)
        return not self._effort.fetching.whole and any(
            first < stop and start < last for first, last in self.demands
        )

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
