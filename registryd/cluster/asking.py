"""Asking: one request for a chunk, to a peer or to the blob's registry, and what comes of it.

Invariants:
- the fetch is told of every request exactly once how it ended, unless it has dropped it;
- bytes of a peer are written as doubtful ones: nobody believes them before they are checked;
- a sender that has no more of the chunk than we have is left: nodes never feed on one another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cache.errors import Fault
from registryd.cluster.arrival import Arrival
from registryd.cluster.choosing import UPSTREAM
from registryd.cluster.company import Answer, Effort
from registryd.cluster.errors import PeerCut, PeerFault, PeerStalled
from registryd.cluster.peer_client import ChunkAsk
from registryd.cluster.peers import Failure
from registryd.cluster.steps import Ask, AskUpstream
from registryd.cluster_ports import ClusterNode
from registryd.oci.errors import RegistryError
from registryd.ports import TransportError
from registryd.rates import Pace
from registryd.secrets import Secret

#: Seconds for which a peer is not asked to get a blob that its registry refused it.
DENIED: Final = 60.0
#: Seconds that getting it may take: a registry that is away must not keep us from other nodes.
TOKEN_PATIENCE: Final = 3.0
#: Seconds for which the token for other nodes is used without asking for it anew.
TOKEN_KEPT: Final = 20.0

_log = logging.getLogger(__name__)

Refused = Callable[[TransportError | RegistryError], None]


@dataclass(slots=True)
class Listening:
    """A request under way: until it is ``over``, what it brings is told."""

    chunk: int
    node: str
    over: bool = False
    flowing: bool = False
    #: The sender is still receiving the chunk.
    passing_on: bool = False
    #: How much of the chunk was here when it began, and how much when it was looked at.
    began: int = 0
    reached: int = 0


class Asking:
    """The requests of one swarm."""

    def __init__(
        self,
        effort: Effort,
        refused: Refused,
        denied: Callable[[str], None],
        came: Callable[[int], None],
    ) -> None:
        """``refused`` is told why the registry gave no chunk, ``denied`` which peer it refused,
        ``came`` which chunk is here.
        """
        #: Bytes that came from the registry, and when the last ones did.
        self.fetched = 0
        self.registry_heard = 0.0
        self._effort = effort
        self._refused = refused
        self._denied = denied
        self._came = came
        self._token: Secret | None = None
        self._token_until = 0.0
        self._asking_token = asyncio.Lock()

    async def of_peer(self, step: Ask, request: Listening) -> None:
        """Ask a peer. Raises DiskFull, StoreUnusable, IngestAborted."""
        effort = self._effort
        node = effort.company.cluster.find(step.node)
        if effort.complete(step.chunk):
            self._arrived(request)
        elif node is None:
            self._failed(request, Failure.GONE)
        else:
            try:
                await self._ask(node, step, request)
            except PeerFault as fault:
                digest = effort.errand.digest
                _log.info("peer failed: digest=%s chunk=%d cause=%s", digest, step.chunk, fault)
                self._failed(request, _kind(fault))

    async def _ask(self, node: ClusterNode, step: Ask, request: Listening) -> None:
        effort, company, chunk = self._effort, self._effort.company, step.chunk
        token = await self._upstream_token()
        start, stop = effort.geometry.span(chunk)
        bar = effort.fetching.bar(effort.now)
        ask = ChunkAsk(
            repository=effort.repository,
            digest=effort.errand.digest,
            start=start + effort.reach(chunk),
            stop=stop,
            size=effort.geometry.size,
            hops=step.hops,
            free=company.line.free,
            owed=step.owed,
            relay=step.relay,
            token=token,
            barred=bar or None,
            made=effort.errand.made,
        )
        if ask.start == stop:
            self._arrived(request)
            return
        owner = effort.fetching.owner(chunk, effort.now)
        async with company.client.chunk(node, ask) as answer:
            if answer.chunk_digest is not None and step.node == owner:
                effort.words[chunk] = step.node, answer.chunk_digest
            if answer.status != 206:
                self._turned_away(answer, request)
                return
            if self._is_behind(answer, chunk):
                self._failed(request, Failure.REFUSED)
                return
            await self._take(answer, ask, request)
        await self._ends(request)

    def _is_behind(self, answer: Answer, chunk: int) -> bool:
        """Whether a sender fell behind while we were in its queue."""
        here, effort = answer.here, self._effort
        return (
            here is not None
            and here < effort.geometry.length(chunk)
            and here <= effort.reach(chunk)
        )

    async def _take(self, answer: Answer, ask: ChunkAsk, request: Listening) -> None:
        effort, company = self._effort, self._effort.company
        effort.sent_by(request.chunk, request.node, checked=answer.checked)
        length = effort.geometry.length(request.chunk)
        request.passing_on = answer.here is not None and answer.here < length
        start = effort.geometry.span(request.chunk)[0]
        arrival = Arrival(effort.ingest, ask.start, lambda at: self._progress(request, at - start))
        near = company.peers.near(request.node)
        try:
            with company.rates.from_peers(effort.errand.digest) as pace:
                async for piece in answer:
                    company.counts.received += len(piece)
                    company.counts.far += 0 if near else len(piece)
                    await _paced(pace, arrival, piece)
        finally:
            await arrival.finish()  # also after a break: what came is kept
            # Again: the chunk may have been given up meanwhile, with the list of its senders.
            effort.sent_by(request.chunk, request.node, checked=answer.checked)

    async def _ends(self, request: Listening) -> None:
        """All bytes have come, or another request is just writing those that are missing."""
        effort = self._effort
        start, stop = effort.geometry.span(request.chunk)
        while not effort.complete(request.chunk) and not effort.ingest.ended:
            at = start + effort.reach(request.chunk)
            if effort.ingest.room(at, stop) > at:
                self._failed(request, Failure.CUT)
                return
            await effort.ingest.changed()
        self._arrived(request)

    def _turned_away(self, answer: Answer, request: Listening) -> None:
        fetching, now = self._effort.fetching, self._effort.now
        counts = self._effort.company.counts
        if request.over:
            return
        request.over = True
        chunk, node = request.chunk, request.node
        if answer.status == 307 and answer.to:
            fetching.redirected(chunk, node, answer.to, now)
        elif answer.status in (307, 503):
            counts.refusals += 1
            fetching.failed(chunk, node, Failure.REFUSED, now)
            if answer.barred is not None:
                fetching.barred(node, now, answer.barred)
        elif answer.status in (401, 403, 404):
            counts.refusals += 1
            fetching.failed(chunk, node, Failure.REFUSED, now)
            fetching.barred(node, now, DENIED)
            self._denied(node)
        else:
            fetching.failed(chunk, node, Failure.GONE, now)
        self._effort.told()

    async def of_registry(self, step: AskUpstream, request: Listening) -> None:
        """Ask the registry. Raises DiskFull, StoreUnusable, IngestAborted, SizeMismatch."""
        effort = self._effort
        start, stop = effort.geometry.span(step.chunk)
        request.began = request.reached = effort.reach(step.chunk)
        try:
            await effort.errand.from_registry(start + request.began, stop)
        except (TransportError, RegistryError) as error:
            if not request.over:
                request.over = True
                effort.fetching.failed(step.chunk, UPSTREAM, Failure.GONE, effort.now)
                self._refused(error)
                effort.told()
            return
        finally:
            self.fetched += max(0, effort.reach(step.chunk) - request.began)
        await self._ends(request)

    def look(self, request: Listening) -> None:
        """See what the registry's request has brought, for others write what it brings."""
        reach = self._effort.reach(request.chunk)
        if reach > request.reached:
            request.reached = reach
            self._progress(request, reach)
        if reach == self._effort.geometry.length(request.chunk):
            self._arrived(request)

    def _progress(self, request: Listening, offset: int) -> None:
        """So many bytes of the chunk are in the file."""
        if request.over:
            return
        effort, now = self._effort, self._effort.now
        if not request.flowing:
            request.flowing = True
            effort.fetching.flowing(request.chunk, request.node, now, passing_on=request.passing_on)
            effort.company.line.here(effort.fetching.blob, request.chunk)
            effort.told()
        if request.node == UPSTREAM:
            self.registry_heard = now
        effort.fetching.reached(request.chunk, request.node, offset, now)

    def _arrived(self, request: Listening) -> None:
        if not request.over:
            self._progress(request, self._effort.reach(request.chunk))
            request.over = True
            self._effort.fetching.arrived(request.chunk, request.node, self._effort.now)
            self._came(request.chunk)
            self._effort.told()

    def _failed(self, request: Listening, failure: Failure) -> None:
        if request.over:
            return
        request.over = True
        if failure is Failure.REFUSED:
            self._effort.company.counts.refusals += 1
        self._effort.fetching.failed(request.chunk, request.node, failure, self._effort.now)
        self._effort.told()

    async def _upstream_token(self) -> Secret | None:
        """What another node may show to the registry for us; None where there is nothing."""
        async with self._asking_token:
            if self._effort.now >= self._token_until:
                try:
                    async with asyncio.timeout(TOKEN_PATIENCE):
                        self._token = await self._effort.errand.token()
                except (Fault, TimeoutError):
                    self._token = None  # those who hold the blob need none
                self._token_until = self._effort.now + TOKEN_KEPT
            return self._token


async def _paced(pace: Pace, arrival: Arrival, piece: bytes) -> None:
    """Take bytes in as fast as they may pass; in parts, so that progress is seen meanwhile."""
    at = 0
    while at < len(piece):
        room = await pace.room(len(piece) - at)
        await arrival.add(piece[at : at + room] if room < len(piece) else piece)
        pace.passed(room)
        at += room


def _kind(fault: PeerFault) -> Failure:
    if isinstance(fault, PeerCut):
        return Failure.CUT
    return Failure.STALLED if isinstance(fault, PeerStalled) else Failure.GONE
