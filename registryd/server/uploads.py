"""Blob uploads into the node's own registry, whole, in chunks, or by mount.

Distribution specification 1.1, "Pushing blobs". Invariants:
- a session belongs to one repository and to whoever opened it, and ends by itself in the end;
- chunks come in order; one that does not is refused with 416 and nothing of it is kept;
- a blob becomes a member of the repository only after its digest was proven, or when the pusher
  could have read it where it is mounted from.
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
    Unsupported,
    UploadInvalid,
    UploadUnknown,
)
from registryd.oci.ranges import format_upload_range, parse_upload_range
from registryd.oci.reference import Reference
from registryd.oci.routes import BlobRoute, UploadRoute, UploadsRoute
from registryd.server.context import CAUSE, caller_of, context_of, located
from registryd.server.errors import refusal_response
from registryd.transfer.intake import HOP
from registryd.transfer.library import LOCALHOST

#: A session that nothing came to for so long (seconds) is given up.
IDLE = 3600.0


@dataclass(slots=True)
class Session:
    """One upload under way; ``busy`` while a request writes to it."""

    ingest: Ingest
    repository: Reference
    principal: str
    offset: int = 0
    used: float = field(default_factory=time.monotonic)
    busy: bool = False


class Uploads:
    """The sessions of one daemon."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

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


def refuse_push_elsewhere(reference: Reference) -> None:
    """Raise Unsupported for a repository that is not the node's own."""
    if reference.registry != LOCALHOST:
        raise Unsupported(
            f"{reference.name} is not a repository of this node: push to localhost/NAME here,"
            f" or to {reference.registry} itself"
        )


async def open_upload(request: web.Request, route: UploadsRoute) -> web.StreamResponse:
    """Begin an upload, mount a blob, or take a whole blob in one request."""
    repository = located(request, route.repository)
    refuse_push_elsewhere(repository)
    await _give_up_idle(request)
    algorithm = request.query.get("digest-algorithm", "sha256")
    if algorithm not in ALGORITHMS:
        raise UploadInvalid(f"digest-algorithm={algorithm[:20]}: use {' or '.join(ALGORITHMS)}")
    if "mount" in request.query and await _mount(request, repository):
        return _created(route.repository, Digest.parse(request.query["mount"]))
    if "digest" in request.query:
        Digest.parse(request.query["digest"])  # before there is a session that nobody would end
    store = context_of(request).node.store
    session = Session(await store.upload(), repository, caller_of(request).principal)
    key = request.app[UPLOADS].add(session)
    if "digest" in request.query:
        return await _finish(request, route.repository, key, session)
    return _accepted(route.repository, key, session)


async def _give_up_idle(request: web.Request) -> None:
    for key, session in request.app[UPLOADS].idle():
        request.app[UPLOADS].drop(key)
        await _abort(request, session, UploadUnknown("the upload was idle for too long"))


async def _mount(request: web.Request, repository: Reference) -> bool:
    """Whether the blob could be taken from ``from``, where the caller may read it.

    Without ``from`` it may be in any of the node's own repositories: everybody may read those.
    """
    store = context_of(request).node.store
    digest, source = Digest.parse(request.query["mount"]), request.query.get("from", "")
    if store.find(digest) is None:
        return False
    if not source:
        readable = await store.repositories.is_member_below(f"{LOCALHOST}/", digest)
    else:
        try:
            origin = located(request, source)
        except Fault:
            return False
        readable = origin.registry == LOCALHOST and await store.is_member(origin.name, digest)
    if readable:
        await store.add_member(repository.name, digest)
    return readable


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
    refuse_push_elsewhere(repository)
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
        batch: list[bytes] = []
        gathered = 0
        async for piece in request.content.iter_any():
            batch.append(piece)
            gathered += len(piece)
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
    await _receive(request, key, session)
    store = context_of(request).node.store
    request.app[UPLOADS].drop(key)
    await store.commit(session.ingest, digest, repository=session.repository.name)
    return _created(name, digest)


async def _abort(request: web.Request, session: Session, cause: Fault) -> None:
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
