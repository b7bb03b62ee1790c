"""Registries as places to copy from and to: ports.Source and ports.Sink over ports.Remote.

Invariants:
- a body that breaks off, stalls or trickles goes on at the byte it had reached, over a new
  connection, and is given up only after several breaks without a byte between them;
- a manifest is proven against the descriptor that pointed to it: digest and size.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from typing_extensions import override

from cache.content import Descriptor, Digest, verify
from registryd.config import TransferConfig
from registryd.oci.errors import BadAnswer, ManifestUnknown, NameUnknown
from registryd.oci.manifest import Document, IndexEntry
from registryd.oci.reference import Reference
from registryd.ports import Body, BodyOpener, ReferrersWay, Remote, TransportError
from registryd.transfer.admission import Admission
from registryd.transfer.patience import LowSpeed, Patience

#: Finds a repository of the sink's registry that may have a blob; nothing where none is known.
FindMount = Callable[[Digest], Awaitable[str]]


class RegistrySource:
    """One image of a registry (a ``ports.Source``)."""

    def __init__(
        self,
        remote: Remote,
        reference: Reference,
        settings: TransferConfig | None = None,
        *,
        way: ReferrersWay = "",
        admission: Admission | None = None,
    ) -> None:
        """``way`` is where referrers are looked for; ``admission`` says what may be read."""
        self._remote = remote
        self._reference = reference
        self._settings = settings or TransferConfig()
        self._way = way
        self._admission = admission

    def by(self, way: ReferrersWay) -> RegistrySource:
        """The same image, its referrers looked for in this way."""
        return RegistrySource(
            self._remote, self._reference, self._settings, way=way, admission=self._admission
        )

    async def resolve(self) -> Descriptor:
        """What the reference means now, by HEAD. Raises as ``ports.Resolver.resolve`` does."""
        return await self._remote.resolve(self._reference)

    async def root(self) -> Document:
        """What the reference means now.

        Raises as ``ports.Fetcher.fetch_manifest`` does, and SignatureInvalid.
        """
        document = await self._remote.fetch_manifest(self._reference)
        if self._admission is not None:  # what an index lists is admitted with it
            await self._admission.admit(self._remote, self._reference, document)
        return document

    async def manifest(self, descriptor: Descriptor) -> Document:
        """A child manifest. Raises as fetch_manifest does, and SizeMismatch."""
        reference = self._reference.with_digest(descriptor.digest)
        document = await self._remote.fetch_manifest(reference)
        verify(document.raw, descriptor.digest, descriptor.size)
        return document

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[Body]:
        """A config or layer, whole. Raises as ``ports.Fetcher.fetch_blob`` does on entering."""
        return self._blob(descriptor)

    async def referrers(self, digest: Digest) -> tuple[IndexEntry, ...]:
        """What is attached to a manifest (``ports.Referring``). Raises as Remote.referrers does."""
        repository = self._reference.bare()
        return (await self._remote.referrers(repository, digest, way=self._way)).entries

    @asynccontextmanager
    async def _blob(self, descriptor: Descriptor) -> AsyncIterator[Body]:
        async with AsyncExitStack() as connections:
            repository = self._reference.bare()
            body = _Resumed(self._remote, repository, descriptor, self._settings, connections)
            await body.connect()
            yield body


class RegistrySink:
    """One name in a registry to copy an image to (a ``ports.Sink`` that is ``Surveyed``)."""

    def __init__(
        self,
        remote: Remote,
        reference: Reference,
        *,
        mount_from: str = "",
        whole: bool = True,
        find_mount: FindMount | None = None,
        landed: Callable[[Digest], None] | None = None,
    ) -> None:
        """``mount_from`` is a repository of the same registry that may have the blobs already.

        ``find_mount`` finds one for a blob; it is asked where ``mount_from`` says nothing.
        ``landed`` is told of each blob that the repository has for sure.
        ``whole``: this registry takes a manifest only when it has all that it points to, so that
        one that is there needs no look at its children.
        """
        self._remote = remote
        self._reference = reference
        self._repository = reference.bare()
        self._mount_from = "" if mount_from == reference.repository else mount_from
        self._whole = whole
        self._found: Descriptor | None = None
        self._find_mount = find_mount
        self._landed = landed or _nobody

    async def standing(self) -> Descriptor | None:
        """What the tag means now, by HEAD. Raises as ``ports.Resolver.resolve`` does."""
        name = self._reference
        if not name.target:
            return None
        asked = self._repository.with_tag(name.tag) if name.tag else name
        try:
            self._found = await self._remote.standing(asked)
        except (ManifestUnknown, NameUnknown):
            self._found = None
        return self._found

    async def has_whole(self, descriptor: Descriptor) -> bool:
        """Whether the repository has the manifest, by HEAD at most."""
        if not self._whole or self._reference.digest not in (None, descriptor.digest):
            return False
        if self._found is not None and self._found.digest == descriptor.digest:
            return True
        try:
            await self._remote.standing(self._repository.with_digest(descriptor.digest))
        except (ManifestUnknown, NameUnknown):
            return False
        return True

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the repository has the blob. Raises as ``ports.Pusher`` does."""
        there = await self._remote.has_blob(self._repository, descriptor.digest)
        if there:
            self._landed(descriptor.digest)
        return there

    async def put_blob(self, descriptor: Descriptor, open_body: BodyOpener) -> None:
        """Mount the blob from the other repository where that works, or upload it."""
        origin = self._mount_from
        if not origin and self._find_mount is not None:
            origin = await self._find_mount(descriptor.digest)
        elsewhere = origin not in ("", self._repository.repository)
        if not elsewhere or not await self._remote.mount_blob(
            self._repository, descriptor.digest, origin
        ):
            await self._remote.push_blob(self._repository, descriptor, open_body)
        self._landed(descriptor.digest)

    async def put_manifest(self, document: Document, *, root: bool) -> None:
        """Put the root under the name's tag or digest, the others under their own digest.

        What is attached to something is listed there, if need be by us. Raises DigestMismatch when
        the name has a digest that is not the root's.
        """
        reference = self._repository.with_digest(document.digest)
        if root and self._reference.digest:
            verify(document.raw, self._reference.digest)
        if root and self._reference.target:
            reference = self._reference
        listed = await self._remote.push_manifest(reference, document)
        if not listed:
            await self.note_subject(document)

    async def note_subject(self, document: Document) -> None:
        """List what is attached to something there (``ports.Noting``). Raises as put_manifest."""
        if document.subject is not None:
            await self._remote.note_subject(self._repository, document)

    @override
    def __str__(self) -> str:
        return str(self._reference)


def _nobody(digest: Digest) -> None:
    """Nobody wants to know what has landed."""


class _Resumed:
    """A whole blob as one body, over as many connections as it takes."""

    start = 0

    def __init__(
        self,
        remote: Remote,
        repository: Reference,
        descriptor: Descriptor,
        settings: TransferConfig,
        connections: AsyncExitStack,
    ) -> None:
        self.source = repository.registry
        self.total: int | None = descriptor.size
        self._remote = remote
        self._repository = repository
        self._digest: Digest = descriptor.digest
        self._connections = connections
        self._offset = 0
        self._surplus = 0
        self._settings = settings
        self._patience = Patience(settings.attempts)
        self._progress = False
        self._low_speed = LowSpeed.of(settings)
        self._pieces: AsyncIterator[bytes] | None = None

    async def connect(self) -> AsyncIterator[bytes]:
        """Ask for what is still missing, over a new connection; the old one is closed first."""
        await self._connections.aclose()
        opening = self._remote.fetch_blob(self._repository, self._digest, self._offset)
        body = await self._connections.enter_async_context(opening)
        if body.start > self._offset:
            raise BadAnswer(f"{body.source} sent {self._digest} from a byte that was not asked")
        self._surplus = self._offset - body.start  # a source may send everything again
        self.source = body.source
        self._low_speed = LowSpeed.of(self._settings)
        self._pieces = aiter(body)
        return self._pieces

    async def skip_to(self, start: int) -> bool:
        """Ask for the bytes from this one on (``ports.Skipping``); what comes now is left."""
        self._offset, self._pieces = start, None
        await self._connections.aclose()
        return True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                piece = await self._next_new(self._pieces or await self.connect())
            except TransportError as error:
                self._pieces = None
                if self._offset == self.total:
                    raise StopAsyncIteration from None
                progress, self._progress = self._progress, False
                self._patience.broke(error, progress=progress)
                await self._patience.pause()
                continue
            self._progress = True
            self._offset += len(piece)
            return piece

    async def _next_new(self, pieces: AsyncIterator[bytes]) -> bytes:
        """The next piece without the bytes that were here before."""
        clock = asyncio.get_running_loop().time
        while True:
            since = clock()
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                if self._offset == self.total:
                    raise
                # Of a body whose end nobody announced (chunked), the end may be no end.
                at = f"at byte {self._offset} of {self.total}"
                raise TransportError(f"{self.source} ended its answer {at}") from None
            self._low_speed.check(len(piece), clock() - since, self.source)
            fresh = piece[self._surplus :]
            self._surplus -= len(piece) - len(fresh)
            if fresh:
                return fresh
