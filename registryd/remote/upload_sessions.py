"""One upload session at a registry, request by request (distribution specification 1.1, "Push").

What is done with the answers is decided in ``upload``. Invariants:
- Location is resolved against the URL that answered, and its query stays as it is;
- how far a session is, is what its registry says when asked; between two chunks what we sent.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import quote

from yarl import URL

from cache.content import Digest
from cache.errors import Fault
from registryd.oci.errors import BadAnswer, NameUnknown, RangeInvalid, UploadUnknown
from registryd.oci.media_types import OCTET_STREAM
from registryd.oci.ranges import format_upload_range, parse_upload_range
from registryd.oci.reference import Reference
from registryd.oci.routes import UploadsRoute
from registryd.remote.answer import Answer
from registryd.remote.exchange import PUSH, Call, Exchange, scope
from registryd.remote.hosts import resolve_location
from registryd.remote.sending import Upload


@dataclass(frozen=True, slots=True)
class Session:
    """An upload that the registry has begun: where it goes on, its smallest chunk, its bytes."""

    url: URL
    least: int = 0
    reached: int = 0


class Sessions:
    """The sessions of one registry."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def begin(self, repository: Reference, digest: Digest) -> Session | None:
        """A new session; None when the registry says that it has the blob already."""
        path = UploadsRoute(repository.repository).path()
        call = self._call("POST", path, repository, digest, body=b"")
        async with self._exchange.send(call) as answer:
            if answer.status == 201:
                return None
            if answer.status not in (200, 202):
                raise await self._exchange.refusal(answer, call.what, NameUnknown)
            return session_of(answer)

    async def patch(
        self, repository: Reference, digest: Digest, session: Session, chunk: Upload
    ) -> Session:
        """Send a chunk from where the session is; the session after it.

        Raises RangeInvalid when the registry is somewhere else, and what refuses an upload.
        """
        stop = session.reached + chunk.size
        headers = {"Content-Range": format_upload_range(session.reached, stop)}
        call = self._call("PATCH", session.url, repository, digest, body=chunk, headers=headers)
        async with self._exchange.send(call) as answer:
            if answer.status not in (200, 201, 202, 204):
                raise await self._exchange.refusal(answer, call.what, UploadUnknown)
            # Its Range is not asked for: with some it stays at the first chunk for ever.
            return replace(session_of(answer, session), reached=stop)

    async def ask(self, repository: Reference, digest: Digest, session: Session) -> Session:
        """The session as its registry says that it is now. Raises UploadUnknown when it is gone."""
        call = self._call("GET", session.url, repository, digest)
        async with self._exchange.send(call) as answer:
            if answer.status not in (200, 202, 204):
                raise await self._exchange.refusal(answer, call.what, UploadUnknown)
            try:
                reached = parse_upload_range(answer.headers.get("Range", "")).stop
            except RangeInvalid:
                reached = 0
            # "0-0" is one byte, and what is said of none; who knows of one byte has sent it.
            if reached == 1 and session.reached != 1:
                reached = 0
            return replace(session_of(answer, session), reached=reached)

    async def finish(
        self, repository: Reference, digest: Digest, session: Session, body: bytes | Upload
    ) -> None:
        """The PUT that ends an upload, with all of the blob or with nothing more."""
        glue = "&" if session.url.raw_query_string else "?"
        target = f"{session.url}{glue}digest={quote(str(digest), safe='')}"
        call = self._call("PUT", URL(target, encoded=True), repository, digest, body=body)
        async with self._exchange.send(call) as answer:
            if answer.status not in (200, 201, 204):
                raise await self._exchange.refusal(answer, call.what, UploadUnknown)

    async def give_back(self, repository: Reference, session: Session) -> None:
        """End a session that nothing will come to; how that goes does not matter."""
        name = repository.repository
        scopes = (scope(name, PUSH),)
        call = Call("DELETE", session.url, "cannot give an upload back", name, scopes,
                    repeatable=False)  # fmt: skip
        with suppress(Fault):
            async with self._exchange.send(call):
                pass

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


def session_of(answer: Answer, before: Session | None = None) -> Session:
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
    kept = Session(url) if before is None else replace(before, url=url)
    return replace(kept, least=int(least)) if least.isascii() and least.isdigit() else kept
