"""GET and HEAD of blobs: from the cache by the kernel, or along with their arrival.

Distribution specification 1.1, "Pulling blobs"; RFC 9110, 14 "Range Requests". Invariants:
- the status is decided before the first header: a client that may ask elsewhere gets a 404 or 503
  within ``BUDGET``, never a body that cannot be finished for a reason known by then;
- an arriving blob's last bytes are given only after its digest was proven; a wrong blob cuts the
  connection;
- no Content-Encoding, ever: clients hash what they get.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import dataclass

from aiohttp import web

from cache.content import Digest
from cache.errors import CacheError, Fault, SizeMismatch
from cache.ingest import Follower, Ingest
from registryd.oci.ranges import ContentRange, parse_range
from registryd.oci.reference import Reference
from registryd.oci.routes import BlobRoute
from registryd.ports import Remote, TransportError
from registryd.server.context import CAUSE, admitted, context_of, located
from registryd.server.kernel import open_sender

#: Seconds in which a runtime that can ask elsewhere (it says ``ns``) gets its first byte or a no.
BUDGET = 5.0


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes ``[start, stop)`` to give; ``ranged`` when the client asked for just these."""

    start: int
    stop: int
    ranged: bool

    @property
    def length(self) -> int:
        """How many bytes it has; the whole of an empty blob has none."""
        return self.stop - self.start


async def serve_blob(request: web.Request, route: BlobRoute) -> web.StreamResponse:
    """The blob, or the range asked for. Raises BlobUnknown and what upstream says."""
    reference, digest = located(request, route.repository), route.digest
    try:
        async with asyncio.timeout(BUDGET if "ns" in request.query else None):
            remote = await admitted(request, reference, lambda r: r.blob_size(reference, digest))
            if request.method == "HEAD":
                return await _head(request, remote, reference, digest)
            arriving = await _arriving(request, remote, reference, digest)
    except TimeoutError:
        raise TransportError(
            f"{reference.registry} gave nothing of {digest} for {BUDGET:g} seconds"
        ) from None
    if arriving is None:
        return await _serve_held(request, digest)
    return await _serve_arriving(request, arriving, digest)


async def _head(
    request: web.Request, remote: Remote | None, reference: Reference, digest: Digest
) -> web.StreamResponse:
    node = context_of(request).node
    blob = node.store.find(digest)
    if blob and await node.store.is_member(reference.name, digest):
        size: int | None = blob.size
    elif remote is not None:
        size = await remote.blob_size(reference, digest)
    else:
        await node.library.blob(None, reference, digest)  # says why not
        size = None
    headers = _headers(digest)
    if size is not None:
        headers["Content-Length"] = str(size)
    return web.Response(headers=headers)


def _headers(digest: Digest) -> dict[str, str]:
    return {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": str(digest),
        "Accept-Ranges": "bytes",
        "ETag": f'"{digest}"',
        "Cache-Control": "max-age=31536000, immutable",
    }


async def _arriving(
    request: web.Request, remote: Remote | None, reference: Reference, digest: Digest
) -> Ingest | None:
    """The ingest to follow, once there is something to give; None when the blob is held."""
    flight = await context_of(request).node.library.blob(remote, reference, digest)
    ingest = await flight.ingest() if flight else None
    if flight is None or ingest is None:
        return None
    try:
        start = _wanted(request, await ingest.known_size()).start
        while not ingest.committed and ingest.available(start) == start:
            await ingest.changed()
    except CacheError:
        # The flight knows the cause, or has begun anew and brings the blob after all.
        await flight.landed()
        return None
    return None if ingest.committed else ingest


def _wanted(request: web.Request, size: int) -> Part:
    """The bytes to give: the range asked for, or everything. Raises RangeInvalid."""
    ranges = parse_range(request.headers.get("Range"), size)
    # Several ranges may be answered by the whole (RFC 9110, 14.2); clients that send them cope.
    if ranges and len(ranges) == 1:
        return Part(ranges[0].start, ranges[0].stop, ranged=True)
    return Part(0, size, ranged=False)


async def _prepare(
    request: web.Request, digest: Digest, wanted: Part, size: int
) -> web.StreamResponse:
    headers = _headers(digest)
    if wanted.ranged:
        headers["Content-Range"] = str(ContentRange(wanted.start, wanted.stop, size))
    response = web.StreamResponse(status=206 if wanted.ranged else 200, headers=headers)
    response.content_length = wanted.length
    await response.prepare(request)
    return response


async def _whole_or_cut(
    request: web.Request, response: web.StreamResponse, sending: Awaitable[None]
) -> bool:
    """Whether the body was sent; where it cannot be finished, the connection is cut.

    It is too late for a status, and only this says "do not keep what you have".
    """
    try:
        await sending
        await response.write_eof()
    except (Fault, OSError, EOFError) as error:
        if request.transport is not None:
            request.transport.abort()
        response.headers[CAUSE] = f"cut: {error}"
        return False
    return True


async def _serve_held(request: web.Request, digest: Digest) -> web.StreamResponse:
    context = context_of(request)
    async with context.node.store.open_blob(digest) as fd:
        # The file's own size: a blob that was proven this instant is not in the store's list yet.
        size, blob = os.fstat(fd).st_size, context.node.store.find(digest)
        if blob is not None and blob.size != size:
            raise SizeMismatch(
                f"{digest} is damaged: its file has {size} bytes of {blob.size}"
                f" (remove {blob.path} to have it fetched again)"
            )
        wanted = _wanted(request, size)
        response = await _prepare(request, digest, wanted, size)
        sending = _send_held(request, fd, wanted)
        if await _whole_or_cut(request, response, sending):
            context.metrics.served.labels("cache").inc(wanted.length)
    return response


async def _send_held(request: web.Request, fd: int, wanted: Part) -> None:
    if request.transport is not None and wanted.length:
        async with open_sender(request.transport, context_of(request).senders) as sender:
            await sender.send(fd, wanted.start, wanted.length)


async def _serve_arriving(
    request: web.Request, ingest: Ingest, digest: Digest
) -> web.StreamResponse:
    context = context_of(request)
    size = ingest.size or 0
    wanted = _wanted(request, size)
    async with ingest.follow(wanted.start, wanted.stop) as follower:
        response = await _prepare(request, digest, wanted, size)
        sending = _send_arriving(request, follower)
        if await _whole_or_cut(request, response, sending):
            context.metrics.served.labels("upstream").inc(wanted.length)
    return response


async def _send_arriving(request: web.Request, follower: Follower) -> None:
    if request.transport is not None:
        async with open_sender(request.transport, context_of(request).senders) as sender:
            async for offset, count in follower:
                await sender.send(follower.fd, offset, count)
