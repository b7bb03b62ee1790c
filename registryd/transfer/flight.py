"""Flights: one fetch a digest, however many want it.

"Make this digest present" happens here and nowhere else. Invariants:
- at most one flight a digest; joining and starting are one step without an await between;
- a flight belongs to the daemon, not to whoever started it: it goes on when all have left. One of
  which only parts are wanted ends with its last reader, and what came is kept;
- a flight that fails tells everyone why and leaves what arrived for the next one to resume.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from cache.content import Digest
from cache.errors import CacheError, DigestMismatch, Fault, IngestAborted, SizeMismatch
from cache.ingest import Ingest
from cache.store import BlobStore
from registryd.cluster_ports import Neighbours
from registryd.config import TransferConfig
from registryd.counts import Counts
from registryd.oci.errors import BlobUnknown
from registryd.ports import Inflow, TransportError
from registryd.rates import Rates
from registryd.transfer.groups import task_group
from registryd.transfer.growth import Widths
from registryd.transfer.helped import shared
from registryd.transfer.intake import Intake, Want
from registryd.transfer.lanes import Lanes
from registryd.transfer.lower import Lowers
from registryd.transfer.passing import Passing
from registryd.transfer.resuming import resume

_log = logging.getLogger(__name__)


class Flight:
    """One fetch under way."""

    def __init__(self, want: Want, *, whole: bool = True, after: Flight | None = None) -> None:
        self.want = want
        self.intake: Intake | None = None
        #: What brings it: the intake, or other nodes with its help.
        self.inflow: Inflow | None = None
        #: Nobody wants it any more: it only ends, and who comes now gets another.
        self.over = False
        self._whole = whole
        self._readers = 0
        self._after = after
        #: The lower store that it comes from; "" when it does not.
        self.lower = ""
        #: How many have asked for it; the first one has started it.
        self.joined = 0
        loop = asyncio.get_running_loop()
        self.began = loop.time()
        self._ingest: asyncio.Future[Ingest | None] = loop.create_future()
        self._seen: asyncio.Future[Ingest | None] = loop.create_future()
        self._landed: asyncio.Future[None] = loop.create_future()

    @property
    def source(self) -> str:
        """Who sends the bytes."""
        other = self.inflow.source if self.inflow else self.want.repository.registry
        return self.lower or other

    @property
    def received(self) -> int:
        """Bytes that came from the registry in this flight."""
        return self.intake.received if self.intake and not self.want.made else 0

    @property
    def whole(self) -> bool:
        """Whether it brings the whole blob, or only what its readers demand."""
        return self.inflow.whole if self.inflow else self._whole

    @property
    def shared(self) -> bool:
        """Whether other nodes bring it too."""
        return self.inflow is not self.intake

    def bring_whole(self) -> None:
        """Let it bring the whole blob from now on."""
        self._whole = True
        if self.inflow is not None:
            self.inflow.bring_whole()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Within this block somebody reads; to be entered before the first await after joining."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if self.inflow is not None and not (self._readers or self.whole):
                self.inflow.rest()

    def _goes_on(self) -> bool:
        # No is for good: who joins from now on begins another flight.
        self.over = self.over or not (self._readers or self.whole)
        return not self.over

    @contextmanager
    def demand(self, start: int, stop: int) -> Iterator[None]:
        """Within this block these bytes come first; to be used once ``ingest`` has been given."""
        if self.inflow is None:
            raise RuntimeError("nothing is arriving yet")
        with self.inflow.demand(start, stop):
            yield

    async def ingest(self) -> Ingest | None:
        """The arriving blob, to be followed; None when it turned out to be here already.

        Raises why it does not arrive.
        """
        return await asyncio.shield(self._ingest)

    async def seen(self) -> Ingest | None:
        """What arrives, to be looked at alone: it is given to nobody where ``ingest`` waits yet."""
        return await asyncio.shield(self._seen)

    def is_of(self, registry: str) -> bool:
        """Whether its bytes, as long as they are not proven, come on this registry's word."""
        return self.want.repository.registry == registry

    async def landed(self) -> None:
        """Wait for the commit. Raises why there was none."""
        await asyncio.shield(self._landed)

    async def _gone_before(self) -> None:
        """Wait until the flight before this one has let go of the blob."""
        if self._after is not None:
            await asyncio.wait([self._after._landed])
            self._after = None

    def _show(self, lower: str, ingest: Ingest) -> None:
        self.lower = lower
        if not self._seen.done():
            self._seen.set_result(ingest)

    def _lift(self, ingest: Ingest, intake: Intake, inflow: Inflow) -> None:
        self.intake, self.inflow = intake, inflow
        for future in (self._ingest, self._seen):
            if not future.done():
                future.set_result(ingest)

    def _end(self, error: BaseException | None) -> None:
        for future in (self._ingest, self._seen, self._landed):
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # it may be that nobody is left to ask


def _explained(error: Exception, flight: Flight) -> Exception:
    """The error with what was fetched, and from where, in its line."""
    if not isinstance(error, TransportError | DigestMismatch | SizeMismatch):
        return error
    source = "" if isinstance(error, TransportError) else f" from {flight.source}"
    want = flight.want
    explained = type(error)(f"{want.digest} of {want.repository.name}{source}: {error}")
    explained.__cause__ = error
    return explained


async def _learn_size(flight: Flight, ingest: Ingest) -> None:
    """Ask for the size: parts cannot be given without it. Who does not say it gives the whole."""
    want = flight.want
    size = await want.fetcher.blob_size(want.repository, want.digest)
    if not size:  # some say 0 where they mean nothing
        flight.bring_whole()
    elif ingest.size is None:
        ingest.announce(size)


class Flights:
    """All fetches of this process; made by ``open``."""

    def __init__(
        self,
        store: BlobStore,
        settings: TransferConfig,
        group: asyncio.TaskGroup,
        counts: Counts,
        rates: Rates,
        lanes: Lanes,
        neighbours: Neighbours | None,
        lowers: Lowers,
    ) -> None:
        self.lowers = lowers
        self._store = store
        self._settings = settings
        self._group = group
        self._counts = counts
        self._rates = rates
        self._lanes = lanes
        #: For what there is no room here.
        self.past = Passing(settings, counts, rates, lanes)
        self._widths = Widths()
        self._neighbours = neighbours
        self._flights: dict[Digest, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._uncounted: set[Flight] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        store: BlobStore,
        settings: TransferConfig,
        counts: Counts | None = None,
        rates: Rates | None = None,
        neighbours: Neighbours | None = None,
        lanes: Lanes | None = None,
        lowers: Lowers | None = None,
    ) -> AsyncIterator[Flights]:
        """Own the flights; those still in the air at the end are cancelled, to be resumed.

        ``neighbours``: the nodes that help with what is fetched; ``lowers``: the stores that are
        asked before.
        """
        async with task_group() as group:
            flights = cls(
                store,
                settings,
                group,
                counts or Counts(),
                rates or Rates(),
                lanes or Lanes(),
                neighbours,
                lowers or Lowers(),
            )
            try:
                yield flights
            finally:
                for task in flights._tasks:
                    task.cancel()

    def join(self, want: Want, *, whole: bool = True) -> Flight:
        """The flight of this digest: the one under way, or a new one.

        With ``whole`` False only what is demanded of it is fetched, as long as somebody is
        ``reading``, unless somebody else wants the whole.
        """
        flight = self.find(want.digest)
        if flight is None:
            before = self._flights.get(want.digest)
            flight = self._flights[want.digest] = Flight(want, whole=whole, after=before)
            self._counts.flights_started += 1
            self._uncounted.add(flight)
            task = self._group.create_task(self._fly(flight))
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._ended(task, flight))
        elif whole:
            flight.bring_whole()
        flight.joined += 1
        return flight

    def _ended(self, task: asyncio.Task[None], flight: Flight) -> None:
        self._tasks.discard(task)
        self._uncounted.discard(flight)
        # For a task that was cancelled before its first step; any other has said so itself.
        flight._end(IngestAborted(f"{flight.want.digest}: the fetch was stopped"))

    def find(self, digest: Digest) -> Flight | None:
        """The flight of this digest, if one is under way."""
        flight = self._flights.get(digest)
        return None if flight is None or flight.over else flight

    def under_way(self) -> list[Flight]:
        """The flights now in the air."""
        return list(self._flights.values())

    def fetched(self) -> Counter[str]:
        """Bytes that came from upstream, by registry; those of flights in the air too."""
        total = self._counts.fetched.copy()
        for flight in self._uncounted:
            total[self._counts.name(flight.want.repository.registry)] += flight.received
        return total

    async def _fly(self, flight: Flight) -> None:
        error: BaseException | None = None
        try:
            await self._fetch(flight)
        except Exception as failure:
            error = _explained(failure, flight)
            if not isinstance(failure, Fault):
                _log.exception("flight failed: digest=%s", flight.want.digest)
        except BaseException:
            error = IngestAborted(f"{flight.want.digest}: the fetch was stopped")
            raise
        finally:
            self._account(flight, error)
            if self._flights.get(flight.want.digest) is flight:
                del self._flights[flight.want.digest]
            flight._end(error)

    def _account(self, flight: Flight, error: BaseException | None) -> None:
        """Count what a flight came to; no await between this and its end."""
        registry = self._counts.name(flight.want.repository.registry)
        self._counts.fetched[registry] += flight.received
        self._uncounted.discard(flight)
        if error is not None and not flight.over:
            self._counts.flight_failed(error)

    async def _fetch(self, flight: Flight) -> None:
        await flight._gone_before()
        if not flight._goes_on() or self._store.find(flight.want.digest):
            return
        if await self._from_lower(flight):
            return
        want, neighbours, misled = flight.want, self._neighbours, False
        in_parts, resumed = not flight.whole, True  # as long as it is not known
        while True:
            try:
                ingest = await resume(self._store, want)
                resumed = bool(ingest.held.ranges)
                await self._bring_in(flight, ingest, neighbours)
                break
            except (DigestMismatch, SizeMismatch) as error:
                # What an earlier flight left may be at fault, or the size that a HEAD told, or
                # another node, or a mirror: then one try goes without it, and for the whole.
                doubtful = (resumed and flight.whole) or (
                    in_parts and isinstance(error, SizeMismatch)
                )
                shared = neighbours is not None and flight.shared
                # A mirror is at fault for what it alone has brought.
                elsewhere = not (doubtful or shared) and want.fetcher.distrust(
                    want.repository, want.digest
                )
                if not (doubtful or shared or elsewhere) or not flight._goes_on():
                    raise
                whose = (
                    "other nodes'" if shared else f"{flight.source}'s" if elsewhere else "resumed"
                )
                _log.warning("%s bytes were wrong, fetching anew: digest=%s", whose, want.digest)
                misled, neighbours, in_parts, resumed = misled or shared, None, False, False
                flight.bring_whole()
        if misled and self._neighbours is not None:
            await self._neighbours.misled(want.digest)

    async def _from_lower(self, flight: Flight) -> bool:
        """Whether a lower store has given the blob; nobody sees it before it is proven."""
        want = flight.want
        name, show = want.repository.name, flight._show
        if await self.lowers.bring(self._store, name, want.digest, want.size, show):
            return True
        flight.lower = ""
        if want.lower:
            raise BlobUnknown(f"no lower store gives {want.digest}", status=404)
        return False

    async def _bring_in(
        self, flight: Flight, ingest: Ingest, neighbours: Neighbours | None
    ) -> None:
        want = flight.want
        try:
            helped = neighbours is not None and neighbours.others
            bounded = not self._store.room.bounds.none
            ask = (helped or bounded) and want.guess is None
            if (ask or not flight.whole) and ingest.size is None:
                await _learn_size(flight, ingest)
            await self._have_room(flight, ingest)
            intake = Intake(
                want,
                ingest,
                self._settings,
                whole=flight._whole,
                rates=self._rates,
                lanes=self._lanes,
                widths=self._widths,
                let_in=self._store.room.let_in,
            )
            inflow = shared(want, ingest, intake, neighbours) or intake
            flight._lift(ingest, intake, inflow)
            await inflow.run(flight._goes_on)
            if flight.over and not inflow.complete:
                raise IngestAborted(f"{want.digest}: nobody reads it any more")
            await self._store.commit(ingest, repository=want.repository.name)
        except BaseException as error:
            # Wrong content is not worth keeping, and on a full disk the room is wanted.
            spoilt = isinstance(error, CacheError) and not isinstance(error, IngestAborted)
            await asyncio.shield(self._store.abort(ingest, error, discard=spoilt))
            raise

    async def _have_room(self, flight: Flight, ingest: Ingest) -> None:
        """Raise DiskFull where there is no room: for the whole, or for any part of it."""
        if flight.whole:
            await self._store.room.let_in(ingest, ingest.size or flight.want.guess)
        else:
            await self._store.room.expect(1)
