"""Pushing: blobs and manifests into one registry (distribution specification 1.1, "Push").

A blob is one POST and one PUT that streams it; how it goes out is in ``blob_upload``.
Invariants:
- any answer to a mount but "created" means: upload it;
- what a registry has begun for a mount that it refused is used for the upload that follows.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from urllib.parse import quote

from cache.content import Descriptor, Digest
from registryd.oci.errors import (
    BlobUnknown,
    Denied,
    NameUnknown,
    Unauthorized,
)
from registryd.oci.manifest import Document
from registryd.oci.reference import Reference
from registryd.oci.routes import ManifestRoute, UploadsRoute
from registryd.ports import BodyOpener
from registryd.remote.blob_head import head_blob
from registryd.remote.blob_upload import BlobUpload
from registryd.remote.exchange import PUSH, Call, Exchange, scope
from registryd.remote.upload_journal import JOURNALED_FROM, Entry, UploadJournal
from registryd.remote.upload_sessions import Session, Sessions, session_of

#: What registries from before attached artifacts say to a manifest that has a subject.
REFUSES_SUBJECT = frozenset({400, 404, 405, 415, 422})
#: Sessions kept that refused mounts have begun: the upload that was to follow may never come.
KEPT_SESSIONS = 64


class Uploader:
    """Pushes to one registry."""

    def __init__(self, exchange: Exchange, journal: UploadJournal | None = None) -> None:
        self._exchange = exchange
        self._sessions = Sessions(exchange)
        self._journal = journal
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
            session = session_of(answer)
        await self._sessions.give_back(repository, session)

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
                    self._keep_begun((name, digest), session_of(answer))
                return answer.status == 201
        return False

    def _keep_begun(self, key: tuple[str, Digest], session: Session) -> None:
        if len(self._begun) >= KEPT_SESSIONS:
            del self._begun[next(iter(self._begun))]
        self._begun[key] = session

    async def push_blob(
        self, repository: Reference, descriptor: Descriptor, open_body: BodyOpener
    ) -> None:
        """Upload one blob, with as many tries as the policy allows; goes on with one cut off."""
        begun = self._begun.pop((repository.repository, descriptor.digest), None)
        async with AsyncExitStack() as stack:
            entry = Entry()
            if self._journal is not None and descriptor.size >= JOURNALED_FROM:
                key = (repository.registry, repository.repository, descriptor.digest)
                entry = await stack.enter_async_context(self._journal.entry(*key))
            upload = BlobUpload(self._exchange, repository, descriptor, open_body, entry)
            stack.push_async_callback(upload.close)
            await upload.run(begun)

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
