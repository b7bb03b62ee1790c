"""The port that a blob store stands at: what its contract asks of it, and no more.

A store gives its readers something to read from (on disk a file descriptor, ``H`` here) and takes
its own arrivals back (``I``); whoever has both also has a function like ``os.pread`` for the first.
Digests, descriptors, links and names are the values of ``cache``, the same for every store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias, TypeVar

from cache.chunks import ChunkMap
from cache.content import Descriptor, Digest
from cache.graph import Shown
from cache.index import Links, Name
from cache.pins import Pin

H = TypeVar("H", covariant=True)  # a handle
R = TypeVar("R", contravariant=True)  # the same, as it is taken
I = TypeVar("I", bound="Arrival[Any]")  # noqa: E741 (an ingest)


class Pread(Protocol[R]):
    """``os.pread``, for what this store's readers get."""

    def __call__(self, handle: R, count: int, offset: int, /) -> bytes:
        """At most ``count`` bytes from ``offset`` on."""


class Kept(Protocol):
    """A blob that is here."""

    @property
    def digest(self) -> Digest:
        """What its bytes hash to."""

    @property
    def size(self) -> int:
        """How many bytes it has."""


class Reading(Protocol[H]):
    """A reader of what arrives; iterated once, for spans of offset and count."""

    @property
    def fd(self) -> H:
        """What the spans are read from, after the end of the arrival too."""

    def __aiter__(self) -> AsyncIterator[tuple[int, int]]:
        """What can be read now. Raises IngestAborted, or the CacheError that ended it."""


class Arrival(Protocol[H]):
    """A blob on its way in (``cache.ingest``)."""

    size: int | None
    held: ChunkMap

    def announce(self, size: int) -> None:
        """Say how large the whole is. Raises SizeMismatch."""

    def write(self, offset: int, pieces: Sequence[bytes]) -> Awaitable[None]:
        """Take in bytes. Raises SizeMismatch and IngestAborted."""

    def follow(
        self, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[Reading[H]]:
        """Read along. Raises IngestAborted."""


class Lease(Protocol):
    """Keeps what it holds until it ends."""

    async def hold(self, *digests: Digest) -> None:
        """Keep these too."""


class Pins(Protocol):
    """What somebody wants kept."""

    async def add(
        self, digest: Digest, *, name: str, owner: str = "", reference: str = "", ttl: float | None
    ) -> Pin:
        """Keep a digest for ``ttl`` seconds, None: until it is dropped."""

    async def of(self, digest: Digest) -> list[Pin]:
        """The pins that keep just this digest now."""

    async def drop(self, name: str, *, owner: str = "") -> list[Pin]:
        """Take an owner's pins of this name away; gives them."""


class Made(Protocol):
    """What was made of which manifest."""

    async def of(self, subject: Digest) -> list[Descriptor]:
        """What was made of it."""

    async def record(self, subject: Digest, made: Descriptor) -> None:
        """Keep the one as long as the other."""


class Catalogue(Protocol):
    """All complete images at once."""

    async def shown(self, visible: Collection[str] | None = None) -> list[Shown]:
        """Those of these repositories (None: of all), sorted by name."""

    async def count(self) -> int:
        """How many names are complete."""


class Store(Protocol[I, H]):
    """Verified content by digest, with names and links (``cache.store``)."""

    @property
    def pins(self) -> Pins:
        """Its pins."""

    @property
    def made(self) -> Made:
        """What was made of what it has."""

    @property
    def catalogue(self) -> Catalogue:
        """Its images."""

    # content

    def __len__(self) -> int:
        """How many blobs are here."""

    @property
    def size(self) -> int:
        """Their bytes."""

    def find(self, digest: Digest) -> Kept | None:
        """The blob, if it is here."""

    def open_blob(self, digest: Digest) -> AbstractAsyncContextManager[H]:
        """What to read the blob from; a use. Raises BlobNotFound."""

    async def read(self, digest: Digest, *, limit: int, use: bool = True) -> bytes:
        """A small blob. Raises BlobNotFound and SizeMismatch."""

    async def put(
        self, content: bytes, descriptor: Descriptor, *, repository: str = "",
        links: Links | None = None,
    ) -> None:  # fmt: skip
        """Store small content. Raises DigestMismatch and SizeMismatch."""

    async def ingest(self, digest: Digest, *, size: int | None = None) -> I:
        """Begin or resume an arrival. Raises StoreUnusable and SizeMismatch."""

    async def upload(self) -> I:
        """Begin one whose digest is said at the end."""

    async def commit(
        self, ingest: I, digest: Digest | None = None, *, repository: str = ""
    ) -> Digest:
        """Prove and publish. Raises ValueError, DigestMismatch, SizeMismatch, IngestAborted."""

    async def abort(self, ingest: I, cause: BaseException, *, discard: bool = False) -> None:
        """Give up an arrival."""

    def arriving(self) -> list[I]:
        """What is on its way in."""

    async def usage(self) -> Mapping[str, int]:
        """Bytes ``ingest`` and ``free``."""

    # membership, links, names

    async def add_member(self, repository: str, *digests: Digest) -> None:
        """Record that blobs belong to a repository."""

    async def is_member(self, repository: str, digest: Digest) -> bool:
        """Whether one does."""

    async def drop_member(self, repository: str, digest: Digest) -> bool:
        """Forget it; whether it did."""

    async def children(self, parent: Digest) -> list[Descriptor]:
        """What a manifest points to."""

    async def expected_size(self, digest: Digest) -> int | None:
        """The size that a manifest gives it."""

    async def media_type(self, digest: Digest) -> str:
        """Of a manifest; "" for others."""

    async def is_complete(self, root: Descriptor) -> bool:
        """Whether all that it needs is here, itself too."""

    async def closure(self, root: Digest, *, made: bool = False) -> dict[Digest, int]:
        """All held that is reachable from it."""

    async def tag(self, name: str, repository: str, descriptor: Descriptor, at: float = 0) -> Name:
        """Let a name mean stored content. Raises BlobNotFound."""

    async def resolve(self, name: str) -> Name | None:
        """What it means."""

    async def names(self, repository: str | None = None) -> list[Name]:
        """All of them, sorted."""

    async def untag(self, name: str) -> Name:
        """Forget it. Raises NameNotFound."""

    # what is kept, and for how long

    async def last_used(self, digests: Iterable[Digest]) -> float:
        """When any of these was used last."""

    def lease(self, ttl: float = ...) -> AbstractAsyncContextManager[Lease]:
        """Hold content until the end of the block, or for ``ttl`` seconds."""

    async def unreferenced(self) -> dict[Digest, int]:
        """What nothing keeps."""

    async def remove(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Drop those that nothing keeps; gives them."""


#: For those to whom it is all the same.
AnyStore: TypeAlias = Store[Any, Any]
