"""Sending a stretch of a chunk to another node, here or still on its way here.

Invariants:
- what the headers say of the chunk (how much is here, that it is proven, its hash) is how it is
  when they are sent, and no await lies between the look and the sending;
- a stretch that breaks, or turns out to be wrong while it is sent, ends with its connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Self

from aiohttp import web

from cache.errors import Fault, IngestAborted
from cache.follower import Follower, Span
from cache.ingest import Ingest
from registryd.cluster.exchange import Exchange
from registryd.cluster.swarm import Swarm
from registryd.oci.ranges import ContentRange
from registryd.server.account import account_of
from registryd.server.context import CAUSE, context_of
from registryd.server.cutting import cut
from registryd.server.kernel import open_sender
from registryd.server.peer_asks import Wanted

EXCHANGE: Final = web.AppKey("exchange", Exchange)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The bytes to send from ``fd``; ``here`` counts from the chunk's start.

    ``follower`` None: all of it is here.
    """

    fd: int
    start: int
    stop: int
    here: int
    checked: bool
    follower: Follower | None = None
    swarm: Swarm | None = None
    chunk: int = 0

    @classmethod
    def held(cls, fd: int, wanted: Wanted) -> Self:
        """Of a blob that is here."""
        here = wanted.geometry.length(wanted.chunk)
        return cls(fd, wanted.start, wanted.stop, here, checked=True)

    @classmethod
    def arriving(
        cls, follower: Follower, ingest: Ingest, swarm: Swarm | None, wanted: Wanted
    ) -> Self:
        """Of a blob on its way here."""
        first, last = wanted.geometry.span(wanted.chunk)
        whole = ingest.committed
        here = (last if whole else min(ingest.held.reach(first), last)) - first
        checked = whole or ingest.is_checked(first, last)
        return cls(
            follower.fd, wanted.start, wanted.stop, here, checked, follower, swarm, wanted.chunk
        )

    async def spans(self) -> AsyncIterator[Span]:
        """What can be sent now, and then what comes. Raises IngestAborted when it breaks."""
        if self.follower is None:
            yield self.start, self.stop - self.start
            return
        generations = {} if self.swarm is None else self.swarm.proving.generations
        before = generations.get(self.chunk, 0)
        async for span in self.follower:
            if generations.get(self.chunk, 0) != before:
                raise IngestAborted(f"chunk {self.chunk} was wrong, and is fetched again")
            yield span


async def send(request: web.Request, wanted: Wanted, stretch: Stretch) -> web.StreamResponse:
    """Answer with the stretch; if it cannot be finished, the connection is cut."""
    counts = request.app[EXCHANGE].company.counts
    response = _head(request, wanted, stretch)
    counts.answers["serve"] += 1
    account_of(request).begins()
    await response.prepare(request)
    try:
        await _body(request, wanted, stretch, response)
        await response.write_eof()
    except ConnectionError:
        # It has left, or has the chunk from elsewhere by now: that is no fault of anybody's.
        if request.transport is not None:
            request.transport.abort()
    except (Fault, OSError, EOFError) as error:
        cut(request)
        response.headers[CAUSE] = f"cut: {error}"
    return response


def _head(request: web.Request, wanted: Wanted, stretch: Stretch) -> web.StreamResponse:
    response = web.StreamResponse(status=206)
    size = wanted.geometry.size
    response.headers["Content-Type"] = "application/octet-stream"
    response.headers["Content-Range"] = str(ContentRange(stretch.start, stretch.stop, size))
    response.headers["Registryd-Here"] = str(stretch.here)
    if stretch.checked:
        response.headers["Registryd-Checked"] = "1"
        known = request.app[EXCHANGE].hashes.find(wanted.digest, wanted.chunk)
        if known is not None:
            response.headers["Registryd-Chunk"] = str(known)
    response.content_length = stretch.stop - stretch.start
    return response


async def _body(
    request: web.Request, wanted: Wanted, stretch: Stretch, response: web.StreamResponse
) -> None:
    context, counts = context_of(request), request.app[EXCHANGE].company.counts
    if request.transport is None:
        return
    check = context.node.store.scrub.still_good(wanted.digest)
    with context.node.rates.to_peers(wanted.digest) as pace:
        opening = open_sender(request.transport, response, context.senders, pace, check)
        async with opening as sender:
            try:
                async for offset, count in stretch.spans():
                    await sender.send(stretch.fd, offset, count)
            finally:
                account_of(request).sent = sender.sent
                counts.sent += sender.sent
