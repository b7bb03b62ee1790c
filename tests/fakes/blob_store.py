"""A blob store in memory: it keeps the contract of ``tests.contract.blob_store`` with plain dicts.

No file, no thread, no time but that of the clock it is given, and no row of SQL: what an image
needs and what keeps it is asked of all that is here, each time anew, so that this store and the one
on disk can only agree because both are right.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from cache.content import Descriptor, Digest, verify
from cache.errors import BlobNotFound, NameNotFound, SizeMismatch, StoreUnusable
from cache.graph import Entry, Image, Shown
from cache.index import Links, Name
from cache.lease import LEASE_TTL, Lease
from tests.fakes.ingest import MemoryIngest
from tests.fakes.pointers import MemoryMade, MemoryPins, Pointers

#: Bytes that an empty store says are free.
ROOM = 1 << 40


def pread(handle: bytes | bytearray, count: int, offset: int, /) -> bytes:
    """``os.pread`` for what this store's readers get."""
    return bytes(handle[offset : offset + count])


@dataclass(frozen=True)
class MemoryBlob:
    """A blob that is here."""

    digest: Digest
    content: bytes

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.content)


@dataclass(frozen=True)
class MemoryCatalogue:
    """All complete images at once."""

    store: MemoryStore

    async def shown(self, visible: Collection[str] | None = None) -> list[Shown]:
        """Those of these repositories (None: of all), sorted by name."""
        names = [
            name
            for name in await self.store.names()
            if name.complete and (visible is None or name.repository in visible)
        ]
        parts = {n.descriptor.digest: await self.store.closure(n.descriptor.digest, made=True)
                 for n in names}  # fmt: skip
        return [await self._row(name, parts) for name in names]

    async def _row(self, name: Name, parts: dict[Digest, dict[Digest, int]]) -> Shown:
        root = name.descriptor
        mine = parts[root.digest]
        others = {digest for each, part in parts.items() if each != root.digest for digest in part}
        own = sum(size for digest, size in mine.items() if digest not in others)
        used = await self.store.last_used(mine)
        image = Image(str(root.digest), (), sum(mine.values()), used, frozenset())
        entry = Entry(name.name, name.repository, str(root.digest), root.media_type)
        return Shown(entry, image, own)

    async def count(self) -> int:
        """How many names are complete."""
        return len(await self.shown())


class MemoryStore:
    """Verified content by digest, with names and links; ``clock`` gives Unix seconds."""

    arrival = MemoryIngest  #: What arrives here.

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._blobs: dict[Digest, bytes] = {}
        self._used: dict[Digest, float] = {}
        self._kinds: dict[Digest, str] = {}
        self._members: dict[Digest, set[str]] = {}
        self._names: dict[str, Name] = {}
        self._leases: dict[str, dict[Digest, float]] = {}
        self._arriving: dict[str, MemoryIngest] = {}
        self._left: dict[str, MemoryIngest] = {}
        self._uploads = 0
        self._pointers = Pointers()
        self.pins = MemoryPins(clock)
        self.made = MemoryMade(self._pointers)
        self.catalogue = MemoryCatalogue(self)

    # content

    def __len__(self) -> int:
        return len(self._blobs)

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(map(len, self._blobs.values()))

    def find(self, digest: Digest) -> MemoryBlob | None:
        """The blob, if it is here."""
        return MemoryBlob(digest, self._blobs[digest]) if digest in self._blobs else None

    @asynccontextmanager
    async def open_blob(self, digest: Digest) -> AsyncIterator[bytes]:
        """What to read the blob from; counts as a use. Raises BlobNotFound."""
        content = self._content(digest)
        self._used[digest] = self._clock()
        yield content

    async def read(self, digest: Digest, *, limit: int, use: bool = True) -> bytes:
        """A small blob, whole. Raises BlobNotFound, and SizeMismatch beyond ``limit`` bytes."""
        content = self._content(digest)
        if len(content) > limit:
            raise SizeMismatch(f"{digest} has {len(content)} bytes, at most {limit} are read here")
        if use:
            self._used[digest] = self._clock()
        return content

    def _content(self, digest: Digest) -> bytes:
        if digest not in self._blobs:
            raise BlobNotFound(f"{digest} is not in the cache")
        return self._blobs[digest]

    async def put(
        self, content: bytes, descriptor: Descriptor, *, repository: str = "",
        links: Links | None = None,
    ) -> None:  # fmt: skip
        """Store content, with what it points to. Raises DigestMismatch and SizeMismatch."""
        verify(content, descriptor.digest, descriptor.size)
        self._record(descriptor.digest, content, repository)
        if links is not None:
            self._kinds[descriptor.digest] = links.media_type
            self._pointers.add(descriptor.digest, links.children, links.rule)

    def _record(self, digest: Digest, content: bytes, repository: str) -> None:
        self._blobs.setdefault(digest, content)
        self._used[digest] = self._clock()
        if repository:
            self._members.setdefault(digest, set()).add(repository)

    async def ingest(self, digest: Digest, *, size: int | None = None) -> MemoryIngest:
        """Begin an arrival, or go on with one that was given up; one at a time a digest.

        Raises StoreUnusable, and SizeMismatch when more was kept than ``size``.
        """
        key = str(digest)
        if key in self._arriving:
            raise StoreUnusable(f"{key} is arriving already")
        ingest = self.arrival(key, digest, self._left.pop(key, None))
        if size is not None:
            ingest.announce(size)
        self._arriving[key] = ingest
        return ingest

    async def upload(self) -> MemoryIngest:
        """Begin the arrival of a blob whose digest is said at the end."""
        self._uploads += 1
        ingest = self.arrival(f"upload-{self._uploads}", None)
        self._arriving[ingest.key] = ingest
        return ingest

    async def commit(
        self, ingest: MemoryIngest, digest: Digest | None = None, *, repository: str = ""
    ) -> Digest:
        """Prove and publish what arrived; ends it whatever happens, unless it has no goal.

        Raises ValueError, SizeMismatch, DigestMismatch and IngestAborted.
        """
        goal = ingest.goal(digest)
        ingest.raise_if_ended()
        try:
            content = ingest.prove(goal)
        except BaseException as error:
            await self.abort(ingest, error, discard=True)
            raise
        self._record(goal, content, repository)
        del self._arriving[ingest.key]
        ingest.end()
        return goal

    async def abort(
        self, ingest: MemoryIngest, cause: BaseException, *, discard: bool = False
    ) -> None:
        """Give up an arrival; what came is kept for the next one unless ``discard``."""
        if ingest.ended:
            return
        del self._arriving[ingest.key]
        if not discard and ingest.expected is not None:
            self._left[ingest.key] = ingest
        ingest.end(cause)

    def arriving(self) -> list[MemoryIngest]:
        """What is on its way in now."""
        return list(self._arriving.values())

    async def usage(self) -> dict[str, int]:
        """Bytes of what arrives or was given up (``ingest``), and what is ``free``."""
        parts = [*self._arriving.values(), *self._left.values()]
        came = sum(ingest.held.total for ingest in parts)
        return {"ingest": came, "quarantine": 0, "free": ROOM - self.size - came}

    # membership, links, names

    async def add_member(self, repository: str, *digests: Digest) -> None:
        """Record that these blobs were proven to belong to a repository."""
        for digest in digests:
            self._members.setdefault(digest, set()).add(repository)

    async def is_member(self, repository: str, digest: Digest) -> bool:
        """Whether a blob was proven to belong to a repository ("HOST/": to any of that host)."""
        mine = self._members.get(digest, set())
        if repository.endswith("/"):
            return any(each.startswith(repository) for each in mine)
        return repository in mine

    async def drop_member(self, repository: str, digest: Digest) -> bool:
        """Forget that a blob belongs to a repository; whether it did."""
        did = await self.is_member(repository, digest)
        self._members.get(digest, set()).discard(repository)
        return did

    async def children(self, parent: Digest) -> list[Descriptor]:
        """What a stored manifest points to."""
        return self._pointers.of(parent, made=False)

    async def expected_size(self, digest: Digest) -> int | None:
        """The size in bytes that a stored manifest gives this content, if any does."""
        known = (links[digest][0] for links in self._pointers.links.values() if digest in links)
        return next((descriptor.size for descriptor in known), None)

    async def media_type(self, digest: Digest) -> str:
        """The media type of a stored manifest ("" for other content)."""
        return self._kinds.get(digest, "")

    async def is_complete(self, root: Descriptor) -> bool:
        """Whether content is here with everything that it needs."""
        return root.digest in self._pointers.whole(self._blobs)

    async def closure(self, root: Digest, *, made: bool = False) -> dict[Digest, int]:
        """All held that is reachable from a digest (with ``made`` what was made of it too)."""
        return self._sizes(self._pointers.reachable([root], made=made))

    def _sizes(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        return {each: len(self._blobs[each]) for each in digests if each in self._blobs}

    async def tag(self, name: str, repository: str, descriptor: Descriptor, at: float = 0) -> Name:
        """Let ``name`` mean this stored content. Raises BlobNotFound."""
        if descriptor.digest not in self._blobs:
            raise BlobNotFound(f"{name}: {descriptor.digest} is not in the cache")
        self._names[name] = Name(name, repository, descriptor, False, at or self._clock())
        return await self._told(self._names[name])

    async def _told(self, name: Name) -> Name:
        return replace(name, complete=await self.is_complete(name.descriptor))

    async def resolve(self, name: str) -> Name | None:
        """What a name means here, complete or not; None when it is not known."""
        return await self._told(self._names[name]) if name in self._names else None

    async def names(self, repository: str | None = None) -> list[Name]:
        """All names (of one repository), sorted."""
        found = [self._names[name] for name in sorted(self._names)]
        return [await self._told(n) for n in found if repository in (None, n.repository)]

    async def untag(self, name: str) -> Name:
        """Forget a name; its content stays. Raises NameNotFound."""
        if name not in self._names:
            raise NameNotFound(f"{name} is not in the cache")
        return await self._told(self._names.pop(name))

    # what is kept, and for how long

    async def last_used(self, digests: Iterable[Digest]) -> float:
        """When the most recently used of these blobs was used, Unix seconds."""
        return max((self._used.get(digest, 0.0) for digest in digests), default=0.0)

    @asynccontextmanager
    async def lease(self, ttl: float = LEASE_TTL) -> AsyncIterator[Lease]:
        """Hold content while something is built on it; the end of the block ends it."""
        lease = Lease(self._hold, ttl)
        try:
            yield lease
        finally:
            self._leases.pop(lease.key, None)

    async def _hold(self, lease: str, digests: Iterable[Digest], ttl: float) -> None:
        held = self._leases.setdefault(lease, {})
        held.update(dict.fromkeys(digests, self._clock() + ttl))

    def roots(self) -> set[Digest]:
        """What is kept for its own sake: by a name, a lease or a pin."""
        now = self._clock()
        leased = {d for held in self._leases.values() for d, end in held.items() if end > now}
        named = {name.descriptor.digest for name in self._names.values()}
        return named | leased | {pin.digest for pin in self.pins.live()}

    async def unreferenced(self) -> dict[Digest, int]:
        """Blobs that no name, no lease and no pin keeps, with sizes in bytes."""
        return self._sizes(self._blobs.keys() - self._pointers.reachable(self.roots()))

    async def remove(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Drop those of these blobs that nothing keeps; gives them with the bytes freed."""
        free = await self.unreferenced()
        gone = {digest: free[digest] for digest in digests if digest in free}
        tables: list[dict[Digest, Any]] = [
            self._blobs, self._used, self._kinds, self._members, self._pointers.links,
        ]  # fmt: skip
        for table in tables:
            for digest in gone:
                table.pop(digest, None)
        return gone
