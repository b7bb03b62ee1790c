"""Pushing: blobs and manifests into one registry (distribution specification 1.1, "Push").

A blob is one POST and one PUT that streams it; in chunks only where a registry refuses that.
Invariants:
- a body can be opened again, so every try sends it from its beginning in a session of its own;
- a session that failed is given back, and how that goes does not matter;
- Location is resolved against the URL that answered, and its query stays as it is.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from yarl import URL

from cache.content import Descriptor, Digest
from cache.errors import Fault, SizeMismatch
from registryd.oci.errors import (
    BadAnswer,
    BlobUnknown,
    Denied,
    NameUnknown,
    RangeInvalid,
    RegistryError,
    Unauthorized,
    Unsupported,
    UploadInvalid,
    UploadUnknown,
)
from registryd.oci.manifest import Document
from registryd.oci.media_types import OCTET_STREAM
from registryd.oci.ranges import format_upload_range, parse_upload_range
from registryd.oci.reference import Reference
from registryd.oci.routes import ManifestRoute, UploadsRoute
from registryd.ports import BodyOpener, TransportError
from registryd.remote.answer import Answer
from registryd.remote.blob_head import head_blob
from registryd.remote.exchange import PUSH, Call, Exchange, scope
from registryd.remote.failures import NotPassing, TlsRefused, Untrusted
from registryd.remote.hosts import resolve_location
from registryd.remote.pacing import NotBefore
from registryd.remote.retry import Tries
from registryd.remote.sending import Upload

MIB = 2**20
#: Chunks of this size suit every registry that takes chunks (one wants 5 MiB at least) ...
CHUNK = 16 * MIB
#: ... but those that take no more than this; none at all go to those that refuse chunks.
SMALL_CHUNK = 4 * MIB
SMALL_CHUNK_REGISTRIES = ("ghcr.io",)
NO_CHUNK_REGISTRIES = ("gcr.io", ".gcr.io", "-docker.pkg.dev")

#: "Too large", and the ways to say "not like this" to a blob in one piece.
REFUSES_WHOLE = frozenset({405, 411, 413, 501})
#: What registries from before attached artifacts say to a manifest that has a subject.
REFUSES_SUBJECT = frozenset({400, 404, 405, 415, 422})
#: Broken connections after which a blob is tried in chunks: a proxy may cut what it finds too long.
BREAKS_BEFORE_CHUNKS = 2
#: Sessions kept that refused mounts have begun: the upload that was to follow may never come.
KEPT_SESSIONS = 64


@dataclass(frozen=True, slots=True)
class Session:
    """An upload that the registry has begun: where it goes on, and its smallest chunk."""

    url: URL
    least: int = 0


class _WholeRefused(Fault):
    """Raised when a registry does not take a blob in one piece."""


class Uploader:
    """Pushes to one registry."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._in_chunks = False
        #: Sessions that a refused mount has begun, for the upload that follows it.
        self._begun: dict[tuple[str, Digest], Session] = {}

    async def ask_push(self, repository: Reference) -> None:
        """Open a session, which wants the right to push, and give it back at once.

        A HEAD would not tell: some registries answer one to whoever may read.
        """
        name = repository.repository
        what = f"cannot push to {repository.name}"
        call = Call("POST", UploadsRoute(name).path(), what, name, (scope(name, PUSH),), body=b"")
        async with self._exchange.send(call) as answer:
            if answer.status not in (200, 202):
                raise await self._exchange.refusal(answer, what, NameUnknown)
            session = self._session(answer)
        await self._give_back(repository, session.url)

    async def has_blob(self, repository: Reference, digest: Digest) -> bool:
        """Whether the repository has this blob for sure."""
        try:
            return (await head_blob(self._exchange, repository, digest, PUSH)).there
        except BlobUnknown:
            return False
        except NameUnknown:
            # A repository that is made by its first push.
            return False

    async def mount_blob(self, repository: Reference, digest: Digest, source: str) -> bool:
        """Try to take the blob from another repository of the same registry.

        Any answer but "created" means: upload it. Raises RateLimited, TransportError.
        """
        name = repository.repository
        scopes = (scope(name, PUSH), scope(source))
        call = Call(
            "POST",
            UploadsRoute(name).path(),
            f"cannot mount {digest} into {repository.name}",
            name,
            scopes if await self._exchange.has_login(name) else scopes[:1],
            query=f"mount={quote(str(digest), safe='')}&from={quote(source, safe='')}",
        )
        with suppress(Unauthorized, Denied, NameUnknown):
            async with self._exchange.send(call) as answer:
                if answer.status == 202:
                    self._keep_begun((name, digest), self._session(answer))
                return answer.status == 201
        return False

    def _keep_begun(self, key: tuple[str, Digest], session: Session) -> None:
        if len(self._begun) >= KEPT_SESSIONS:
            del self._begun[next(iter(self._begun))]
        self._begun[key] = session

    async def push_blob(
        self, repository: Reference, descriptor: Descriptor, open_body: BodyOpener
    ) -> None:
        """Upload one blob, with as many tries as the policy allows."""
        pacing, tries = self._exchange.transport.pacing, Tries()
        host = self._exchange.registry
        while True:
            chunks = self._takes_chunks() and (
                self._in_chunks or tries.failures >= BREAKS_BEFORE_CHUNKS
            )
            try:
                return await self._push_once(repository, descriptor, open_body, chunks=chunks)
            except _WholeRefused:
                self._in_chunks = True
                continue
            except (NotBefore, NotPassing, TlsRefused, Untrusted):
                raise
            except (TransportError, RegistryError) as error:
                status = error.status if isinstance(error, RegistryError) else None
                if isinstance(error, UploadUnknown):
                    status = None
                next_try = await pacing.again(host, tries, status)
                if next_try is None:
                    raise
                tries = next_try

    async def _push_once(
        self, repository: Reference, descriptor: Descriptor, open_body: BodyOpener, *, chunks: bool
    ) -> None:
        key = (repository.repository, descriptor.digest)
        session = self._begun.pop(key, None) or await self._begin(repository, descriptor.digest)
        if session is None:
            return
        try:
            if chunks:
                session = await self._send_chunks(repository, descriptor, open_body, session)
                await self._finish(repository, descriptor, session.url, b"")
            else:
                body = Upload(open_body, descriptor.size)
                await self._finish(repository, descriptor, session.url, body)
        except Exception:
            await self._give_back(repository, session.url)
            raise

    async def _begin(self, repository: Reference, digest: Digest) -> Session | None:
        """A new session; None when the registry says that it has the blob already."""
        name = repository.repository
        call = self._call("POST", UploadsRoute(name).path(), repository, digest, body=b"")
        async with self._exchange.send(call) as answer:
            if answer.status == 201:
                return None
            if answer.status not in (200, 202):
                raise await self._exchange.refusal(answer, call.what, NameUnknown)
            return self._session(answer)

    async def _finish(
        self, repository: Reference, descriptor: Descriptor, url: URL, body: bytes | Upload
    ) -> None:
        """The PUT that ends an upload, with all of the blob or with nothing more."""
        glue = "&" if url.raw_query_string else "?"
        target = URL(f"{url}{glue}digest={quote(str(descriptor.digest), safe='')}", encoded=True)
        call = self._call("PUT", target, repository, descriptor.digest, body=body)
        async with self._exchange.send(call) as answer:
            if answer.status in (200, 201, 204):
                return
            error = await self._exchange.refusal(answer, call.what, UploadUnknown)
            whole = isinstance(body, Upload)
            refused = answer.status in REFUSES_WHOLE or isinstance(error, Unsupported)
            if whole and refused and self._takes_chunks() and not self._in_chunks:
                raise _WholeRefused(call.what) from error
            raise error

    async def _send_chunks(
        self, repository: Reference, descriptor: Descriptor, open_body: BodyOpener, session: Session
    ) -> Session:
        """Send a blob by PATCH, chunk by chunk; the session as it is after the last one."""
        size = max(self._chunk(), session.least)
        sent = 0
        held = bytearray()
        async with open_body() as body:
            async for piece in body:
                held += piece
                while len(held) >= size:
                    session = await self._patch(
                        repository, descriptor, session, sent, bytes(held[:size])
                    )
                    del held[:size]
                    sent += size
            if sent + len(held) != descriptor.size:
                raise SizeMismatch(
                    f"{body.source} gave {sent + len(held)} bytes where {descriptor.size} "
                    "were announced"
                )
        if held:
            session = await self._patch(repository, descriptor, session, sent, bytes(held))
        return session

    async def _patch(
        self,
        repository: Reference,
        descriptor: Descriptor,
        session: Session,
        start: int,
        chunk: bytes,
    ) -> Session:
        stop = start + len(chunk)
        headers = {"Content-Range": format_upload_range(start, stop)}
        call = self._call(
            "PATCH", session.url, repository, descriptor.digest, body=chunk, headers=headers
        )
        async with self._exchange.send(call) as answer:
            if answer.status in (200, 201, 202, 204):
                return self._session(answer, session)
            if answer.status != 416:
                raise await self._exchange.refusal(answer, call.what, UploadUnknown)
        # The registry has more or less than we think: it says how much, and we go on from there.
        session, reached = await self._ask_progress(repository, descriptor.digest, session)
        if not start < reached <= stop:
            raise UploadInvalid(f"{call.what}: the registry is at byte {reached}, not at {start}")
        if reached == stop:
            return session
        return await self._patch(repository, descriptor, session, reached, chunk[reached - start :])

    async def _ask_progress(
        self, repository: Reference, digest: Digest, session: Session
    ) -> tuple[Session, int]:
        call = self._call("GET", session.url, repository, digest)
        async with self._exchange.send(call) as answer:
            if answer.status not in (200, 202, 204):
                raise await self._exchange.refusal(answer, call.what, UploadUnknown)
            try:
                reached = parse_upload_range(answer.headers.get("Range", "")).stop
            except RangeInvalid:
                reached = 0
            return self._session(answer, session), reached

    async def _give_back(self, repository: Reference, url: URL) -> None:
        call = Call(
            "DELETE",
            url,
            "cannot give an upload back",
            repository.repository,
            (scope(repository.repository, PUSH),),
            repeatable=False,
        )
        with suppress(Fault):
            async with self._exchange.send(call):
                pass

    async def push_manifest(self, reference: Reference, document: Document) -> bool:
        """Put a manifest under the reference's tag, or under its digest where there is no tag.

        Whether the registry has taken note of its subject (OCI-Subject).
        """
        name = reference.repository
        target = reference.tag or str(document.digest)
        call = Call(
            "PUT",
            ManifestRoute(name, target).path(),
            f"cannot push {reference}",
            name,
            (scope(name, PUSH),),
            headers={"Content-Type": document.media_type},
            body=document.raw,
        )
        async with self._exchange.send(call) as answer:
            if answer.status not in (200, 201, 202, 204):
                error = await self._exchange.refusal(answer, call.what, NameUnknown)
                if document.subject is not None and answer.status in REFUSES_SUBJECT:
                    hint = "it has a subject, which some registries do not take"
                    raise type(error)(
                        f"{error} ({hint})", status=error.status, entries=error.entries
                    )
                raise error
            return "OCI-Subject" in answer.headers

    def _call(
        self,
        method: str,
        target: str | URL,
        repository: Reference,
        digest: Digest,
        *,
        body: bytes | Upload | None = None,
        headers: dict[str, str] | None = None,
    ) -> Call:
        kind = {"Content-Type": OCTET_STREAM} if body else {}
        return Call(
            method,
            target,
            f"cannot push blob {digest} to {repository.name}",
            repository.repository,
            (scope(repository.repository, PUSH),),
            headers=kind | (headers or {}),
            body=body,
            repeatable=method == "GET",
        )

    def _session(self, answer: Answer, before: Session | None = None) -> Session:
        """The session that an answer speaks of. Raises BadAnswer."""
        location = answer.headers.get("Location", "")
        if not location and before is not None:
            return before
        try:
            url = resolve_location(answer.url, location) if location else None
        except ValueError:
            url = None
        if url is None:
            raise BadAnswer(f"{answer.host} does not say where the upload goes on (no Location)")
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        kept = 0 if before is None else before.least
        return Session(url, int(least) if least.isascii() and least.isdigit() else kept)

    def _takes_chunks(self) -> bool:
        return not self._exchange.registry.endswith(NO_CHUNK_REGISTRIES)

    def _chunk(self) -> int:
        small = self._exchange.registry.endswith(SMALL_CHUNK_REGISTRIES)
        return SMALL_CHUNK if small else CHUNK
