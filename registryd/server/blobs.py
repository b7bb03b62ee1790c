"""GET and HEAD of blobs: from the cache by the kernel, or along with their arrival.

Distribution specification 1.1, "Pulling blobs"; RFC 9110, 14 "Range Requests". Invariants:
- the status is decided before the first header: a client that may ask elsewhere gets a 404 or 503
  within ``BUDGET``, never a body that cannot be finished for a reason known by then;
- an arriving blob's last bytes are given only after its digest was proven; a wrong blob cuts the
  connection. A bounded part, which nobody can take for the blob, is given as it comes from the
  registry that is asked, its last bytes too;
- what the cache has no room for is given past it, by the same rules;
- of a blob that is not here a bounded part costs upstream that part, and not the whole;
- no Content-Encoding, ever: clients hash what they get.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

from aiohttp import web

from cache.content import Digest
from cache.errors import CacheError, DigestMismatch, DiskFull, Fault
from cache.follower import Follower
from cache.ingest import Ingest
from registryd.oci.errors import RegistryError
from registryd.oci.ranges import ContentRange
from registryd.oci.reference import Reference
from registryd.oci.routes import BlobRoute
from registryd.ports import Remote, TransportError, transient
from registryd.server.account import account_of
from registryd.server.context import CAUSE, admitted, caller_of, context_of, located
from registryd.server.cutting import cut
from registryd.server.kernel import STALL, Check, open_sender
from registryd.server.parts import Part, may_be_bounded, part_of
from registryd.transfer.passing import Passed
from registryd.user_quotas import UID

#: Seconds in which a runtime that can ask elsewhere (it says ``ns``) gets its first byte or a no.
BUDGET = 5.0


async def serve_blob(request: web.Request, route: BlobRoute) -> web.StreamResponse:
    """The blob, or the range asked for. Raises BlobUnknown and what upstream says."""
    async with AsyncExitStack() as reading:
        return await _serve(request, route, reading)


async def _serve(
    request: web.Request, route: BlobRoute, reading: AsyncExitStack
) -> web.StreamResponse:
    reference, digest = located(request, route.repository), route.digest
    account_of(request).digest = digest
    try:
        return await _answer(request, reference, digest, reading)
    except (TransportError, RegistryError, CacheError) as error:
        if isinstance(error, CacheError) or transient(error):
            context_of(request).budgets.broken.note(reference.name, digest)
        raise


async def _answer(
    request: web.Request, reference: Reference, digest: Digest, reading: AsyncExitStack
) -> web.StreamResponse:
    async with context_of(request).budgets.wait(request, reference, BUDGET) as wait:
        remote = await admitted(request, reference, lambda r: r.blob_size(reference, digest))
        if request.method == "HEAD":
            return await _head(request, remote, reference, digest)
        arriving: Ingest | Passed | None
        try:
            arriving = await _arriving(request, remote, reference, digest, reading)
        except DiskFull as full:
            past = _passing(request, remote, reference, digest, full)
            arriving = await reading.enter_async_context(past)
        wait.answered = account_of(request).source == "upstream"
    if isinstance(arriving, Passed):
        return await _serve_passing(request, arriving, reference, digest)
    if arriving is None:
        context_of(request).budgets.broken.forget(reference.name, digest)
        return await _serve_held(request, digest)
    return await _serve_arriving(request, arriving, remote, reference, digest)


async def _head(
    request: web.Request, remote: Remote | None, reference: Reference, digest: Digest
) -> web.StreamResponse:
    node = context_of(request).node
    blob = node.store.find(digest)
    if blob and await node.store.is_member(reference.name, digest):
        size: int | None = blob.size
        account_of(request).found("blob", "hit")
    elif remote is not None and (below := await node.lowers.size(reference.name, digest)):
        size = below
        account_of(request).found("blob", "miss")
    elif remote is not None:
        size = await remote.blob_size(reference, digest)
        account_of(request).found("blob", "miss")
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
    request: web.Request,
    remote: Remote | None,
    reference: Reference,
    digest: Digest,
    reading: AsyncExitStack,
) -> Ingest | None:
    """The ingest to follow, once there is something to give; None when the blob is held.

    What is fetched for this request alone is fetched until ``reading`` is left.
    """
    await _counted(request, remote, reference, digest, reading)
    whole = not may_be_bounded(request.headers.get("Range"))
    flight = await context_of(request).node.library.blob(remote, reference, digest, whole=whole)
    account = account_of(request)
    account.found("blob", "hit")
    if flight is None:
        return None
    way = "miss" if flight.joined == 1 else "wait"
    reading.enter_context(flight.reading())
    ingest = await flight.ingest()
    if ingest is None:
        return None
    account.found("blob", way)
    account.sender = lambda: flight.source
    try:
        wanted = _wanted(request, await ingest.known_size())
        if not wanted.bounded:
            flight.bring_whole()
        elif not flight.is_of(reference.registry):
            await flight.landed()
            return None
        if wanted.ranged:
            reading.enter_context(flight.demand(wanted.start, wanted.stop))
        await _first_byte(ingest, wanted)
    except CacheError:
        # The flight knows the cause, or has begun anew and brings the blob after all.
        await flight.landed()
        return None
    return None if ingest.committed else ingest


async def _counted(
    request: web.Request,
    remote: Remote | None,
    reference: Reference,
    digest: Digest,
    reading: AsyncExitStack,
) -> None:
    """Let what is fetched for this request count for its user. Raises QuotaExceeded."""
    node, owner = context_of(request).node, caller_of(request).principal
    store, quotas = node.store, node.store.room.quotas
    here = store.find(digest) is not None or node.flights.find(digest) is not None
    if remote is None or here or not owner.startswith(UID):
        return
    if quotas.bounds(owner):
        size = await store.expected_size(digest) or await remote.blob_size(reference, digest)
        await reading.enter_async_context(quotas.coming(owner, {digest: size or 0}))
    with suppress(DiskFull):
        await quotas.hold_above(owner, reference.name, digest)


async def _first_byte(ingest: Ingest, wanted: Part) -> None:
    """Wait until there is something to give. Raises IngestAborted."""
    at, proven = wanted.start, not wanted.bounded
    while not ingest.committed and ingest.available(at, proven=proven) == at:
        await ingest.changed()


def _wanted(request: web.Request, size: int) -> Part:
    return part_of(request.headers.get("Range"), size)


async def _prepare(
    request: web.Request, digest: Digest, wanted: Part, size: int
) -> web.StreamResponse:
    headers = _headers(digest)
    if wanted.ranged:
        headers["Content-Range"] = str(ContentRange(wanted.start, wanted.stop, size))
    response = web.StreamResponse(status=206 if wanted.ranged else 200, headers=headers)
    response.content_length = wanted.length
    account_of(request).begins()
    await response.prepare(request)
    return response


async def _whole_or_cut(
    request: web.Request, response: web.StreamResponse, sending: Awaitable[None]
) -> Exception | None:
    """Send the body; where it cannot be finished, the connection is cut, and this says why.

    It is too late for a status, and only this says "do not keep what you have".
    """
    try:
        await sending
        await response.write_eof()
    except (Fault, OSError, EOFError) as error:
        cut(request)
        response.headers[CAUSE] = f"cut: {error}"
        return error
    return None


async def _serve_held(request: web.Request, digest: Digest) -> web.StreamResponse:
    context = context_of(request)
    check = context.node.store.scrub.still_good(digest)
    async with context.node.store.open_blob(digest) as fd:
        # The file's own size: a blob that was proven this instant is not in the store's list yet.
        size, blob = os.fstat(fd).st_size, context.node.store.find(digest)
        if blob is not None:
            blob.check(size)
        wanted = _wanted(request, size)
        response = await _prepare(request, digest, wanted, size)
        await _whole_or_cut(request, response, _send_held(request, response, fd, wanted, check))
    return response


async def _send_held(
    request: web.Request, response: web.StreamResponse, fd: int, wanted: Part, check: Check
) -> None:
    senders = context_of(request).senders
    if request.transport is not None and wanted.length:
        async with open_sender(request.transport, response, senders, check=check) as sender:
            try:
                await sender.send(fd, wanted.start, wanted.length)
            finally:
                account_of(request).sent = sender.sent


async def _serve_arriving(
    request: web.Request,
    ingest: Ingest,
    remote: Remote | None,
    reference: Reference,
    digest: Digest,
) -> web.StreamResponse:
    size = ingest.size or 0
    wanted = _wanted(request, size)
    proven = not wanted.bounded

    async def send(response: web.StreamResponse) -> None:
        try:
            await _send_arriving(request, response, follower)
        except DiskFull as full:  # what has been given stays so: the rest comes past the cache
            async with _passing(request, remote, reference, digest, full) as passed:
                await _send_passing(request, response, passed, wanted, follower.fd)

    async with ingest.follow(wanted.start, wanted.stop, proven=proven) as follower:
        response = await _prepare(request, digest, wanted, size)
        failure = await _whole_or_cut(request, response, send(response))
    _note(request, reference, digest, failure)
    return response


def _note(
    request: web.Request, reference: Reference, digest: Digest, failure: Exception | None
) -> None:
    """Remember whether a blob could be had from its registry."""
    broken = context_of(request).budgets.broken
    if failure is None:
        broken.forget(reference.name, digest)
    elif isinstance(failure, Fault):  # else it is the client who has gone
        broken.note(reference.name, digest)


@asynccontextmanager
async def _passing(
    request: web.Request,
    remote: Remote | None,
    reference: Reference,
    digest: Digest,
    full: DiskFull,
) -> AsyncIterator[Passed]:
    """A blob that its caller may read, past the cache. Raises ``full`` where it has no upstream."""
    if remote is None:
        raise full
    past = context_of(request).node.flights.past
    async with past.opened(remote, reference.bare(), digest, full) as passed:
        account = account_of(request)
        account.found("blob", "miss")
        account.sender = lambda: passed.source
        yield passed


async def _serve_passing(
    request: web.Request, passed: Passed, reference: Reference, digest: Digest
) -> web.StreamResponse:
    wanted = _wanted(request, passed.size)
    response = await _prepare(request, digest, wanted, passed.size)
    sending = _send_passing(request, response, passed, wanted)
    _note(request, reference, digest, await _whole_or_cut(request, response, sending))
    return response


async def _send_passing(
    request: web.Request,
    response: web.StreamResponse,
    passed: Passed,
    wanted: Part,
    given: int = -1,
) -> None:
    """Give what has not been given yet of the part that is wanted.

    What came before, out of the file ``given``, was not proven: of a whole it is compared.
    """
    account, proven = account_of(request), not wanted.bounded
    before, at = (account.sent, wanted.start) if proven else (0, wanted.start + account.sent)
    pieces = passed.pieces(at, wanted.stop, proven=proven)
    async with aclosing(pieces):
        async for each in pieces:
            if before:
                await asyncio.to_thread(_refuse_other, given, at, each[:before])
            piece = each[before:]
            at, before = at + len(each), max(0, before - len(each))
            if not piece:
                continue
            try:
                async with asyncio.timeout(STALL):
                    await response.write(piece)
            except TimeoutError:
                raise ConnectionResetError("the client stopped reading") from None
            account.sent += len(piece)


def _refuse_other(file: int, at: int, content: bytes) -> None:
    """Raise DigestMismatch where a file has other bytes than these."""
    if os.pread(file, len(content), at) != content:
        raise DigestMismatch("what was given before the cache had no room was wrong")


async def _send_arriving(
    request: web.Request, response: web.StreamResponse, follower: Follower
) -> None:
    senders = context_of(request).senders
    if request.transport is not None:
        async with open_sender(request.transport, response, senders) as sender:
            try:
                async for offset, count in follower:
                    await sender.send(follower.fd, offset, count)
            finally:
                account_of(request).sent = sender.sent
