"""Swarm: what brings one blob from other nodes and from its registry, as ``Fetching`` says.

Invariants:
- the fetch decides, this does: every step of it becomes a task, and it is told how each ended;
- the registry's own words are raised when nobody is left who could ask it, or when it has refused
  us and a few others for good;
- of a blob that is wanted in parts only what is demanded is brought; its parts stay at hand for
  ``linger`` seconds after the last one was wanted: those who want them come one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from cache.content import Digest
from cache.ingest import Ingest
from registryd.cluster.asking import DENIED, Asking, Listening
from registryd.cluster.choosing import STAND_INS, UPSTREAM
from registryd.cluster.company import ANNOUNCED, Company, Effort
from registryd.cluster.fetching import Fetching
from registryd.cluster.geometry import Geometry
from registryd.cluster.peers import Failure
from registryd.cluster.placement import blob_key
from registryd.cluster.proving import Proving
from registryd.cluster.steps import Ask, AskUpstream
from registryd.cluster_ports import Errand
from registryd.oci.errors import RateLimited, RegistryError
from registryd.ports import TransportError, transient

#: Seconds between two looks at what stalls or comes slowly.
TICK: Final = 0.25
#: Seconds for which a registry is left alone that could not be asked, or wants fewer questions.
AWAY: Final = 10.0
LIMITED: Final = 30.0
#: Seconds without a byte after which another node shall try to get a chunk from the registry.
SILENT: Final = 5.0
#: Seconds that the proofs of the last chunks may take when all is here: the whole is proven next.
LAST_PROOFS: Final = 2.0
#: Seconds between two questions who holds the blob.
LOOK_UP: Final = 5.0

Key = tuple[int, str]


class Swarm:
    """An Inflow (see ``ports``) with the help of other nodes."""

    def __init__(self, errand: Errand, ingest: Ingest, company: Company, *, whole: bool) -> None:
        geometry = Geometry(errand.size)
        fetching = Fetching(
            blob_key(errand.digest),
            geometry,
            company.placement,
            company.peers,
            limits=company.limits,
            wants=None if whole else (),
            here=geometry.whole(ingest.held),
        )
        self.fetching = fetching
        self.effort = Effort(errand, ingest, geometry, fetching, company, self.told)
        self.proving = Proving(self.effort, self._spawn, self.bring_whole)
        #: Why it ended; None as long as it has not, and when it has brought what it should.
        self.failure: Exception | None = None
        #: Whether it has ended, and its counts are the node's.
        self.ended = False
        ingest.keeps_up = whole
        self._asking = Asking(self.effort, self._refused, self._denied, self.proving.came)
        self._requests: dict[Key, tuple[asyncio.Task[None], Listening]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._refusal: TransportError | RegistryError | None = None
        self._deniers: set[str] = set()
        self._idle_since = self._looked = company.clock()
        self._done_since: float | None = None

    @property
    def source(self) -> str:
        """Who sends: the registry, or how many nodes."""
        nodes = {each.node for _, each in self._requests.values() if each.flowing} - {UPSTREAM}
        if not nodes:
            return self.effort.errand.repository.registry
        return "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"

    @property
    def received(self) -> int:
        """Bytes that came from the blob's registry."""
        return self._asking.fetched

    @property
    def whole(self) -> bool:
        """Whether the whole blob is brought, or only what is demanded."""
        return self.fetching.whole

    @property
    def complete(self) -> bool:
        """Whether every byte is here."""
        return self.effort.ingest.held.total == self.effort.geometry.size

    def bring_whole(self) -> None:
        """Bring everything from now on."""
        if not self.whole:
            self.effort.ingest.keeps_up = True
            self.fetching.want_all()
            self.told()

    def rest(self) -> None:
        """Say that nobody reads any more, for now."""
        self._news.set()

    @contextmanager
    def demand(self, start: int, stop: int) -> Iterator[None]:
        """Within this block the chunks of these bytes are brought before all others."""
        wanted = start, stop
        self.proving.demands.append(wanted)
        self.fetching.want(self.effort.geometry.covering(start, stop))
        self.proving.demanded()
        self.told()
        try:
            yield
        finally:
            self.proving.demands.remove(wanted)

    def told(self) -> None:
        """The fetch was told something: do what it says now, and others what it left to them."""
        self.effort.company.pump()
        self._news.set()

    def left(self, node: str) -> None:
        """A node is no member any more."""
        self.fetching.left(node, self.effort.now)
        self.told()

    def reach(self, chunk: int) -> int | None:
        """How many bytes of a chunk are here from its start on; None when all are."""
        reach = self.effort.reach(chunk)
        return None if reach == self.effort.geometry.length(chunk) else reach

    async def word(self, chunk: int) -> Digest | None:
        """The hash of a chunk that is proven, or is on its way and will be in a moment."""
        if chunk >= self.effort.geometry.count:
            return None
        coming = self.effort.complete(chunk) or any(key[0] == chunk for key in self._requests)
        return await self.proving.word(chunk) if coming else None

    async def proven(self, fd: int) -> tuple[str, ...]:
        """Name the liars, when the registry alone has brought the right blob after this failed.

        ``fd`` is the blob's file.
        """
        self.effort.company.hashes.forget(self.effort.errand.digest)
        return await self.proving.checking.compare_with(fd)

    async def run(self, wanted: Callable[[], bool]) -> None:
        """Bring the whole, or what is demanded as long as that is ``wanted``.

        Raises what the Fetcher raises, SizeMismatch, DiskFull and IngestAborted.
        """
        company = self.effort.company
        company.working.append(self)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    await self._go_on(wanted)
                except Exception as error:  # outside of the group it is raised as it is
                    self._fail(error)
                finally:
                    self._group = None
                    for task in self._running:
                        task.cancel()
        finally:
            company.working.remove(self)
            company.failed(self.effort.errand.digest, self.failure)
            company.line.lost(self.fetching.blob)
            company.counts.take_in(self.fetching.counts)
            self.ended = True
        if self.failure is not None:
            raise self.failure

    async def _go_on(self, wanted: Callable[[], bool]) -> None:
        self._spawn(self._watch())
        if self.effort.geometry.size >= ANNOUNCED:
            await self._look_up()
            self._spawn(self._keep_looking_up())
        while True:
            self._news.clear()
            self.effort.company.pump()
            self._give_up()
            if self.failure is not None or self._is_over(wanted):
                return
            await self._wait()
            self._tick()

    async def _wait(self) -> None:
        pause, due = TICK, self.fetching.due()
        if due is not None:
            pause = min(pause, max(0.0, due - self.effort.now))
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._news.wait()

    def _tick(self) -> None:
        now, due = self.effort.now, self.fetching.due()
        if now - self._looked >= TICK or (due is not None and due <= now):
            self._looked = now
            self._leave_silent(now)
            self.fetching.passed(now)
            self.proving.tick()

    def _is_over(self, wanted: Callable[[], bool]) -> bool:
        now = self.effort.now
        if self.complete:
            self._done_since = self._done_since or now
            return not self.proving.busy or now - self._done_since >= LAST_PROOFS
        self._done_since = None
        if self.whole or not self.fetching.idle or self.proving.busy:
            self._idle_since = now
        elif now - self._idle_since >= self.effort.company.linger:
            self._idle_since = now
            return not wanted()
        return False

    # What the fetch says.

    @property
    def under_way(self) -> int:
        """Requests that have not ended."""
        return self.fetching.under_way

    def pump(self) -> None:
        """Do what the fetch says now."""
        if self._group is None:
            return
        for step in self.fetching.steps(self.effort.now, self.effort.company.room(self)):
            if isinstance(step, Ask):
                request = Listening(step.chunk, step.node)
                self._begin(request, self._asking.of_peer(step, request))
            elif isinstance(step, AskUpstream):
                request = Listening(step.chunk, UPSTREAM)
                if not self._of_registry:
                    self._asking.registry_heard = self.effort.now
                self._begin(request, self._asking.of_registry(step, request))
            elif step.node != UPSTREAM or not self.fetching.hopeless(self.effort.now):
                self._drop((step.chunk, step.node))

    def _begin(self, request: Listening, work: Coroutine[Any, Any, None]) -> None:
        key = request.chunk, request.node
        self._drop(key)
        task = self._spawn(work)
        if task is None:
            return
        self._requests[key] = task, request

        def ended(task: asyncio.Task[None]) -> None:
            if key in self._requests and self._requests[key][0] is task:
                del self._requests[key]

        task.add_done_callback(ended)

    @property
    def _of_registry(self) -> list[Listening]:
        """The requests to the registry."""
        return [each for _, each in self._requests.values() if each.node == UPSTREAM]

    def _drop(self, key: Key) -> None:
        if key in self._requests:
            task, request = self._requests.pop(key)
            request.over = True
            if task is not asyncio.current_task():
                task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        if self._group is None:
            work.close()
            return None
        task = self._group.create_task(self._guarded(work))
        self._running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            work.close()  # of a task that was cancelled before its first step

        task.add_done_callback(ended)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
        self._news.set()

    async def _watch(self) -> None:
        """See what the registry brings: it is written by others."""
        ingest = self.effort.ingest
        while not ingest.ended:
            await ingest.changed()
            for request in self._of_registry:
                self._asking.look(request)

    async def _look_up(self) -> None:
        effort = self.effort
        found = await effort.company.cluster.holders(effort.errand.digest)
        effort.holders = tuple(node for node, whole in found if whole)
        self.fetching.hold(effort.holders)

    async def _keep_looking_up(self) -> None:
        while True:
            await asyncio.sleep(LOOK_UP)
            await self._look_up()

    # Refusals.

    def _leave_silent(self, now: float) -> None:
        """Let others try where our registry is silent: it may be us alone whom it makes wait.

        When nobody is left to try we wait for as long as it makes us.
        """
        waiting = self._of_registry
        if not waiting or now - self._asking.registry_heard < SILENT:
            return
        self.fetching.barred(self.effort.company.me, now, LIMITED)
        self.effort.company.line.barred(self.fetching.blob)
        if self.fetching.hopeless(now):
            return
        for request in waiting:
            self._drop((request.chunk, UPSTREAM))
            self.fetching.failed(request.chunk, UPSTREAM, Failure.STALLED, now)

    def _refused(self, error: TransportError | RegistryError) -> None:
        """The registry gave us a chunk not."""
        self._refusal = error
        self.fetching.barred(self.effort.company.me, self.effort.now, wait_after(error))
        self.effort.company.line.barred(self.fetching.blob)

    def _denied(self, node: str) -> None:
        """The registry refused a peer that asked for us, with our token or its own login."""
        self._deniers.add(node)
        now, me = self.effort.now, self.effort.company.me
        if self._are_many_denied and not self.fetching.bar(now):
            # More of them would be refused as well: who may is asked for, and that may be us alone.
            for other in self.effort.company.placement.nodes - {me}:
                self.fetching.barred(other, now, DENIED)

    @property
    def _are_many_denied(self) -> bool:
        return len(self._deniers) >= min(STAND_INS, self.effort.company.others)

    def _give_up(self) -> None:
        """Fail with the registry's words if they are the last ones."""
        if self._refusal is None or not self.fetching.bar(self.effort.now):
            return
        for_good = not transient(self._refusal)
        if self.fetching.idle:
            # Who asks next may show the registry something better.
            if for_good and not self.whole:
                self._fail(self._refusal)
        elif not any(each.flowing for _, each in self._requests.values()) and (
            self.fetching.hopeless(self.effort.now) or (for_good and self._are_many_denied)
        ):
            self._fail(self._refusal)


def wait_after(error: TransportError | RegistryError) -> float:
    """For how many seconds a registry that gave this is not asked again for the same blob."""
    told: float | None = getattr(error, "retry_after", None)
    if isinstance(error, RateLimited):
        return LIMITED if told is None else told
    return AWAY if transient(error) else DENIED
