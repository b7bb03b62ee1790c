"""Lower stores as images: what of them belongs to which repository, and how it comes from there.

Invariants:
- a lower store gives bytes, never rights: a repository gets what a name of that repository in the
  store's index.json leads to (and what was made of it), as if it had been proven to belong there.
  A store that is ``public`` gives anything to anybody who knows its digest;
- a name in a store tells what a tag means only where its registry does not say;
- a blob is proven and in the cache before anybody sees it: one that is wrong, cut or stuck costs
  time, and comes from the network after all;
- stores are asked in the order of the configuration.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cache.content import Descriptor, Digest
from cache.errors import CacheError, DigestMismatch, Fault, SizeMismatch
from cache.ingest import Ingest
from cache.lower import Lower
from cache.lower_index import Listed, LowerIndex
from cache.lower_reader import LowerAbsent, LowerFailed
from cache.store import BlobStore
from registryd.cache_config import LowerConfig
from registryd.oci.manifest import MANIFEST_LIMIT, Document, parse
from registryd.oci.media_types import DOCUMENTS
from registryd.oci.reference import Reference
from registryd.transfer.batch import Batch

#: Manifests whose children are remembered; a few hundred bytes each.
KEPT: Final = 20_000

_log = logging.getLogger(__name__)

#: Told which ingest a blob comes in by, and from where.
Seen = Callable[[str, Ingest], None]


@dataclass(frozen=True, slots=True)
class LowerName:
    """What a name means by a store, and since when (Unix seconds) nobody has asked its registry."""

    descriptor: Descriptor
    checked: float
    store: str


class _Store:
    """One store, and what its names lead to."""

    def __init__(self, lower: Lower) -> None:
        self.lower = lower
        self._children: dict[Digest, tuple[Descriptor, ...]] = {}
        self._missing: set[Digest] = set()
        self._of: LowerIndex | None = None
        self._roots: dict[str, list[Descriptor]] = {}

    async def roots(self, repository: str) -> Sequence[Descriptor]:
        """What the names of a repository mean."""
        index = await self.lower.index()
        if index is not self._of:
            roots = await asyncio.to_thread(_by_repository, index)
            self._of, self._roots, self._missing = index, roots, set()
        return self._roots.get(repository, ())

    async def vouches(self, repository: str, digest: Digest) -> bool:
        """Whether a name of the repository leads to this."""
        made = (await self.lower.index()).made
        left, seen = list(await self.roots(repository)), set[Digest]()
        while left:
            each = left.pop()
            if each.digest == digest:
                return True
            if each.digest in seen:
                continue
            seen.add(each.digest)
            left += made.get(each.digest, ())
            if each.media_type in DOCUMENTS:
                left += await self._below(each.digest)
        return False

    async def _below(self, digest: Digest) -> Sequence[Descriptor]:
        known = self._children.get(digest)
        if known is None:
            # Of an image for many platforms those are missing that nobody has exported.
            if digest in self._missing:
                return ()
            document = await self.document(digest, expected=False)
            if document is None:
                if not self.lower.shuns(digest):  # else it may be there, and is asked for again
                    self._missing.add(digest)
                return ()
            known = document.children
            while len(self._children) >= KEPT:
                del self._children[next(iter(self._children))]
            self._children[digest] = known
        return known

    async def document(self, digest: Digest, *, expected: bool) -> Document | None:
        """A manifest of the store, proven; None where it is not to be had."""
        raw = await self.lower.read(digest, limit=MANIFEST_LIMIT, expected=expected)
        if raw is None:
            return None
        try:
            return parse(raw, None, digest)
        except Fault as fault:
            self.lower.wrong(digest, str(fault))
            return None


def _by_repository(index: LowerIndex) -> dict[str, list[Descriptor]]:
    found: dict[str, list[Descriptor]] = {}
    for name, listed in index.names.items():
        with suppress(Fault):
            reference = Reference.parse(name, default_tag=None)
            if str(reference) == name:  # a bare tag is no name
                found.setdefault(reference.name, []).append(listed.descriptor)
    return found


class Lowers:
    """All lower stores of a node; none unless the configuration names some."""

    def __init__(
        self, stores: Sequence[LowerConfig] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._stores: list[_Store] = []
        self.take_over(stores)

    def take_over(self, stores: Sequence[LowerConfig]) -> None:
        """Go on with these; what is known of one that stays is kept."""
        before = {(each.lower.root, each.lower.public): each for each in self._stores}
        counts = {each.lower.root: each.lower.counts for each in self._stores}
        self._stores = [
            before.get((each.path, each.public))
            or _Store(
                Lower(
                    each.path,
                    public=each.public,
                    clock=self._clock,
                    counts=counts.get(each.path),
                )
            )
            for each in stores
        ]

    @property
    def all(self) -> Sequence[Lower]:
        """The stores, in their order."""
        return [each.lower for each in self._stores]

    async def named(self, reference: Reference) -> LowerName | None:
        """What a name means by the store that has heard of it last."""
        found: LowerName | None = None
        for each in self._stores:
            listed: Listed | None = (await each.lower.index()).names.get(str(reference))
            if listed is not None and (found is None or listed.checked > found.checked):
                found = LowerName(listed.descriptor, listed.checked, str(each.lower.root))
        return found

    async def opens(self, repository: str) -> bool:
        """Whether a public store has an image of this repository."""
        for each in self._stores:
            if each.lower.public and await each.roots(repository):
                return True
        return False

    async def vouch(self, repository: str, digest: Digest) -> bool:
        """Whether some store says that this belongs to the repository, or a public one has it.

        What a public store does not have is not open by it: it may be here for others alone.
        """
        for each, vouches in await self._offers(repository, digest):
            if vouches or await _has(each.lower, digest):
                return True
        return False

    async def document(self, repository: str, digest: Digest) -> Document | None:
        """A manifest of a repository, from the first store that gives it."""
        for each, expected in await self._offers(repository, digest):
            document = await each.document(digest, expected=expected)
            if document is not None:
                each.lower.gave(len(document.raw))
                return document
        return None

    async def size(self, repository: str, digest: Digest) -> int | None:
        """How large a blob of a repository is, by the first store that has it."""
        for each, expected in await self._offers(repository, digest):
            with suppress(LowerFailed):
                async with each.lower.reading(digest, expected=expected) as (size, _):
                    return size
        return None

    async def made_of(self, subject: Digest) -> list[Document]:
        """The manifests of what was made of a manifest, as far as stores say so and give them."""
        found = []
        for each in self._stores:
            for descriptor in (await each.lower.index()).made.get(subject, ()):
                document = await each.document(descriptor.digest, expected=True)
                if document is not None and document.subject is not None:
                    found += [document] if document.subject.digest == subject else []
        return found

    async def bring(
        self, store: BlobStore, repository: str, digest: Digest, size: int | None, seen: Seen
    ) -> bool:
        """Have a blob in the cache as the repository's own; whether a store has given it.

        Raises DiskFull and StoreUnusable, which are the cache's own.
        """
        for each, expected in await self._offers(repository, digest):
            lower = each.lower
            try:
                await _copy(lower, store, repository, digest, size, seen, expected=expected)
            except LowerAbsent as error:
                if expected:
                    lower.wrong(digest, str(error))
            except (LowerFailed, DigestMismatch, SizeMismatch) as error:
                if str(error) != lower.away:
                    lower.wrong(digest, str(error))
            else:
                return True
        return False

    async def _offers(self, repository: str, digest: Digest) -> list[tuple[_Store, bool]]:
        """The stores to be asked for it, and whether it is known to be there."""
        found = []
        for each in self._stores:
            vouches = await each.vouches(repository, digest)
            if (vouches or each.lower.public) and not each.lower.shuns(digest):
                found.append((each, vouches))
        return found


async def _has(lower: Lower, digest: Digest) -> bool:
    """Whether a store has the bytes of this: that a file is called so proves nothing."""
    seen = digest.hasher()
    try:
        async with lower.reading(digest, expected=False) as (_, pieces):
            async for piece in pieces:
                await asyncio.to_thread(seen.update, piece)
    except LowerFailed:
        return False
    return seen.hexdigest() == digest.hex


async def _copy(
    lower: Lower,
    store: BlobStore,
    repository: str,
    digest: Digest,
    size: int | None,
    seen: Seen,
    *,
    expected: bool,
) -> None:
    async with lower.reading(digest, expected=expected) as (there, pieces):
        if size is not None and there != size:
            raise SizeMismatch(f"has {there} bytes where {size} were announced")
        ingest = await _begun(store, digest, there)
        try:
            await store.room.let_in(ingest, there)
            seen(str(lower.root), ingest)
            batch = Batch(ingest, 0)
            try:
                async for piece in pieces:
                    await batch.add(piece)
            finally:
                await batch.finish()
            await store.commit(ingest, repository=repository)
        except BaseException as error:
            await asyncio.shield(store.abort(ingest, error, discard=True))
            raise
    lower.gave(there)


async def _begun(store: BlobStore, digest: Digest, size: int) -> Ingest:
    """An ingest with nothing in it: what an earlier fetch left is less than what comes now."""
    ingest = await store.ingest(digest)
    if ingest.held.total or ingest.size not in (None, size):
        gone = CacheError(f"{digest} comes whole from elsewhere")
        await asyncio.shield(store.abort(ingest, gone, discard=True))
        ingest = await store.ingest(digest)
    ingest.announce(size)
    return ingest
