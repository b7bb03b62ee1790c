"""Blob uploads, whole, in chunks, or by mount: into the node's own registry, or through to others.

Distribution specification 1.1, "Pushing blobs". Invariants:
- a session belongs to one repository and to whoever opened it, and ends by itself in the end;
- chunks come in order; one that does not is refused with 416 and nothing of it is kept;
- a blob becomes a member of the repository only after its digest was proven, or when the pusher
  could have read it where it is mounted from;
- what goes through to another registry goes there with the caller's own login, and is answered
  when that registry has it; one that does not let the caller push is asked before there are bytes;
- a client that leaves while its bytes come can go on with its session, as long as that lives; one
  that leaves after the last byte changes nothing: what was begun is ended, for the next push.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from urllib.parse import quote

from aiohttp import web

from cache.content import ALGORITHMS, Digest
from cache.errors import Fault
from cache.ingest import Ingest
from registryd.oci.errors import (
    BlobUnknown,
    RangeInvalid,
    RateLimited,
    RegistryError,
    Unsupported,
    UploadInvalid,
    UploadUnknown,
)
from registryd.oci.ranges import format_upload_range, parse_upload_range
from registryd.oci.reference import Reference
from registryd.oci.routes import BlobRoute, UploadRoute, UploadsRoute
from registryd.ports import Remote
from registryd.server.account import account_of
from registryd.server.context import CAUSE, caller_of, challenged, context_of, located
from registryd.server.errors import refusal_response
from registryd.transfer.batch import HOP
from registryd.transfer.library import LOCALHOST
from registryd.transfer.push_through import PushRights, push_blob

#: A session that nothing came to for so long (seconds) is given up.
IDLE = 3600.0
#: Sessions at once, of one caller and in all: each holds a file. Clients push a handful of layers
#: at a time.
PER_CALLER = 128
AT_ONCE = 512
#: Bytes of a chunk that room is made for before they come: that more will, anybody can say.
AHEAD = 8 * HOP
#: What a token is to be for when it is asked for by a push.
PUSH = "pull,push"


@dataclass(slots=True)
class Session:
    """One upload under way; ``busy`` while a request writes to it."""

    ingest: Ingest
    repository: Reference
    principal: str
    offset: int = 0
    used: float = field(default_factory=time.monotonic)
    busy: bool = False


class UploadsFull(RateLimited):
    """Raised when a caller would have more uploads under way than one may have."""


class Uploads:
    """The sessions of one daemon, and who was lately let push to other registries."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self.rights = PushRights()

    def make_room(self, principal: str) -> None:
        """Raise UploadsFull when a caller, or all together, have too many sessions."""
        own = sum(session.principal == principal for session in self._sessions.values())
        if own >= PER_CALLER or len(self._sessions) >= AT_ONCE:
            raise UploadsFull(
                f"too many uploads are under way ({own} of this caller, {len(self._sessions)} in"
                " all): finish or cancel some, or try again later",
                status=429,
            )

    def add(self, session: Session) -> str:
        """Keep a session; its id cannot be guessed."""
        key = secrets.token_urlsafe(24)
        self._sessions[key] = session
        return key

    def get(self, key: str, repository: Reference, principal: str) -> Session:
        """The session, for the repository and the caller it belongs to. Raises UploadUnknown."""
        session = self._sessions.get(key)
        if session is None or (session.repository, session.principal) != (repository, principal):
            raise UploadUnknown("this upload is not known; start again", status=404)
        session.used = time.monotonic()
        return session

    def drop(self, key: str) -> None:
        """Forget a session."""
        self._sessions.pop(key, None)

    def idle(self) -> list[tuple[str, Session]]:
        """Sessions to be given up."""
        now = time.monotonic()
        return [
            (key, session)
            for key, session in self._sessions.items()
            if now - session.used > IDLE and not session.busy
        ]


UPLOADS = web.AppKey("uploads", Uploads)


def pushed_to(request: web.Request, repository: Reference) -> Remote | None:
    """Where a push goes through to, with the caller's own login; None: it stays on this node.

    Raises Denied for a registry that is not allowed, or not to be written to by way of us.
    """
    return context_of(request).node.access.pusher(caller_of(request), repository)


def refuse_delete_elsewhere(reference: Reference) -> None:
    """Raise Unsupported for a repository that is not the node's own."""
    if reference.registry != LOCALHOST:
        raise Unsupported(
            f"{reference.name} is not a repository of this node, so nothing is deleted in it here:"
            f" ask {reference.registry} itself"
        )


async def open_upload(request: web.Request, route: UploadsRoute) -> web.StreamResponse:
    """Begin an upload, mount a blob, or take a whole blob in one request.

    Raises what a registry says that does not let the caller push to it.
    """
    repository = located(request, route.repository)
    account_of(request).reference = repository
    await _give_up_idle(request)
    algorithm = request.query.get("digest-algorithm", "sha256")
    if algorithm not in ALGORITHMS:
        raise UploadInvalid(f"digest-algorithm={algorithm[:20]}: use {' or '.join(ALGORITHMS)}")
    mounted = Digest.parse(request.query["mount"]) if "mount" in request.query else None
    if "digest" in request.query:
        Digest.parse(request.query["digest"])  # before there is a session that nobody would end
    remote = pushed_to(request, repository)
    if remote is not None:
        with challenged(request, repository, PUSH):
            await request.app[UPLOADS].rights.prove(remote, repository)
    if mounted is not None and await _mount(request, repository, remote, mounted):
        return _created(route.repository, mounted)
    store = context_of(request).node.store
    session = Session(await store.upload(), repository, caller_of(request).principal)
    try:
        request.app[UPLOADS].make_room(session.principal)
    except UploadsFull as full:
        await _abort(request, session, full)
        raise
    key = request.app[UPLOADS].add(session)
    if "digest" in request.query:
        try:
            return await _finish(request, route.repository, key, session)
        except BaseException as error:
            # Nobody was told of the session, so nobody would come back to it.
            request.app[UPLOADS].drop(key)
            await _abort(request, session, error)
            raise
    return _accepted(route.repository, key, session)


async def _give_up_idle(request: web.Request) -> None:
    for key, session in request.app[UPLOADS].idle():
        request.app[UPLOADS].drop(key)
        await _abort(request, session, UploadUnknown("the upload was idle for too long"))


async def _mount(
    request: web.Request, repository: Reference, remote: Remote | None, digest: Digest
) -> bool:
    """Whether the blob could be taken from ``from``, in the same registry."""
    origin = None
    if request.query.get("from"):
        try:
            origin = located(request, request.query["from"])
        except Fault:
            return False
        if origin.registry != repository.registry:
            return False
    if remote is None:
        return await _mount_here(request, repository, digest, origin)
    # Nothing becomes a member here: that its registry says so does not prove what we hold.
    return origin is not None and await remote.mount_blob(repository, digest, origin.repository)


async def _mount_here(
    request: web.Request, repository: Reference, digest: Digest, origin: Reference | None
) -> bool:
    """Whether one of the node's own repositories (``origin``) has it: everybody may read those."""
    store = context_of(request).node.store
    if origin is None:
        readable = await store.repositories.is_member_below(f"{LOCALHOST}/", digest)
    else:
        readable = await store.is_member(origin.name, digest)
    # Looked at only now: what is here for others may not make the answer quicker or slower.
    if not readable or store.find(digest) is None:
        return False
    await store.add_member(repository.name, digest)
    return True


async def patch_upload(request: web.Request, route: UploadRoute) -> web.StreamResponse:
    """Take a chunk. Raises RangeInvalid when it does not continue what is here."""
    session = _session(request, route)
    try:
        await _receive(request, route.session, session)
    except RangeInvalid as fault:
        return _out_of_order(request, route, session, fault)
    return _accepted(route.repository, route.session, session)


async def put_upload(request: web.Request, route: UploadRoute) -> web.StreamResponse:
    """Take the last chunk, if any, and prove the whole against ``digest``."""
    session = _session(request, route)
    try:
        return await _finish(request, route.repository, route.session, session)
    except RangeInvalid as fault:
        return _out_of_order(request, route, session, fault)


async def upload_status(request: web.Request, route: UploadRoute) -> web.StreamResponse:
    """How far an upload is."""
    session = _session(request, route)
    return web.Response(status=204, headers=_progress(route.repository, route.session, session))


async def cancel_upload(request: web.Request, route: UploadRoute) -> web.StreamResponse:
    """Give an upload up."""
    session = _session(request, route)
    request.app[UPLOADS].drop(route.session)
    await _abort(request, session, UploadUnknown("the upload was cancelled"))
    return web.Response(status=204)


async def delete_blob(request: web.Request, route: BlobRoute) -> web.StreamResponse:
    """Take a blob out of a repository; it goes from the disk when nothing else needs it."""
    repository = located(request, route.repository)
    refuse_delete_elsewhere(repository)
    store = context_of(request).node.store
    if not await store.drop_member(repository.name, route.digest):
        raise BlobUnknown(f"{repository.name} has no blob {route.digest}", status=404)
    await store.remove([route.digest])
    return web.Response(status=202)


def _out_of_order(
    request: web.Request, route: UploadRoute, session: Session, fault: RangeInvalid
) -> web.StreamResponse:
    """A refusal that says where the upload is, so that it can go on from there."""
    response = refusal_response(fault, request)
    response.headers.update(_progress(route.repository, route.session, session))
    response.headers[CAUSE] = str(fault)
    return response


def _session(request: web.Request, route: UploadRoute) -> Session:
    repository = located(request, route.repository)
    account_of(request).reference = repository
    session = request.app[UPLOADS].get(route.session, repository, caller_of(request).principal)
    if session.busy:
        raise UploadInvalid("another request is writing to this upload")
    return session


async def _receive(request: web.Request, key: str, session: Session) -> None:
    stated = request.headers.get("Content-Range")
    if stated is not None:
        chunk = parse_upload_range(stated)
        if chunk.start != session.offset:
            raise RangeInvalid(f"the chunk must begin at byte {session.offset}")
        if request.content_length not in (None, chunk.length):
            raise UploadInvalid(
                f"Content-Range {stated[:40]} has {chunk.length} bytes, the request"
                f" {request.content_length}"
            )
    session.busy = True
    began = session.offset
    hop: asyncio.Future[None] | None = None
    try:
        coming = session.offset + (request.content_length or 0)
        room = context_of(request).node.store.room
        await room.check(session.ingest, coming)
        let_in = session.offset
        batch: list[bytes] = []
        gathered = 0
        async for piece in request.content.iter_any():
            batch.append(piece)
            gathered += len(piece)
            if let_in < min(coming, session.offset + gathered):
                if hop is not None:
                    await hop
                let_in = min(coming, session.offset + gathered + AHEAD)
                await room.let_in(session.ingest, let_in)
            if gathered >= HOP:
                if hop is not None:
                    await hop
                hop = session.ingest.write(session.offset, batch)
                session.offset += gathered
                batch, gathered = [], 0
        if hop is not None:
            await hop
        await session.ingest.write(session.offset, batch)
        session.offset += gathered
        context_of(request).metrics.pushed.inc(session.offset - began)
    except Fault as fault:
        request.app[UPLOADS].drop(key)
        await _abort(request, session, fault)
        raise
    finally:
        session.busy = False
        session.used = time.monotonic()


async def _finish(
    request: web.Request, name: str, key: str, session: Session
) -> web.StreamResponse:
    text = request.query.get("digest")
    if text is None:
        raise UploadInvalid("the last request of an upload must say its digest (?digest=...)")
    digest = Digest.parse(text)
    account_of(request).digest = digest
    remote = pushed_to(request, session.repository)
    await _receive(request, key, session)
    request.app[UPLOADS].drop(key)
    await _keep(request, remote, session, digest)
    return _created(name, digest)


async def _keep(
    request: web.Request, remote: Remote | None, session: Session, digest: Digest
) -> None:
    """Prove what came, and give it to the registry that it is meant for."""
    store, repository = context_of(request).node.store, session.repository
    if remote is None:
        await store.commit(session.ingest, digest, repository=repository.name)
        return
    try:
        with challenged(request, repository, PUSH):
            await push_blob(store, remote, repository, session.ingest, digest)
    except RegistryError:
        request.app[UPLOADS].rights.forget(remote, repository)
        raise


async def _abort(request: web.Request, session: Session, cause: BaseException) -> None:
    store = context_of(request).node.store
    await asyncio.shield(store.abort(session.ingest, cause, discard=True))


def _created(name: str, digest: Digest) -> web.StreamResponse:
    headers = {
        "Location": f"/v2/{quote(name)}/blobs/{digest}",
        "Docker-Content-Digest": str(digest),
    }
    return web.Response(status=201, headers=headers)


def _accepted(name: str, key: str, session: Session) -> web.StreamResponse:
    return web.Response(status=202, headers=_progress(name, key, session))


def _progress(name: str, key: str, session: Session) -> dict[str, str]:
    return {
        "Location": f"/v2/{quote(name)}/blobs/uploads/{key}",
        "Range": format_upload_range(0, session.offset),
        "Docker-Upload-UUID": key,
    }
