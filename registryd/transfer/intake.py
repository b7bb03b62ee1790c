"""Intake: how the bytes of one blob come from a Fetcher into an Ingest.

Invariants:
- what is here is not asked for again: after a break the next request begins at the byte reached;
- tries are counted only while nothing comes: any progress begins the count anew;
- receiving and writing overlap: one thread hop of about ``HOP`` bytes is under way while the next
  bytes come in, never more, so a blob in flight needs about two hops of memory a connection;
- a source that ignores ranges is followed on one connection, from its first byte.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

from cache.content import Digest
from cache.errors import SizeMismatch
from cache.ingest import Ingest
from registryd.config import TransferConfig
from registryd.oci.errors import RangeInvalid
from registryd.oci.reference import Reference
from registryd.ports import Body, Fetcher, TransportError, Wired
from registryd.transfer.groups import task_group
from registryd.transfer.lines import receive
from registryd.transfer.stretches import Plan, Stretch, connections

#: Bytes a thread hop takes: hashing and writing 1 MiB costs far more than the hop itself.
HOP = 1 << 20
#: A slow stream is written out this often (seconds), so that those who read along see it.
FLUSH = 0.005
#: Waits (seconds) before the tries that follow a failure without progress; the last one repeats.
PAUSES = (0.0, 0.25, 1.0, 3.0)

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


class Intake:
    """Fetches one blob; ``run`` returns when every byte is in the ingest."""

    def __init__(self, want: Want, ingest: Ingest, settings: TransferConfig) -> None:
        self.source = want.repository.registry
        self.received = 0
        self._want = want
        self._ingest = ingest
        self._settings = settings
        self._plan = Plan(settings.range_size)
        self._group: asyncio.TaskGroup | None = None
        self._wanted = 1
        self._sole: Stretch | None = None

    async def run(self) -> None:
        """Fetch what is missing. Raises what the Fetcher raises, SizeMismatch and DiskFull."""
        async with task_group() as self._group:
            self._group.create_task(self._connection())

    async def _connection(self) -> None:
        while self._sole is None:
            stretch = self._plan.take(self._ingest.held, self._size)
            if stretch is None:
                return
            try:
                await self._persist(stretch)
            finally:
                self._plan.give_back(stretch)
            if stretch.stop is None:
                return

    @property
    def _size(self) -> int | None:
        """The size to plan by: the true one, as soon as the source has said it."""
        return self._want.guess if self._ingest.size is None else self._ingest.size

    async def _persist(self, stretch: Stretch) -> None:
        tries = 0
        while True:
            before = self.received
            try:
                return await self._stretch(stretch)
            except TransportError as error:
                tries = 1 if self.received > before else tries + 1
                if tries >= self._settings.attempts:
                    raise
                _log.warning(
                    "fetch broke off, resuming: digest=%s cause=%s", self._want.digest, error
                )
            await asyncio.sleep(PAUSES[min(tries, len(PAUSES)) - 1])

    async def _stretch(self, stretch: Stretch) -> None:
        stop = None if self._sole is stretch else stretch.stop
        end = self._ingest.size if stop is None else stop
        start = self._ingest.held.reach(stretch.start)
        if end is not None and start >= end:
            return
        try:
            async with self._want.fetcher.fetch_blob(
                self._want.repository, self._want.digest, start, stop
            ) as body:
                self.source = body.source
                if body.total is not None:
                    self._ingest.announce(body.total)
                if body.start == start or self._stays_alone(stretch):
                    await self._take(body, body.start)
        except RangeInvalid as error:
            # Nothing lies beyond what is here: the size was not known, and now it is.
            if error.size != start:
                raise
            self._ingest.announce(start)

    def _stays_alone(self, stretch: Stretch) -> bool:
        # The source sends everything whatever is asked: the first to learn it stays.
        if self._sole is None:
            self._sole = stretch
        return self._sole is stretch

    async def _take(self, body: Body, at: int) -> None:
        clock = asyncio.get_running_loop().time
        began, received = clock(), 0

        def came(count: int) -> None:
            nonlocal received
            received += count
            self.received += count
            self._consider(received, clock() - began)

        # A source that sends what is here already goes by pieces: those that are new are picked.
        line = body.take_line() if isinstance(body, Wired) and self._sole is None else None
        if line is not None:
            stall = self._settings.stall_timeout
            await receive(self._ingest, line, at, source=body.source, stall=stall, came=came)
            return
        batch = _Batch(self._ingest, at)
        try:
            async for piece in body:
                await batch.add(piece)
                came(len(piece))
        finally:
            await batch.finish()  # also after a break: what came is kept

    def _consider(self, received: int, seconds: float) -> None:
        # More connections, once the first has shown that it alone is slow.
        if self._wanted > 1 or self._sole or self._ingest.size is None or self._group is None:
            return
        self._wanted = connections(received, seconds, self._settings.ranges)
        for _ in range(self._wanted - 1):
            self._group.create_task(self._connection())


class _Batch:
    """The bytes of one connection on their way to the file, one hop of them at a time."""

    def __init__(self, ingest: Ingest, at: int) -> None:
        self._ingest = ingest
        self._at = at
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._hop: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def add(self, piece: bytes) -> None:
        """Take bytes that follow; waits only while a whole hop of them is under way already."""
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= HOP:
            await self._settle()
            self._hop = self._write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._flush)

    async def finish(self) -> None:
        """Write what is left. Raises why a write failed, this one or an earlier one."""
        if self._timer is not None:
            self._timer.cancel()
        await self._settle()
        if self._pieces:
            await self._write()

    def _flush(self) -> None:
        # What came is to be seen, even if nothing follows for a long time.
        self._timer = None
        if not self._pieces or self._ingest.ended:
            return
        if self._hop is None:
            with suppress(SizeMismatch):  # too much came: whoever comes next is told
                self._hop = self._write()
        else:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._flush)

    async def _settle(self) -> None:
        if self._hop is not None and not self._hop.cancelled():
            await self._hop
        self._hop = None

    def _write(self) -> asyncio.Future[None]:
        hop = self._ingest.write(self._at, self._pieces)
        self._at, self._pieces, self._gathered = self._at + self._gathered, [], 0
        hop.add_done_callback(self._written)
        return hop

    def _written(self, done: asyncio.Future[None]) -> None:
        # One that failed stays, so that whoever comes next is told.
        if done is self._hop and (done.cancelled() or done.exception() is None):
            self._hop = None
