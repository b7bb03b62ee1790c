"""Chunks for other nodes: who asks is a member, and gets the bytes, a way to them, or a no.

docs/peers.md has the protocol. Invariants:
- a chunk is given only of a blob that is a member of the repository here, or that the repository's
  registry has confirmed to us;
- a registry is asked only for a chunk that is ours to get: we own it, or the asker says that we owe
  it; with the asker's short-lived token where it sends one;
- whoever waits for a chunk waits in the line of the exchange, and holds nothing else.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, ExitStack

from aiohttp import web

from cache.errors import DiskFull
from cache.ingest import Ingest
from registryd.cluster.exchange import Exchange
from registryd.cluster.queueing import Verdict
from registryd.cluster.serving import PATIENCE, RETRY_AFTER, Redirect, Serve
from registryd.cluster.swarm import Swarm, wait_after
from registryd.oci.errors import RangeInvalid, RegistryError
from registryd.oci.routes import BlobRoute
from registryd.ports import TransportError
from registryd.server.account import account_of
from registryd.server.context import CAUSE, context_of
from registryd.server.errors import refusal_response
from registryd.server.peer_asks import Wanted, reference_of, remote_for
from registryd.server.peer_sending import EXCHANGE, Stretch, send
from registryd.transfer.flight import Flight
from registryd.transfer.library import LOCALHOST

#: Seconds for which a node is not asked for what another one made, and it has not begun to fetch.
NOT_YET = 2.0


async def serve_chunk(request: web.Request, route: BlobRoute) -> web.StreamResponse:
    """A stretch of a chunk. Raises what the registry says where it was asked for the asker."""
    exchange, reference = request.app[EXCHANGE], reference_of(route.repository)
    account = account_of(request)
    account.reference, account.digest = reference, route.digest
    wanted = Wanted.of(request, reference, route.digest, exchange.asked(route.digest))
    try:
        with ExitStack() as reading:
            return await _Answering(request, exchange, wanted, reading).answer()
    except (TransportError, RegistryError) as error:
        if isinstance(error, RangeInvalid):
            raise
        return _barred(refusal_response(error, request), error)


def _barred(response: web.Response, error: TransportError | RegistryError) -> web.Response:
    """The answer that says why the registry gave nothing, and for how long not to ask us."""
    response.headers["Registryd-Barred"] = f"{wait_after(error):.3f}"
    response.headers["Retry-After"] = str(RETRY_AFTER)
    response.headers[CAUSE] = " ".join(str(error).splitlines())
    return response


class _Answering:
    """One answer; ``reading`` holds what is read until it has been sent."""

    def __init__(
        self, request: web.Request, exchange: Exchange, wanted: Wanted, reading: ExitStack
    ) -> None:
        self._request = request
        self._exchange = exchange
        self._wanted = wanted
        self._reading = reading
        self._node = context_of(request).node

    async def answer(self) -> web.StreamResponse:
        """The answer. Raises TransportError, RegistryError, CacheError."""
        wanted, node = self._wanted, self._node
        if node.store.find(wanted.digest) is None:
            unable = self._exchange.company.unable_for(wanted.digest)
            if unable:
                return self._refuse(None, unable)
            if wanted.made and node.flights.find(wanted.digest) is None:
                return self._refuse(None, NOT_YET)  # and its registry has nothing to say of it
            if not self._is_ours():
                return self._redirect(self._exchange.owner(wanted.digest, wanted.chunk))
        try:
            return await self._brought()
        except DiskFull as full:  # others shall not wait for it here
            self._exchange.company.failed(wanted.digest, full)
            return self._refuse(None, self._exchange.company.unable_for(wanted.digest))

    async def _brought(self) -> web.StreamResponse:
        """From what is here, or is brought for it. Raises DiskFull where there is no room."""
        wanted, node = self._wanted, self._node
        remote = remote_for(self._request, wanted.reference, wanted.token)
        flight = await node.library.blob(
            remote, wanted.reference, wanted.digest, wanted.geometry.size, whole=False
        )
        if flight is None:
            return await self._held()
        self._reading.enter_context(flight.reading())
        ingest = await flight.ingest()
        if ingest is None:
            return await self._held()
        swarm = self._exchange.swarm(wanted.digest)
        if swarm is None or swarm.effort.ingest is not ingest:
            return await self._without_swarm(flight, ingest)
        return await self._with_swarm(swarm)

    def _is_ours(self) -> bool:
        """Whether there is something here to be given, or we are the one who must get it."""
        wanted = self._wanted
        if wanted.reference.registry == LOCALHOST or wanted.owed:
            return True
        if self._node.flights.find(wanted.digest) is not None:
            return True
        return self._exchange.owner(wanted.digest, wanted.chunk) == self._exchange.me

    async def _held(self) -> web.StreamResponse:
        wanted = self._wanted
        blob = self._node.store.find(wanted.digest)
        if blob is not None and blob.size != wanted.geometry.size:
            raise RangeInvalid(f"{wanted.digest} has another size", size=blob.size)
        async with self._turn(None) as answer:
            if not isinstance(answer, Serve):
                return self._elsewhere(answer)
            async with self._node.store.open_blob(wanted.digest) as fd:
                return await send(self._request, wanted, Stretch.held(fd, wanted))

    async def _with_swarm(self, swarm: Swarm) -> web.StreamResponse:
        wanted, fetching = self._wanted, swarm.fetching
        now = swarm.effort.now
        if fetching.geometry.size != wanted.geometry.size:
            raise RangeInvalid(f"{wanted.digest} has another size", size=fetching.geometry.size)
        if wanted.barred:
            fetching.barred(wanted.request.asker, now, wanted.barred)
        ours = fetching.demand(wanted.chunk, now, owed=wanted.owed)
        swarm.told()
        if not ours:
            owner = fetching.owner(wanted.chunk, now)
            if (wanted.owed and fetching.bar(now)) or owner in (None, self._exchange.me):
                return self._refuse(swarm)
            return self._redirect(str(owner))
        async with self._turn(swarm.reach(wanted.chunk)) as answer:
            if isinstance(answer, Serve):
                return await self._arriving(swarm.effort.ingest, swarm)
            return self._elsewhere(answer, swarm)

    async def _without_swarm(self, flight: Flight, ingest: Ingest) -> web.StreamResponse:
        """From a fetch that was begun when nobody else was there, or that peers cannot help."""
        wanted = self._wanted
        size = await ingest.known_size()
        if size != wanted.geometry.size:
            raise RangeInvalid(f"{wanted.digest} has another size", size=size)
        self._reading.enter_context(flight.demand(wanted.start, wanted.stop))
        try:
            async with asyncio.timeout(PATIENCE):
                while not ingest.committed and self._reach(ingest) <= wanted.start:
                    ingest.available(wanted.start, proven=False)  # raises why nothing comes
                    await ingest.changed()
        except TimeoutError:
            return self._refuse(None)
        async with self._turn(None) as answer:
            if isinstance(answer, Serve):
                return await self._arriving(ingest, None)
            return self._elsewhere(answer)

    def _turn(self, reach: int | None) -> AbstractAsyncContextManager[Verdict]:
        request = self._request
        return self._exchange.line.turn(
            self._wanted.request, reach, lambda: request.transport is None
        )

    def _reach(self, ingest: Ingest) -> int:
        return ingest.held.reach(self._wanted.start)

    async def _arriving(self, ingest: Ingest, swarm: Swarm | None) -> web.StreamResponse:
        wanted = self._wanted
        async with ingest.follow(
            wanted.start, wanted.stop, proven=False, checked=False
        ) as follower:
            stretch = Stretch.arriving(follower, ingest, swarm, wanted)
            return await send(self._request, wanted, stretch)

    def _elsewhere(self, answer: Verdict, swarm: Swarm | None = None) -> web.StreamResponse:
        if isinstance(answer, Redirect):
            return self._redirect(answer.node)
        if swarm is not None and swarm.failure is not None:
            raise swarm.failure
        return self._refuse(swarm)

    def _redirect(self, name: str) -> web.StreamResponse:
        exchange, wanted = self._exchange, self._wanted
        node = exchange.company.cluster.find(name)
        if node is None or name in (exchange.me, wanted.request.asker):
            return self._refuse(None)
        exchange.company.counts.answers["redirect"] += 1
        location = f"{node.url}{self._request.rel_url.raw_path}"
        headers = {"Location": location, "Registryd-To": name}
        known = exchange.hashes.find(wanted.digest, wanted.chunk)
        if known is not None:
            headers["Registryd-Chunk"] = str(known)
        return web.Response(status=307, headers=headers)

    def _refuse(self, swarm: Swarm | None, bar: float = 0.0) -> web.StreamResponse:
        self._exchange.company.counts.answers["refuse"] += 1
        account_of(self._request).calm = True
        headers = {"Retry-After": str(RETRY_AFTER)}
        bar = bar if swarm is None else swarm.fetching.bar(swarm.effort.now)
        if bar:
            headers["Registryd-Barred"] = f"{bar:.3f}"
        return web.Response(status=503, headers=headers)
