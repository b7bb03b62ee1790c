"""BlobStore: the directory and its index as one thing.

Invariants:
- a blob that ``find`` gives is complete and proven, and its file is where ``path`` says;
- a name is in ``index.json`` only while all it needs is here: content first, then the name;
  the name goes first, then the content;
- what changes content or names runs to its end once begun, even if its caller is cancelled;
- no digest is published and removed at the same time: who comes second waits or is left out;
- one process writes; every public method may be called from any task of its event loop;
- what changes names, members or media types in the index goes through ``_change``, never ``_db``:
  it makes the memos of the hot path forget.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from cache import layout
from cache.catalogue import Catalogue
from cache.content import Descriptor, Digest, verify
from cache.database import sql_errors
from cache.errors import BlobNotFound, DiskFull, NameNotFound, SizeMismatch, StoreUnusable
from cache.files import Blob, Files
from cache.grants import Grants
from cache.held import Held
from cache.hops import Acts, P, T, hop, taken
from cache.index import Index, Links, Name
from cache.ingest import Ingest
from cache.kept_rows import unreferenced
from cache.lease import LEASE_TTL, Lease
from cache.listing import Listing
from cache.listing_rows import rendered
from cache.made import Made
from cache.memo import Memo
from cache.notes import Notes
from cache.passages import Passages
from cache.pins import Pins
from cache.reader import Reader
from cache.repositories import Repositories
from cache.room import Room
from cache.scrub import Scrub
from cache.spool import put_whole
from cache.start import Started, start
from cache.uses import Uses

#: Threads that move bytes: enough for several hops to wait for the disk while two cores hash.
BYTE_THREADS = 8


class BlobStore:
    """Verified content by digest, with names and links; made by ``open``."""

    def __init__(self, files: Files, index: Index, *, clock: Callable[[], float]) -> None:
        self.root = files.root
        self._files = files
        self._index = index
        self._clock = clock
        self._bytes = ThreadPoolExecutor(BYTE_THREADS, "cache-bytes")
        self._rows = ThreadPoolExecutor(1, "cache-index")
        self._reader = Reader(files.root / layout.DATABASE)
        self.held = Held()
        self._arriving: dict[str, Ingest] = {}
        write = partial(files.replace, layout.INDEX_FILE)
        self._listing = Listing(lambda: self._reader(rendered), lambda text: self._io(write, text),
                                waits=True)  # fmt: skip
        self._passages, self._acts = Passages(), Acts()
        self._names, self._members = Memo(index.name, self._db), Memo(index.is_member, self._db)
        self._media_types = Memo(index.media_type, self._db)
        self.repositories = Repositories(index.repositories, self._db)
        self.grants = Grants(index.grants, self._db, clock)
        self._uses = Uses(index, self._db, self._acts, clock)
        self.pins = Pins(index.pins, self._db, clock)
        self.catalogue = Catalogue(index.changes, self._db, self._reader, self._uses)
        self.room = Room(self, files, index.tables, self._db, self.catalogue, self._change,
                         self._listing, self._uses)  # fmt: skip
        self.scrub = Scrub(self, files, index, self._io, self._db, self._change, self._listing,
                           self._passages, self._acts, clock)  # fmt: skip
        self.made = Made(files, index.made, self._io, self._db, self._land, self._listing)
        self.notes = Notes(index.notes, self._db, self._reader)
        #: What ``index.json`` names and ``cache.db``, missing or damaged, does not; whoever knows
        #: manifests puts those names back, then calls ``restored``: ``index.json`` is written anew.
        self.lost_names: list[tuple[str, Descriptor]] = []
        self.restored = self._listing.restored
        self.removed = Counter[str]()  #: ``blobs`` and ``bytes``, since the cache was opened

    @classmethod
    @asynccontextmanager
    async def open(
        cls, root: Path, *, clock: Callable[[], float] = time.time
    ) -> AsyncIterator[BlobStore]:
        """Open (or create) the cache at ``root`` for writing.

        Raises StoreLocked when another process has it, and StoreUnusable.
        """
        files = Files(root)

        def give_back(started: Started) -> None:
            started.index.close()
            files.release()

        opening = asyncio.ensure_future(asyncio.to_thread(start, files, clock()))
        started = await taken(opening, give_back)
        store = cls(files, started.index, clock=clock)
        store.held.found(started.sizes)
        try:
            store.lost_names, store.made.lost = started.lost
            if started.listing is not None:
                store._listing.told(started.listing)
            elif not (store.lost_names or store.made.lost):
                await store.restored()
            yield store
        finally:
            await asyncio.shield(store._close())

    async def _close(self) -> None:
        try:
            for ingest in self.arriving():
                await ingest.abort(StoreUnusable("the cache is closing"))
            await self._acts.ended()
            await self._uses.write()
            await self.scrub.write()
            await self._reader.close()
            await self._db(self._index.close)
        finally:
            self._bytes.shutdown()
            self._rows.shutdown()
            self._files.release()

    # content

    def find(self, digest: Digest) -> Blob | None:
        """The blob, if it is here; does no I/O."""
        size = self.held.size(digest)
        return None if size is None else Blob(digest, size, self.root)

    def __len__(self) -> int:
        return len(self.held)

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return self.held.total

    @asynccontextmanager
    async def open_blob(self, digest: Digest) -> AsyncIterator[int]:
        """A file descriptor to read the blob from; counts as a use. Raises BlobNotFound."""
        fd = await taken(self._io(self._files.open_blob, digest), os.close)
        try:
            await self.touch(digest)
            yield fd
        finally:
            os.close(fd)

    async def read(self, digest: Digest, *, limit: int, use: bool = True) -> bytes:
        """A small blob, whole. Raises BlobNotFound, and SizeMismatch beyond ``limit`` bytes."""
        if (blob := self.find(digest)) is None:
            raise BlobNotFound(f"{digest} is not in the cache")
        if blob.size > limit:
            raise SizeMismatch(f"{digest} has {blob.size} bytes, at most {limit} are read here")
        content = await self._io(self._files.read_blob, digest)
        blob.check(len(content))
        if use:
            await self.touch(digest)
        return content

    async def put(
        self, content: bytes, descriptor: Descriptor, *, repository: str = "",
        links: Links | None = None,
    ) -> None:  # fmt: skip
        """Store small content at once, proven and durable, with what it points to.

        Raises DigestMismatch, SizeMismatch, DiskFull, StoreUnusable.
        """
        digest = descriptor.digest
        verify(content, digest, descriptor.size)
        place = partial(put_whole, self._files, content, digest)
        await self._land(digest, len(content), place, repository, links)

    async def _land(
        self, digest: Digest, size: int, place: Callable[[], None], repository: str,
        links: Links | None = None,
    ) -> None:  # fmt: skip
        async def land() -> None:
            async with self._passages.landing(digest):
                if digest not in self.held:
                    await self._io(place)
                await self.record(digest, size, repository, links)

        await self.room.expect(0 if digest in self.held else size)
        await self._acts.run(land())

    async def ingest(self, digest: Digest, *, size: int | None = None) -> Ingest:
        """Begin, or resume after a restart, the arrival of a blob; one at a time a digest.

        The caller ends it by ``commit`` below or by its ``abort``.
        """
        return await self._arrive(layout.ingest_key(digest), digest, size)

    async def upload(self) -> Ingest:
        """Begin the arrival of a blob whose digest is said at the end; not kept over a restart."""
        await self.room.expect(1)
        return await self._arrive(f"{layout.UPLOAD_PREFIX}{secrets.token_hex(16)}", None, None)

    async def _arrive(self, key: str, digest: Digest | None, size: int | None) -> Ingest:
        if (known := self._arriving.get(key)) is not None and not known.ended:
            raise StoreUnusable(f"{key} is arriving already")
        ingest = self._arriving[key] = Ingest(key, self._files, self._bytes, expected=digest)
        try:
            await ingest.open()
            if size is not None:
                ingest.announce(size)
        except BaseException as error:
            # Kept bytes that contradict the size: an earlier process was told another one.
            await self.abort(ingest, error, discard=isinstance(error, SizeMismatch))
            raise
        return ingest

    async def commit(
        self, ingest: Ingest, digest: Digest | None = None, *, repository: str = ""
    ) -> Digest:
        """Prove and publish what arrived, and record it. Raises as ``Ingest.commit`` does."""
        return await self._acts.run(self._commit(ingest, ingest.goal(digest), repository))

    async def _commit(self, ingest: Ingest, digest: Digest, repository: str) -> Digest:
        # Whose it is first: a process killed in between would have it fetched again to be proven.
        belongs = partial(self.add_member, repository, digest) if repository else None
        async with self._passages.landing(digest):
            try:
                await ingest.commit(digest, proven=belongs)
            finally:
                self._forget_ended(ingest)
            await self.record(digest, ingest.size or 0, repository)
        return digest

    async def abort(self, ingest: Ingest, cause: BaseException, *, discard: bool = False) -> None:
        """Give up an arrival; what came is kept to be resumed unless ``discard``."""
        await ingest.abort(cause, discard=discard)
        self._forget_ended(ingest)

    def _forget_ended(self, ingest: Ingest) -> None:
        # Not by the key alone: the digest may be arriving anew by now.
        if ingest.ended and self._arriving.get(ingest.key) is ingest:
            del self._arriving[ingest.key]

    def arriving(self) -> list[Ingest]:
        """What is on its way in now."""
        return [ingest for ingest in self._arriving.values() if not ingest.ended]

    async def record(
        self, digest: Digest, size: int, repository: str = "", links: Links | None = None
    ) -> None:
        """Take in a blob whose file is in its place, proven."""
        add, now = self._index.add_blob, self._clock()
        with self.held.coming(digest, size):
            completed = await self._change(add, digest, size, now, repository, links)
        if completed:
            await self._listing.publish()

    # membership, links, names

    async def add_member(self, repository: str, *digests: Digest) -> None:
        """Record that these blobs were proven to belong to a repository."""
        await self._change(self._index.add_member, repository, digests)

    async def is_member(self, repository: str, digest: Digest) -> bool:
        """Whether a blob was proven to belong to a repository ("HOST/": to any of that host)."""
        return await self._members.answer(repository, digest)

    async def drop_member(self, repository: str, digest: Digest) -> bool:
        """Forget that a blob belongs to a repository; whether it did."""
        return await self._change(self._index.drop_member, repository, digest)

    async def children(self, parent: Digest) -> list[Descriptor]:
        """What a stored manifest points to."""
        return await self._db(self._index.children, parent)

    async def expected_size(self, digest: Digest) -> int | None:
        """The size in bytes that a stored manifest gives this content, if any does."""
        return await self._db(self._index.expected_size, digest)

    async def media_type(self, digest: Digest) -> str:
        """The media type of a stored manifest ("" for other content)."""
        return await self._media_types.answer(digest)

    async def is_complete(self, root: Descriptor) -> bool:
        """Whether content is here with everything that it needs."""
        return await self._db(self._index.is_complete, root)

    async def tag(self, name: str, repository: str, descriptor: Descriptor, at: float = 0) -> Name:
        """Let ``name`` mean this stored content (confirmed ``at``, 0: now); after the content."""
        return await self._acts.run(self._tag(name, repository, descriptor, at))

    async def _tag(self, name: str, repository: str, descriptor: Descriptor, at: float) -> Name:
        if descriptor.digest not in self.held:
            raise BlobNotFound(f"{name}: {descriptor.digest} is not in the cache")
        change, now = self._index.set_name, at or self._clock()
        entry, before = await self._change(change, name, repository, descriptor, now)
        shown = before.descriptor if before and before.complete else None
        if shown != (descriptor if entry.complete else None):
            await self._listing.publish()
        return entry

    async def checked(self, entry: Name) -> None:
        """Record that a name was found to mean the same still (if it does by now)."""
        digest = entry.descriptor.digest
        await self._change(self._index.check_name, entry.name, digest, self._clock())

    async def resolve(self, name: str) -> Name | None:
        """What a name means here, complete or not; None when it is not known."""
        return await self._names.answer(name)

    async def names(self, repository: str | None = None) -> list[Name]:
        """All names (of one repository), sorted."""
        return await self._db(self._index.names, repository)

    async def untag(self, name: str) -> Name:
        """Forget a name; its content stays. Raises NameNotFound."""
        return await self._acts.run(self._untag(name))

    async def _untag(self, name: str) -> Name:
        entry = await self._change(self._index.drop_name, name)
        if entry is None:
            raise NameNotFound(f"{name} is not in the cache")
        await self._listing.publish()
        return entry

    async def closure(self, root: Digest, *, made: bool = False) -> dict[Digest, int]:
        """All held that is reachable from a digest (with ``made`` what was made of it too)."""
        return await self._db(self._index.closure, root, made)

    async def last_used(self, digests: Iterable[Digest]) -> float:
        """When the most recently used of these blobs was used, Unix seconds."""
        await self._uses.write()
        return await self._db(self._index.last_used, list(digests))

    # leases, collection

    @asynccontextmanager
    async def lease(self, ttl: float = LEASE_TTL) -> AsyncIterator[Lease]:
        """Hold content while something is built on it; the end of the block ends it."""
        lease = Lease(self.hold, ttl)
        try:
            yield lease
        finally:
            await asyncio.shield(self._db(self._index.release, lease.key))

    async def hold(self, lease: str, digests: Iterable[Digest], ttl: float) -> None:
        """Let a lease keep these digests for ``ttl`` seconds."""
        await self._db(self._index.hold, lease, list(digests), self._clock() + ttl)

    async def unreferenced(self) -> dict[Digest, int]:
        """Blobs that no name, no lease and no pin keeps, with sizes in bytes."""
        return await self._reader(unreferenced, self._clock())

    async def remove(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Drop those of these blobs that nothing keeps; gives them with the bytes freed."""
        return await self._acts.run(self._remove(list(digests)))

    async def _remove(self, digests: Sequence[Digest]) -> dict[Digest, int]:
        remove = self._files.remove_blobs
        async with self._passages.leaving(digests) as leaving:
            gone = await self._change(self._index.collect, leaving, self._clock(), remove)
            for digest in gone:
                self.held.drop(digest)
            if gone:  # a write under way may name them still; on a full disk, room comes first
                with suppress(DiskFull):
                    await self._listing.publish()
            await self._io(remove, gone)
        self.removed.update(blobs=len(gone), bytes=sum(gone.values()))
        if gone:
            await self._listing.publish()
        return gone

    async def touch(self, digest: Digest) -> None:
        """Remember a use; written to the index in batches, off the hot path."""
        self._uses.touch(digest)

    async def usage(self) -> Mapping[str, int]:
        """Bytes on disk: ``ingest`` (arriving), ``quarantine`` (put aside); ``free`` is left."""
        return await self._io(self._files.usage)

    def _io(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        return hop(self._bytes, act, *args, **kwargs)

    def _db(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        return hop(self._rows, sql_errors(self.root / layout.DATABASE)(act), *args, **kwargs)

    def _change(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        for memo in (self._names, self._members, self._media_types):
            memo.forget()
        return self._db(act, *args, **kwargs)
