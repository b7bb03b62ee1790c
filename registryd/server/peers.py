"""The routes of the peers' door: what one node answers another, beside bytes of chunks.

docs/peers.md has the protocol. Invariants:
- nothing here is for people or runtimes, and nothing but content by its digest is given;
- a manifest that is not here is fetched from its registry, never from another node: no circle
  comes of nodes that see different members.
"""

from __future__ import annotations

import asyncio
import os

from aiohttp import web

from cache.content import Digest
from registryd import __version__
from registryd.cluster.chunk_hashes import span_digest
from registryd.cluster.geometry import Geometry
from registryd.oci.errors import BlobUnknown, ManifestUnknown, Unsupported
from registryd.oci.routes import BlobRoute, ManifestRoute, parse
from registryd.server import peer_conversions, peer_jobs
from registryd.server.account import account_of
from registryd.server.app import ROUTE
from registryd.server.context import CONTEXT, context_of
from registryd.server.peer_asks import reference_of, remote_for, token_of
from registryd.server.peer_chunks import serve_chunk
from registryd.server.peer_sending import EXCHANGE


def add_routes(app: web.Application) -> None:
    """Add these routes to the application of the peers' door."""
    exchange = app[CONTEXT].node.exchange
    assert exchange is not None  # noqa: S101 (a node without neighbours has no such door)
    app[EXCHANGE] = exchange
    app.router.add_get("/healthz", _alive)
    app.router.add_get("/peer/v1/node", _node)
    app.router.add_get("/peer/v1/chunks/{digest}/{chunk}", _chunk_digest)
    peer_jobs.add_routes(app)
    peer_conversions.add_routes(app)
    app.router.add_get("/v2/{path:.*}", _content, allow_head=False)


async def _alive(request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok\n")


async def _content(request: web.Request) -> web.StreamResponse:
    route = parse(request.path)
    request[ROUTE] = f"peer_{type(route).__name__.removesuffix('Route').lower()}"
    if isinstance(route, BlobRoute):
        return await serve_chunk(request, route)
    if isinstance(route, ManifestRoute):
        return await _manifest(request, route)
    raise Unsupported(f"{request.path} is nothing that nodes ask one another")


async def _manifest(request: web.Request, route: ManifestRoute) -> web.StreamResponse:
    """A manifest by its digest. Raises ManifestUnknown and what its registry says."""
    exact, account = reference_of(route.repository, route.target), account_of(request)
    account.reference = exact
    if exact.digest is None:
        raise ManifestUnknown(f"{exact}: a node is asked for a digest, not for a tag", status=404)
    account.digest = exact.digest
    remote = remote_for(request, exact, token_of(request.headers))
    with request.app[EXCHANGE].answering():
        document = await context_of(request).node.library.document(remote, exact, remember=False)
    account.source, account.sent = "cache", len(document.raw)
    headers = {
        "Content-Type": document.media_type,
        "Docker-Content-Digest": str(document.digest),
    }
    return web.Response(headers=headers, body=document.raw)


async def _chunk_digest(request: web.Request) -> web.StreamResponse:
    """The hash of a chunk that this node has proven. Raises BlobUnknown."""
    exchange, node = request.app[EXCHANGE], context_of(request).node
    digest, number = Digest.parse(request.match_info["digest"]), request.match_info["chunk"]
    reference = reference_of(request.query.get("repository", ""))
    account = account_of(request)
    account.reference, account.digest = reference, digest
    absent = BlobUnknown(f"{reference.name} has no proven chunk {number[:20]} of it", status=404)
    if not (number.isascii() and number.isdigit() and len(number) <= 9):
        raise absent
    swarm = exchange.swarm(digest)
    known = await node.store.is_member(reference.name, digest)
    found: Digest | None = None
    if node.store.find(digest) is not None:
        found = await _held_digest(request, digest, int(number)) if known else None
    elif swarm is not None and (known or swarm.effort.repository == reference.name):
        found = await swarm.word(int(number))
    if found is None:
        raise absent
    return web.json_response({"digest": str(found)})


async def _held_digest(request: web.Request, digest: Digest, chunk: int) -> Digest | None:
    exchange, store = request.app[EXCHANGE], context_of(request).node.store
    async with store.open_blob(digest) as fd:
        geometry = Geometry(os.fstat(fd).st_size)
        if chunk >= geometry.count:
            return None
        span = geometry.span(chunk)
        return await exchange.hashes.make(
            digest, chunk, lambda: asyncio.to_thread(span_digest, fd, *span)
        )


async def _node(request: web.Request) -> web.StreamResponse:
    """This node as it sees itself."""
    exchange, store = request.app[EXCHANGE], context_of(request).node.store
    mine = exchange.company.cluster.find(exchange.me)
    free = await asyncio.to_thread(lambda: os.statvfs(store.root))
    return web.json_response(
        {
            "name": exchange.me,
            "version": __version__,
            "zone": "" if mine is None else mine.zone,
            "load": exchange.load,
            "slots": exchange.line.serving.slots,
            "free": free.f_bavail * free.f_frsize,
        }
    )
