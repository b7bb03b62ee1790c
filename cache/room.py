"""Room: a store kept within its bounds, by letting go what is wanted least.

Invariants:
- nothing is let in that does not fit, and nothing goes for what would not fit all the same;
- what is let in counts at its whole size from then on, so that two cannot have the same room;
- one decides at a time; what was leased, pinned or named anew since the decision stays;
- the name goes first, then the content.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from cache.bounds import Bounds
from cache.catalogue import Catalogue
from cache.content import Descriptor, Digest
from cache.errors import DiskFull, Fault, StoreUnusable
from cache.eviction import Busy, Choice, Table, Verdict, choose, give_way
from cache.files import Files, Leftover
from cache.hops import RowHop
from cache.ingest import Ingest
from cache.listing import Listing
from cache.opened import opened
from cache.quotas import Quotas
from cache.shares import Shares, count
from cache.table_rows import TableRows, read_table
from cache.uses import Uses

if TYPE_CHECKING:
    from cache.store import BlobStore

#: What was chosen may have been leased before it went: so often is chosen anew.
TRIES = 3
#: Images that go in one step, which costs about the same for one: all of the index is looked at.
TOGETHER = 64
#: Seconds in which nothing more goes in the background once too little could: looking costs too.
PAUSE = 5.0

#: What says who goes by a table, by what it cannot know, and by the time.
_Rule = Callable[[Table, Busy, float], Choice]

_log = logging.getLogger(__name__)


class Room:
    """The room of a store. Every method raises StoreUnusable and DiskFull."""

    def __init__(
        self,
        store: BlobStore,
        files: Files,
        rows: TableRows,
        db: RowHop,
        catalogue: Catalogue,
        change: RowHop,
        listing: Listing,
        uses: Uses,
    ) -> None:
        self.bounds = Bounds()
        self._alone: tuple[str, ...] = ()
        self._store = store
        self._files = files
        self._rows = rows
        self._catalogue = catalogue
        self._change = change
        self._listing = listing
        self._uses = uses
        self._clock = uses.clock
        self.quotas = Quotas(self, rows.holdings, db, self._clock)
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._let_in: dict[Ingest, int] = {}
        store.held.watch(self._changed)

    def bound(self, bounds: Bounds, alone: tuple[str, ...] = ()) -> None:
        """Keep these from now on, and images whose names begin so, as nobody could give them again.

        What is too much by now goes in the background.
        """
        self.bounds, self._alone = bounds, alone
        self._news.set()

    def _changed(self, digest: Digest, size: int | None) -> None:
        if size is not None and not self.bounds.none:
            self._news.set()

    def used(self) -> int:
        """Bytes that are taken: of blobs, and of what is arriving."""
        self._let_in = {each: size for each, size in self._let_in.items() if not each.ended}
        return self._store.size + sum(
            max(self._let_in.get(ingest, 0), ingest.held.total) for ingest in self._store.arriving()
        )

    async def let_in(self, ingest: Ingest, size: int | None) -> None:
        """Have room for what is arriving, as soon as its size is known; let other content go for
        it. Raises DiskFull."""
        if self.bounds.none or size is None or self._let_in.get(ingest, -1) >= size:
            return
        async with self._turn:
            await self._fit(size - max(self._let_in.get(ingest, 0), ingest.held.total))
            self._let_in[ingest] = size

    async def check(self, ingest: Ingest, size: int) -> None:
        """Raise DiskFull where it could not be let in now; nothing goes for that yet."""
        if self.bounds.none:
            return
        async with self._turn:
            coming = size - max(self._let_in.get(ingest, 0), ingest.held.total)
            must = self.bounds.must(*await self._state(coming)) if coming > 0 else 0
            if must:
                freed = sum(each.bytes for each in await self._leftovers())
                freed += (await self._choice(must)).freed
                if freed < must:
                    raise self._full(coming, must, freed)

    async def expect(self, size: int) -> None:
        """The same for so many bytes that come at once, or will soon. Raises DiskFull."""
        if not self.bounds.none:
            async with self._turn:
                await self._fit(size)

    async def expect_all(self, blobs: Iterable[Descriptor]) -> None:
        """The same for blobs that will be fetched; what is here or arriving counts already."""
        arriving = self._arriving()
        new = {each.digest: each.size for each in blobs if each.digest not in arriving}
        await self.expect(sum(size for d, size in new.items() if self._store.find(d) is None))

    async def _fit(self, size: int) -> None:
        if size <= 0:  # what is here already is not refused, however little room there is
            return
        if 0 < self.bounds.max_size < size:  # whatever went, it would not fit: not worth a look
            raise self._full(size, size - self.bounds.max_size, 0)
        for _ in range(TRIES):
            used, free = await self._state(size)
            must, wanted = self.bounds.must(used, free), self.bounds.should(used, free)
            if not must:
                if wanted:
                    self._news.set()
                return
            if await self._drop_leftovers(must):
                continue
            choice = await self._choice(wanted)
            if choice.freed < must:
                raise self._full(size, must, choice.freed)
            await self._carry_out(choice)
        raise self._full(size, self.bounds.must(*await self._state(size)), 0)

    def _full(self, size: int, must: int, freed: int) -> DiskFull:
        bounds = self.bounds
        return DiskFull(
            f"{self._store.root}: no room for {size} bytes more: {must} have to go, and only"
            f" {freed} may (max_size {bounds.max_size}, min_free {bounds.min_free}); the rest is"
            " pinned, in use or nowhere else to be had; see registryctl cache gc --dry-run, unpin"
            " or remove images, or give the cache more room"
        )

    async def _state(self, size: int = 0) -> tuple[int, int]:
        """Bytes taken and bytes left on the disk, once ``size`` more have come."""
        free = await asyncio.to_thread(self._files.free_bytes) if self.bounds.min_free else 0
        used = self.used() + sum(each.bytes for each in await self._leftovers())
        coming = sum(max(0, most - each.held.total) for each, most in self._let_in.items())
        return used + size, free - coming - size

    async def shares(self, shown: Collection[Digest]) -> Shares:
        """Where the room goes: of these images, and of all that is not theirs."""
        await self._uses.write()
        now, always = self._clock(), self._store.pins.always
        busy = Busy(arriving=self._arriving(), alone=self._alone)
        return await self._catalogue.ask(
            lambda graph, db: count(
                replace(read_table(graph, db, now, always), made=graph.made()), busy, shown, now
            )
        )

    async def _leftovers(self) -> list[Leftover]:
        """What was broken off and nobody goes on with, the oldest first."""
        found = await asyncio.to_thread(self._files.leftovers)
        arriving = self._arriving()
        return [each for each in found if each.digest not in arriving]

    async def _drop_leftovers(self, wanted: int) -> bool:
        """Give up what was broken off, the oldest first, for so many bytes; whether any was."""
        dropped = 0
        for each in await self._leftovers():
            if dropped >= wanted:
                break
            with suppress(StoreUnusable):  # somebody goes on with it after all
                ingest = await self._store.ingest(each.digest)
                await self._store.abort(ingest, DiskFull("its room was needed"), discard=True)
                dropped += each.bytes
                _log.info("gave up what was broken off: blob=%s bytes=%d", each.digest, each.bytes)
        return dropped > 0

    async def plan(self, wanted: int | None = None) -> Choice:
        """What would go now, so that the low mark is kept, or ``wanted`` bytes become free."""
        async with self._turn:
            return await self._choice(await self._wanted(wanted), told=True)

    async def collect(self, wanted: int | None = None) -> Choice:
        """Let go what goes by ``plan``; gives what has gone, and what stays."""
        async with self._turn:
            choice = await self._choice(await self._wanted(wanted), told=True)
            return replace(choice, going=await self._carry_out(choice))

    async def _wanted(self, wanted: int | None) -> int:
        return self.bounds.should(*await self._state()) if wanted is None else wanted

    async def keep(self) -> None:
        """Let content go whenever the high mark is passed; runs until it is cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                if not await self._go_down():
                    await asyncio.sleep(PAUSE)
            except Fault as fault:
                _log.error("the cache could not be made smaller: %s", fault)

    async def _go_down(self) -> bool:
        """Let go what had better go; whether that was enough."""
        async with self._turn:
            wanted = self.bounds.should(*await self._state())
            if not wanted:
                return True
            choice = await self._choice(wanted)
            await self._carry_out(choice)
            return choice.freed >= wanted

    async def give_way(
        self,
        own: AbstractSet[Digest],
        others: AbstractSet[Digest],
        spared: AbstractSet[Digest],
        wanted: int,
    ) -> set[Digest]:
        """Let go of somebody's own images for so many bytes of theirs, but what others have too or
        needs what is ``spared``; the images that are theirs no more, none where it is not enough.
        """
        async with self._turn:
            choice = await self._chosen(
                lambda table, busy, _: give_way(table, busy, own, spared, wanted)
            )
            if choice.freed < wanted:
                return set()
            alone = [each for each in choice.going if each.digest not in others]
            await self._carry_out(replace(choice, going=tuple(alone)))
            return {each.digest for each in choice.going}

    async def _choice(self, wanted: int, *, told: bool = False) -> Choice:
        """What may go for so many bytes; ``told``, what stays too."""
        return await self._chosen(
            lambda table, busy, now: choose(table, busy, wanted, now, told=told)
        )

    async def _chosen(self, rule: _Rule) -> Choice:
        """What goes by a rule. What it would touch is looked at, whether somebody has it open."""
        await self._uses.write()
        now, always = self._clock(), self._store.pins.always
        busy = Busy(alone=self._alone)
        looked: set[Digest] = set()
        while True:
            busy = replace(busy, arriving=self._arriving())
            choice = await self._decided(rule, busy, now, always)
            new = choice.digests - looked
            found = await asyncio.to_thread(opened, self._store.root, new)
            if not found:
                return choice
            looked |= new
            busy = replace(busy, opened=busy.opened | found)

    async def _decided(self, rule: _Rule, busy: Busy, now: float, always: Sequence[str]) -> Choice:
        return await self._catalogue.ask(
            lambda graph, db: rule(read_table(graph, db, now, always), busy, now)
        )

    def _arriving(self) -> frozenset[Digest]:
        ingests = self._store.arriving()
        return frozenset(each.expected for each in ingests if each.expected is not None)

    async def _carry_out(self, choice: Choice) -> tuple[Verdict, ...]:
        """Let it go; gives what has gone. What nobody named goes first: it needs no room to go."""
        spare = [each for each in choice.going if not each.names]
        named = [each for each in choice.going if each.names]
        done = await self._let_go(spare)
        for at in range(0, len(named), TOGETHER):
            done += await self._let_go(await self._forget(named[at : at + TOGETHER]))
        return tuple(done)

    async def _forget(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Take the names of images away; gives those that nobody keeps by now."""
        named = [(each.digest, each.names) for each in verdicts]
        always = self._store.pins.always
        kept = await self._change(self._rows.forget, named, self._clock(), always)
        with suppress(DiskFull):  # written once there is room, which is what they go for
            await self._listing.publish()
        return [each for each in verdicts if each.digest not in kept]

    async def _let_go(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Remove the content of images whose names are gone, or that never had any."""
        if not verdicts:
            return []
        gone = await self._store.remove({digest for each in verdicts for digest in each.frees})
        done = [
            replace(each, frees={digest: gone[digest] for digest in each.frees if digest in gone})
            for each in verdicts
        ]
        done = [each for each in done if each.frees or each.names]
        for each in done:
            _log.info(
                "evicted: %s bytes=%d last_used=%.0f why=%s",
                f"image={' '.join(each.names)}" if each.names else f"blob={each.digest}",
                each.bytes,
                each.used,
                each.why,
            )
        return done
