"""Flights: one fetch a digest, however many want it.

"Make this digest present" happens here and nowhere else. Invariants:
- at most one flight a digest; joining and starting are one step without an await between;
- a flight belongs to the daemon, not to whoever started it: it goes on when all have left;
- a flight that fails tells everyone why and leaves what arrived for the next one to resume.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cache.content import Digest
from cache.errors import CacheError, DigestMismatch, Fault, IngestAborted, SizeMismatch
from cache.ingest import Ingest
from cache.store import BlobStore
from registryd.config import TransferConfig
from registryd.ports import TransportError
from registryd.transfer.groups import task_group
from registryd.transfer.intake import Intake, Want

_log = logging.getLogger(__name__)


class Flight:
    """One fetch under way."""

    def __init__(self, want: Want) -> None:
        self.want = want
        self.intake: Intake | None = None
        loop = asyncio.get_running_loop()
        self._ingest: asyncio.Future[Ingest | None] = loop.create_future()
        self._landed: asyncio.Future[None] = loop.create_future()

    @property
    def source(self) -> str:
        """Who sends the bytes."""
        return self.intake.source if self.intake else self.want.repository.registry

    @property
    def received(self) -> int:
        """Bytes that came from the source in this flight."""
        return self.intake.received if self.intake else 0

    async def ingest(self) -> Ingest | None:
        """The arriving blob, to be followed; None when it turned out to be here already.

        Raises why it does not arrive.
        """
        return await asyncio.shield(self._ingest)

    async def landed(self) -> None:
        """Wait for the commit. Raises why there was none."""
        await asyncio.shield(self._landed)

    def _lift(self, ingest: Ingest, intake: Intake) -> None:
        self.intake = intake
        if not self._ingest.done():
            self._ingest.set_result(ingest)

    def _end(self, error: BaseException | None) -> None:
        for future in (self._ingest, self._landed):
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


class Flights:
    """All fetches of this process; made by ``open``."""

    def __init__(
        self, store: BlobStore, settings: TransferConfig, group: asyncio.TaskGroup
    ) -> None:
        self._store = store
        self._settings = settings
        self._group = group
        self._flights: dict[Digest, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.fetched = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, store: BlobStore, settings: TransferConfig) -> AsyncIterator[Flights]:
        """Own the flights; those still in the air at the end are cancelled, to be resumed."""
        async with task_group() as group:
            flights = cls(store, settings, group)
            try:
                yield flights
            finally:
                for task in flights._tasks:
                    task.cancel()

    def join(self, want: Want) -> Flight:
        """The flight of this digest: the one under way, or a new one."""
        flight = self._flights.get(want.digest)
        if flight is None:
            flight = self._flights[want.digest] = Flight(want)
            task = self._group.create_task(self._fly(flight))
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._ended(task, flight))
        return flight

    def _ended(self, task: asyncio.Task[None], flight: Flight) -> None:
        self._tasks.discard(task)
        # For a task that was cancelled before its first step; any other has said so itself.
        flight._end(IngestAborted(f"{flight.want.digest}: the fetch was stopped"))

    def find(self, digest: Digest) -> Flight | None:
        """The flight of this digest, if one is under way."""
        return self._flights.get(digest)

    def under_way(self) -> list[Flight]:
        """The flights now in the air."""
        return list(self._flights.values())

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
            self.fetched += flight.received
            self._flights.pop(flight.want.digest, None)
            flight._end(error)

    async def _fetch(self, flight: Flight) -> None:
        if self._store.find(flight.want.digest):
            return
        ingest = await self._store.ingest(flight.want.digest)
        resumed = ingest.held.total
        try:
            await self._bring_in(flight, ingest)
        except (DigestMismatch, SizeMismatch):
            if not resumed:
                raise
            # What an earlier process left may be at fault, so one try goes without it.
            _log.warning("resumed bytes were wrong, fetching anew: digest=%s", flight.want.digest)
            await self._bring_in(flight, await self._store.ingest(flight.want.digest))

    async def _bring_in(self, flight: Flight, ingest: Ingest) -> None:
        want = flight.want
        try:
            if want.size is not None:
                ingest.announce(want.size)
            intake = Intake(want, ingest, self._settings)
            flight._lift(ingest, intake)
            await intake.run()
            await self._store.commit(ingest, repository=want.repository.name)
        except BaseException as error:
            # Wrong content is not worth keeping, and on a full disk the room is wanted.
            spoilt = isinstance(error, CacheError)
            await asyncio.shield(self._store.abort(ingest, error, discard=spoilt))
            raise
