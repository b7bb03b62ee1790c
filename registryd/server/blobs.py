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
from contextlib import suppress

from aiohttp import web

from cache.content import Digest
from cache.errors import Fault
from cache.ingest import Ingest
from registryd.oci.ranges import ByteRange, ContentRange, parse_range
from registryd.oci.reference import Reference
from registryd.oci.routes import BlobRoute
from registryd.ports import Remote, TransportError
from registryd.server.context import admitted, context_of, located
from registryd.server.kernel import open_sender
from registryd.transfer.flight import Flight

#: Seconds in which a runtime that can ask elsewhere (it says ``ns``) gets its first byte or a no.
BUDGET = 5.0


async def serve_blob(request: web.Request, route: BlobRoute) -> web.StreamResponse:
    """The blob, or the range asked for. Raises BlobUnknown and what upstream says."""
    reference = located(request, route.repository)
    remote = await admitted(request, reference)
    if request.method == "HEAD":
        return await _head(request, remote, reference, route.digest)
    flight = await context_of(request).node.library.blob(remote, reference, route.digest)
    arriving = await _arriving(request, flight)
    if arriving is None:
        return await _serve_held(request, route.digest)
    return await _serve_arriving(request, arriving, route.digest)


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


async def _arriving(request: web.Request, flight: Flight | None) -> Ingest | None:
    """The ingest to follow, once there is something to give; None when the blob is held."""
    if flight is None:
        return None
    limit = BUDGET if "ns" in request.query else None
    try:
        async with asyncio.timeout(limit):
            ingest = await flight.ingest()
            if ingest is None:
                return None
            size = await ingest.known_size()
            start = _wanted(request, size).start
            while not ingest.committed and ingest.available(start) == start:
                await ingest.changed()
    except TimeoutError:
        raise TransportError(
            f"{flight.source} gave nothing of {flight.want.digest} for {BUDGET:g} seconds"
        ) from None
    except Fault:
        await flight.landed()  # its error is the cause, ours only that the ingest ended
        raise
    return None if ingest.committed else ingest


def _wanted(request: web.Request, size: int) -> ByteRange:
    """The bytes to give: the range asked for, or everything. Raises RangeInvalid."""
    ranges = parse_range(request.headers.get("Range"), size)
    # Several ranges may be answered by the whole (RFC 9110, 14.2); clients that send them cope.
    return ranges[0] if ranges and len(ranges) == 1 else ByteRange(0, size)


async def _prepare(
    request: web.Request, digest: Digest, wanted: ByteRange, size: int
) -> web.StreamResponse:
    headers = _headers(digest)
    partial = wanted.length != size
    if partial:
        headers["Content-Range"] = str(ContentRange(wanted.start, wanted.stop, size))
    response = web.StreamResponse(status=206 if partial else 200, headers=headers)
    response.content_length = wanted.length
    await response.prepare(request)
    return response


async def _serve_held(request: web.Request, digest: Digest) -> web.StreamResponse:
    context = context_of(request)
    blob = context.node.store.find(digest)
    size = blob.size if blob else 0
    wanted = _wanted(request, size)
    async with context.node.store.open_blob(digest) as fd:
        response = await _prepare(request, digest, wanted, size)
        if wanted.length and request.transport is not None:
            async with open_sender(request.transport) as sender:
                await sender.send(fd, wanted.start, wanted.length)
        await response.write_eof()
    context.metrics.served.labels("cache").inc(wanted.length)
    return response


async def _serve_arriving(
    request: web.Request, ingest: Ingest, digest: Digest
) -> web.StreamResponse:
    context = context_of(request)
    size = ingest.size or 0
    wanted = _wanted(request, size)
    async with ingest.follow(wanted.start, wanted.stop) as follower:
        response = await _prepare(request, digest, wanted, size)
        try:
            if request.transport is not None:
                async with open_sender(request.transport) as sender:
                    async for offset, count in follower:
                        await sender.send(follower.fd, offset, count)
        except Fault as fault:
            # Too late for a status: a cut connection is the only way to say "do not keep this".
            with suppress(AttributeError):
                request.transport.abort()  # type: ignore[union-attr]
            raise ConnectionResetError(f"cut: {fault}") from fault
        await response.write_eof()
    context.metrics.served.labels("upstream").inc(wanted.length)
    return response
