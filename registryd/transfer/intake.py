"""Intake: how the bytes of one blob come from a Fetcher into an Ingest.

Invariants:
- what is here is not asked for again: after a break the next request begins at the byte reached;
- tries are counted only while nothing comes: any progress begins the count anew;
- receiving and writing overlap: one thread hop of about ``HOP`` bytes is under way while the next
  bytes come in, never more, so a blob in flight needs about two hops of memory a connection;
- the first range is the probe: there is one connection until a range has come as it was asked for;
- a source that ignores ranges is followed on one connection, from its first byte;
- of a blob that is not wanted whole only what is demanded is asked for, and no byte beside; when
  nobody reads any more, a chunk that has been given in part is brought to its end, and that is all.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass

from cache.content import Digest
from cache.ingest import Ingest
from registryd.config import TransferConfig
from registryd.oci.errors import RangeInvalid
from registryd.oci.reference import Reference
from registryd.ports import Body, Bounded, Fetcher, TransportError, Wired
from registryd.rates import Pace, Rates
from registryd.transfer.batch import HOP, Batch
from registryd.transfer.groups import task_group
from registryd.transfer.growth import Growth, Widths
from registryd.transfer.lanes import Lanes
from registryd.transfer.lines import receive
from registryd.transfer.patience import LowSpeed, Patience
from registryd.transfer.stretches import (
    CHUNK,
    Plan,
    Stretch,
    chunks,
    shorten_at,
)

#: Connections for what somebody waits for: it is little, or they read it slower than it comes.
URGENT = 4

#: Requests under way, and what each was given to bring.
Connections = dict[asyncio.Task[None], Stretch]

#: Has room for what is arriving, whose size is known now.
LetIn = Callable[[Ingest, int], Awaitable[None]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Want:
    """A blob to be made present: from which repository, and by whom.

    ``size`` is what the caller's manifest says, and must be true. ``guess`` is what some manifest
    of the cache says, which anybody may have written: it only plans how to ask.
    """

    fetcher: Fetcher
    repository: Reference
    digest: Digest
    size: int | None = None
    guess: int | None = None
    #: It is of no registry: another node has made it, and the fetcher brings it from there.
    made: bool = False
    #: Only a lower store has it: the fetcher is asked for nothing.
    lower: bool = False


class Intake:
    """Fetches one blob, or the parts of it that are demanded, into an ingest."""

    def __init__(
        self,
        want: Want,
        ingest: Ingest,
        settings: TransferConfig,
        *,
        whole: bool = True,
        rates: Rates | None = None,
        lanes: Lanes | None = None,
        widths: Widths | None = None,
        let_in: LetIn | None = None,
    ) -> None:
        """``let_in`` is told the size of the whole before its first byte comes, and may refuse."""
        self.source = want.repository.registry
        self.received = 0
        self.whole = ingest.keeps_up = whole
        self._want = want
        self._ingest = ingest
        self._settings = settings
        self._rates = rates or Rates()
        self._lanes = lanes or Lanes()
        self._plan = Plan(settings.range_size)
        self._news = asyncio.Event()
        self._ordinary: Connections = {}
        self._urgent: Connections = {}
        self._width = (widths or Widths()).of(want.repository.registry)
        self._growth = Growth(self._width, settings.ranges, asyncio.get_running_loop().time())
        self._let_in = let_in
        self._served = True
        #: Whether this source keeps to ranges; None as long as none was answered.
        self._keeps_ranges: bool | None = None
        self._sole: Stretch | None = None
        self._end_seen = False

    @property
    def complete(self) -> bool:
        """Whether every byte is here, as far as it is known how many there are."""
        return self._ingest.held.total == self._ingest.size

    async def run(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Fetch the whole, or what is demanded as long as that is ``wanted``.

        Raises what the Fetcher raises, SizeMismatch and DiskFull.
        """
        async with task_group() as group:
            while True:
                self._news.clear()
                self._connect(group)
                idle = not (self._ordinary or self._urgent)
                if idle and (self.whole or self.complete or not wanted()):
                    return
                await self._news.wait()

    async def bring(self, start: int, stop: int) -> None:
        """Fetch these bytes, beside and without what is planned; resumes and tries again.

        Raises as ``run`` does.
        """
        await self._persist(Stretch(start, stop))

    def rest(self) -> None:
        """Say that nobody reads any more, for now."""
        for task, stretch in {**self._ordinary, **self._urgent}.items():
            start = self._ingest.held.reach(stretch.start)
            if not self._served or stretch.stop is None or stretch.stop - start > CHUNK:
                task.cancel()
        self._news.set()

    def bring_whole(self) -> None:
        """Fetch everything from now on."""
        self.whole = self._ingest.keeps_up = True
        self._news.set()

    @contextmanager
    def demand(self, start: int, stop: int) -> Iterator[None]:
        """Within this block these bytes are fetched before all others."""
        demand = self._plan.demand(*((start, stop) if self.whole else chunks(start, stop)))
        self._news.set()
        try:
            yield
        finally:
            self._plan.withdraw(demand)
            self._served = not self._ingest.held.missing(start, stop)

    def _connect(self, group: asyncio.TaskGroup) -> None:
        held, size = self._ingest.held, self._ingest.size
        urgent = min(self._settings.ranges, URGENT)
        while size is not None and len(self._urgent) < urgent and self._divisible:
            stretch = self._plan.urgent(held, size)
            if stretch is None:
                break
            self._begin(group, stretch, self._urgent)
        while self.whole and len(self._ordinary) < self._growth.count and self._divisible:
            stretch = self._next()
            if stretch is None:
                break
            self._begin(group, stretch, self._ordinary)

    def _next(self) -> Stretch | None:
        """What one more connection shall bring."""
        held, size = self._ingest.held, self._ingest.size
        if self._ordinary and not self._keeps_ranges:
            # Of a blob that was asked for whole, the half that is left to another is the probe.
            whole = len(self._ordinary) == 1 and next(iter(self._ordinary.values())).stop is None
            if self._keeps_ranges is False or size is None or not whole:
                return None
            return self._plan.halve(held, size)
        stretch = self._plan.take(held, self._want.guess if size is None else size)
        if stretch is None and size is not None and self._ordinary:
            return self._plan.halve(held, size)
        return stretch

    @property
    def _divisible(self) -> bool:
        """Whether there may be more to ask for beside what is under way."""
        return self._sole is None and not self._end_seen

    def _begin(self, group: asyncio.TaskGroup, stretch: Stretch, among: Connections) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            del among[task]
            self._plan.give_back(stretch)
            self._news.set()

        task = group.create_task(self._persist(stretch))
        among[task] = stretch
        task.add_done_callback(ended)

    async def _persist(self, stretch: Stretch) -> None:
        patience = Patience(self._settings.attempts)
        while True:
            before = self.received
            try:
                async with self._lane(stretch):
                    await self._stretch(stretch)
                if self._sole is not stretch or self._end_seen or self.complete:
                    return
                continue  # what is here of it has ended its line: the rest comes by pieces
            except TransportError as error:
                patience.broke(error, progress=self.received > before)
                if self._hinders(stretch):
                    return
                _log.warning(
                    "fetch broke off, resuming: digest=%s cause=%s", self._want.digest, error
                )
            await patience.pause()

    def _hinders(self, stretch: Stretch) -> bool:
        """Whether a connection that broke is one too many: others bring its bytes."""
        if not any(each is stretch for each in self._ordinary.values()):
            return False
        brought = self._ingest.held.reach(stretch.start) > stretch.start
        now = asyncio.get_running_loop().time()
        if brought or len(self._ordinary) == 1 or not self._growth.hindered(now):
            return False
        return len(self._ordinary) > self._growth.count

    def _lane(self, stretch: Stretch) -> AbstractAsyncContextManager[None]:
        """The right to use a connection for this."""

        def shorten() -> None:
            planned = (*self._ordinary.values(), *self._urgent.values())
            if any(each is stretch for each in planned):
                shorten_at(stretch, self._ingest.held.reach(stretch.start), self._ingest.size)

        want, size = self._want, self._ingest.size
        size = want.guess if size is None else size
        return self._lanes.lane(
            want.repository.registry, want.digest, size, shorten, new=not self.received
        )

    async def _stretch(self, stretch: Stretch) -> None:
        alone = self._sole is stretch
        stop = None if alone else stretch.stop
        start = await self._first_missing(0 if alone else stretch.start)
        end = self._ingest.size if stop is None else stop
        if end is not None and start >= end:
            return
        try:
            async with self._want.fetcher.fetch_blob(
                self._want.repository, self._want.digest, start, stop
            ) as body:
                self.source = body.source
                if body.total is not None:
                    self._ingest.announce(body.total)
                    if self._let_in is not None and self.whole:
                        await self._let_in(self._ingest, body.total)
                if self._is_as_asked(body, start, stop) or self._stays_alone(stretch):
                    await self._take(body, stretch, stop)
        except RangeInvalid as error:
            # Nothing lies beyond what is here: the size was not known, and now it is.
            if error.size != start:
                raise
            self._ingest.announce(start)

    def _is_as_asked(self, body: Body, start: int, stop: int | None) -> bool:
        """Whether the body begins where it should; notes whether the source keeps to ranges."""
        if body.start != start:
            return False
        if start or (stop is not None and not _exceeds(body, stop)):
            self._keeps_ranges = True
            self._news.set()
        return True

    async def _first_missing(self, start: int) -> int:
        """Where to begin: not at a byte that another connection is just writing."""
        while True:
            start = self._ingest.held.reach(start)
            if self._ingest.room(start, start + 1) > start or self._ingest.ended:
                return start
            await self._ingest.changed()

    def _stays_alone(self, stretch: Stretch) -> bool:
        # The source sends everything whatever is asked: the first to learn it stays, unless
        # another is on its way through the whole.
        self._keeps_ranges = False
        if self._plan.undo(stretch):
            return False
        if self._sole is None:
            self._sole = stretch
            self.bring_whole()
        return self._sole is stretch

    async def _take(self, body: Body, stretch: Stretch, asked: int | None) -> None:
        with self._rates.from_registry(self._want.repository.registry, self._want.digest) as pace:
            await self._take_at(pace, body, stretch, asked)

    async def _take_at(self, pace: Pace, body: Body, stretch: Stretch, asked: int | None) -> None:
        # A source that sends what is here already goes by pieces: those that are new are picked.
        line = body.take_line() if isinstance(body, Wired) and self._sole is None else None
        if line is None:
            await self._take_pieces(pace, body, stretch, asked)
            return
        end = body.start + len(line.head) + line.count
        if asked is not None and end > asked and not self._stays_alone(stretch):
            os.close(line.fd)
            return
        await receive(
            self._ingest,
            line,
            body.start,
            source=body.source,
            stall=self._settings.stall_timeout,
            came=self._came,
            until=lambda: None if self._sole is stretch else stretch.stop,
            pace=pace,
            low_speed=LowSpeed.of(self._settings),
        )

    async def _take_pieces(
        self, pace: Pace, body: Body, stretch: Stretch, asked: int | None
    ) -> None:
        batch, at = Batch(self._ingest, body.start), body.start
        clock, low_speed = asyncio.get_running_loop().time, LowSpeed.of(self._settings)
        try:
            await pace.room(self._coming(at, asked))
            since = clock()
            async for piece in body:
                waited = clock() - since
                await batch.add(piece)
                self._came(len(piece))
                pace.passed(len(piece))
                at += len(piece)
                low_speed.check(len(piece), waited, body.source)
                if asked is not None and at > asked and not self._stays_alone(stretch):
                    return
                if self._sole is not stretch and _is_cut(stretch, asked, at):
                    return
                await pace.room(self._coming(at, asked))
                since = clock()
            self._check_end(body, stretch, at)
            self._end_seen = self._end_seen or asked is None or self._sole is stretch
        finally:
            await batch.finish()  # also after a break: what came is kept

    def _check_end(self, body: Body, stretch: Stretch, at: int) -> None:
        """Of a body whose end nobody announced (chunked), the end may be no end. TransportError."""
        size = self._ingest.size
        end = size if self._sole is stretch or stretch.stop is None else stretch.stop
        if end is not None and at < end:
            raise TransportError(f"{body.source} ended its answer at byte {at} of {size}")

    def _coming(self, at: int, asked: int | None) -> int:
        """How many bytes come next, as far as it is known; at most a hop's."""
        end = self._ingest.size if asked is None else asked
        return HOP if end is None else max(0, min(HOP, end - at))

    def _came(self, count: int) -> None:
        """Bytes have come: there may be more connections by what they tell."""
        self.received += count
        self._width.received += count
        if not self.whole or self._ingest.size is None:
            return
        now = asyncio.get_running_loop().time()
        if self._growth.came(now, busy=len(self._ordinary)):
            self._news.set()


def _exceeds(body: Body, stop: int) -> bool:
    """Whether a body is known to go on beyond what was asked for."""
    return isinstance(body, Bounded) and (body.stop is None or body.stop > stop)


def _is_cut(stretch: Stretch, asked: int | None, at: int) -> bool:
    """Whether what follows is another connection's by now."""
    return stretch.stop is not None and stretch.stop != asked and at >= stretch.stop
