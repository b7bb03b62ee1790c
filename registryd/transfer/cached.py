"""The cache as a place to copy from and to: ports.Source and ports.Sink over the Library.

Invariants:
- what comes out was proven when it went in; a file that has become shorter since is an error. What
  there is no room for comes from its registry, and is proven by who takes it;
- a blob that the cache holds is not written again: it only becomes a member of the repository.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import MappingProxyType

import aiofiles
from aiofiles.threadpool.binary import AsyncBufferedReader

from cache.content import Descriptor, Digest
from cache.errors import BlobNotFound, DiskFull, SizeMismatch
from cache.store import BlobStore
from registryd.oci.manifest import Document, IndexEntry
from registryd.oci.reference import Reference
from registryd.ports import Body, BodyOpener, Remote
from registryd.transfer.library import Library

#: Bytes a thread hop reads.
READ = 1 << 20
#: Entries, and bytes of annotations, of a list of referrers: far beyond what people attach.
REFERRERS_LIMIT = 50_000
REFERRERS_ROOM = 64 << 20


class CachedSource:
    """One image of the cache; with a Remote, what is missing is made present first."""

    def __init__(
        self, library: Library, store: BlobStore, reference: Reference, remote: Remote | None = None
    ) -> None:
        self._library = library
        self._store = store
        self._reference = reference
        self._remote = remote

    async def root(self) -> Document:
        """What the reference means. Raises ManifestUnknown, and what the Remote raises."""
        return await self._library.document(self._remote, self._reference)

    async def manifest(self, descriptor: Descriptor) -> Document:
        """A child manifest. Raises as root does."""
        exact = self._reference.with_digest(descriptor.digest)
        return await self._library.document(self._remote, exact)

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[Body]:
        """A config or layer, whole. Raises BlobUnknown, and what the Remote raises."""
        return self._blob(descriptor)

    async def referrers(self, digest: Digest) -> tuple[IndexEntry, ...]:
        """What is here of what is attached to a manifest (``ports.Referring``)."""
        found = await self._store.repositories.referrers(
            self._reference.name, digest, limit=REFERRERS_LIMIT, room=REFERRERS_ROOM
        )
        return tuple(
            IndexEntry(
                each.descriptor,
                annotations=MappingProxyType(dict(each.annotations)),
                artifact_type=each.artifact_type,
            )
            for each in found.referrers
        )

    @asynccontextmanager
    async def _blob(self, descriptor: Descriptor) -> AsyncIterator[Body]:
        digest = descriptor.digest
        try:
            flight = await self._library.blob(
                self._remote, self._reference, digest, descriptor.size
            )
            if flight is not None:
                await flight.landed()
        except DiskFull as full:
            if self._remote is None:
                raise
            past = self._library.past.body(self._remote, self._reference, descriptor, full)
            async with past as body:
                yield body
            return
        async with open_held(self._store, descriptor) as body:
            yield body


@asynccontextmanager
async def open_held(store: BlobStore, descriptor: Descriptor) -> AsyncIterator[Body]:
    """A held blob's file as a body; counts as a use. Raises BlobNotFound."""
    digest = descriptor.digest
    blob = store.find(digest)
    if blob is None:
        raise BlobNotFound(f"{digest} is not in the cache")
    async with AsyncExitStack() as opened:
        try:
            file = await opened.enter_async_context(aiofiles.open(blob.path, "rb"))
        except FileNotFoundError:
            raise BlobNotFound(f"{digest} has just left the cache") from None
        await store.touch(digest)
        yield FileBody(file, descriptor)


class FileBody:
    """A blob's file as a body."""

    start = 0
    source = "cache"

    def __init__(self, file: AsyncBufferedReader, descriptor: Descriptor) -> None:
        self.total: int | None = descriptor.size
        self._file = file
        self._descriptor = descriptor
        self._from = 0

    @property
    def file(self) -> int:
        """The blob itself (``ports.Filed``)."""
        return self._file.fileno()

    async def skip_to(self, start: int) -> bool:
        """Begin further on (``ports.Skipping``)."""
        self._from = await self._file.seek(start)
        return True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes. Raises SizeMismatch when the file is shorter than its descriptor."""
        left = self._descriptor.size - self._from
        while left > 0:
            piece = await self._file.read(min(READ, left))
            if not piece:
                raise SizeMismatch(f"{self._descriptor.digest}: the file is {left} bytes short")
            left -= len(piece)
            yield piece


class CachedSink:
    """A name of the node's own registry to copy an image to."""

    def __init__(self, library: Library, store: BlobStore, reference: Reference) -> None:
        self._library = library
        self._store = store
        self._reference = reference

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob is held; the caller may read it, so it becomes a member."""
        if self._store.find(descriptor.digest) is None:
            return False
        await self._store.add_member(self._reference.name, descriptor.digest)
        return True

    async def put_blob(self, descriptor: Descriptor, open_body: BodyOpener) -> None:
        """Take one blob. Raises DigestMismatch, SizeMismatch, and what the body raises."""
        ingest = await self._store.upload()
        try:
            ingest.announce(descriptor.size)
            await self._store.room.let_in(ingest, descriptor.size)
            at = 0
            async with open_body() as body:
                async for piece in body:
                    await ingest.write(at, [piece])
                    at += len(piece)
            await self._store.commit(ingest, descriptor.digest, repository=self._reference.name)
        except BaseException as error:
            await asyncio.shield(self._store.abort(ingest, error, discard=True))
            raise

    async def put_manifest(self, document: Document, *, root: bool) -> None:
        """Take a manifest; the root gets the name, last."""
        await self._library.keep(self._reference.name, document)
        if root:
            name = self._reference
            exact = name if name.target else name.with_digest(document.digest)
            await self._store.tag(str(exact), name.name, document.descriptor)
