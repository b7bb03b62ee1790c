"""The contract finds a store out that breaks a promise: each fault here dies of the test it names.

The faulty stores are the one in memory with one rule changed.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from cache.content import Descriptor, Digest
from cache.errors import BlobNotFound, CacheError
from cache.index import Links, Name
from cache.lease import LEASE_TTL, Lease
from tests.cache.conftest import Clock
from tests.contract.arrivals import ArrivalContract
from tests.contract.blob_store import BlobStoreContract
from tests.contract.kept_content import KeptContentContract
from tests.fakes.blob_store import MemoryStore, pread
from tests.fakes.ingest import MemoryIngest


class Contract(BlobStoreContract, ArrivalContract, KeptContentContract):
    """All of it."""


# content


class BelievedArrival(MemoryStore):
    """What arrived is published unproven."""

    class arrival(MemoryIngest):
        @override
        def prove(self, goal: Digest) -> bytes:
            return bytes(self.content)


class BelievedPut(MemoryStore):
    """What is put is taken for what its descriptor says."""

    @override
    async def put(
        self, content: bytes, descriptor: Descriptor, *, repository: str = "",
        links: Links | None = None,
    ) -> None:  # fmt: skip
        self._record(descriptor.digest, content, repository)


class NothingHeldBack(MemoryStore):
    """Who reads along gets the last bytes before the proof."""

    class arrival(MemoryIngest):
        @override
        def shown(self, start: int) -> int:
            self.raise_if_aborted()
            return self.held.reach(start)


class LastWriterWins(MemoryStore):
    """Bytes that are here are written again."""

    class arrival(MemoryIngest):
        @override
        def write(self, offset: int, pieces: Sequence[bytes]) -> asyncio.Future[None]:
            written = super().write(offset, pieces)
            content = b"".join(pieces)
            self.content[offset : offset + len(content)] = content
            return written


class TwoAtATime(MemoryStore):
    """A digest may arrive twice at the same time."""

    @override
    async def ingest(self, digest: Digest, *, size: int | None = None) -> MemoryIngest:
        self._arriving.pop(str(digest), None)
        return await super().ingest(digest, size=size)


class LateEnd(MemoryStore):
    """The end of an old arrival takes the place of a new one of the same digest away."""

    @override
    async def abort(
        self, ingest: MemoryIngest, cause: BaseException, *, discard: bool = False
    ) -> None:
        await super().abort(ingest, cause, discard=discard)
        self._arriving.pop(ingest.key, None)


class NothingResumed(MemoryStore):
    """What came of an arrival that was given up is lost."""

    @override
    async def abort(
        self, ingest: MemoryIngest, cause: BaseException, *, discard: bool = False
    ) -> None:
        await super().abort(ingest, cause, discard=True)


class SpoiltResumed(MemoryStore):
    """What was to be discarded is kept."""

    @override
    async def abort(
        self, ingest: MemoryIngest, cause: BaseException, *, discard: bool = False
    ) -> None:
        await super().abort(ingest, cause)


# names


class NameFirst(MemoryStore):
    """A name is set before its content is here."""

    @override
    async def tag(self, name: str, repository: str, descriptor: Descriptor, at: float = 0) -> Name:
        try:
            return await super().tag(name, repository, descriptor, at)
        except BlobNotFound:
            self._names[name] = Name(name, repository, descriptor, False, at or self._clock())
            return self._names[name]


class ShownTooSoon(MemoryStore):
    """A name is complete when its manifest is here."""

    @override
    async def is_complete(self, root: Descriptor) -> bool:
        return root.digest in self._blobs


class WholeIndexes(MemoryStore):
    """An index needs all its children."""

    @override
    async def put(
        self, content: bytes, descriptor: Descriptor, *, repository: str = "",
        links: Links | None = None,
    ) -> None:  # fmt: skip
        all_of_them = links and replace(links, rule="all")
        await super().put(content, descriptor, repository=repository, links=all_of_them)


# what is kept


class NoLeases(MemoryStore):
    """What is leased is collected."""

    @override
    async def _hold(self, lease: str, digests: Iterable[Digest], ttl: float) -> None:
        pass


class EndlessLeases(MemoryStore):
    """A lease outlives its time."""

    @override
    async def _hold(self, lease: str, digests: Iterable[Digest], ttl: float) -> None:
        await super()._hold(lease, digests, float("inf"))


class OneLease(MemoryStore):
    """The end of one lease ends all."""

    @override
    @asynccontextmanager
    async def lease(self, ttl: float = LEASE_TTL) -> AsyncIterator[Lease]:
        async with super().lease(ttl) as lease:
            yield lease
        self._leases.clear()


class NoPins(MemoryStore):
    """What is pinned is collected."""

    @override
    def roots(self) -> set[Digest]:
        return super().roots() - {pin.digest for pin in self.pins.live()}


class OnlyWholeNames(MemoryStore):
    """A name that is not complete keeps nothing."""

    @override
    def roots(self) -> set[Digest]:
        names = {name.descriptor.digest for name in self._names.values()}
        return super().roots() - (names - self._pointers.whole(self._blobs))


class OnlyRoots(MemoryStore):
    """A name keeps its manifest, and not what that needs."""

    @override
    async def unreferenced(self) -> dict[Digest, int]:
        return self._sizes(self._blobs.keys() - self.roots())


class MembersForEver(MemoryStore):
    """Whoever owned a blob owns it still when it comes again."""

    @override
    async def remove(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        before = dict(self._members)
        gone = await super().remove(digests)
        self._members = before
        return gone


FAULTS: dict[type[MemoryStore], Callable[..., Awaitable[None]]] = {
    BelievedArrival: Contract.test_a_wrong_blob_is_never_given_out_whole,
    BelievedPut: Contract.test_what_is_not_its_digest_is_refused,
    NothingHeldBack: Contract.test_a_wrong_blob_is_never_given_out_whole,
    LastWriterWins: Contract.test_the_first_to_bring_a_byte_wins,
    TwoAtATime: Contract.test_a_digest_arrives_once_at_a_time,
    LateEnd: Contract.test_an_old_end_does_not_disturb_a_new_arrival,
    NothingResumed: Contract.test_what_was_given_up_goes_on_where_it_stopped,
    SpoiltResumed: Contract.test_what_was_given_up_goes_on_where_it_stopped,
    NameFirst: Contract.test_what_is_not_there_cannot_be_read,
    ShownTooSoon: Contract.test_a_name_is_complete_when_all_it_needs_is_here,
    WholeIndexes: Contract.test_an_index_needs_one_of_its_children,
    NoLeases: Contract.test_a_lease_keeps_content,
    EndlessLeases: Contract.test_a_lease_and_a_pin_end_by_themselves,
    OneLease: Contract.test_two_leases_hold_the_same,
    NoPins: Contract.test_a_pin_keeps_content_until_it_is_taken_away,
    OnlyWholeNames: Contract.test_what_a_name_needs_is_never_removed,
    OnlyRoots: Contract.test_what_a_name_needs_is_never_removed,
    MembersForEver: Contract.test_what_a_name_needs_is_never_removed,
}


async def ends_well(test: Callable[..., Awaitable[None]], faulty: type[MemoryStore]) -> bool:
    """Whether a store passes this test of the contract."""
    clock = Clock()
    given: dict[str, Any] = {"store": faulty(clock), "pread": pread, "clock": clock}
    wanted = list(inspect.signature(test).parameters)[1:]
    try:
        await test(Contract(), **{name: given[name] for name in wanted})
    except (AssertionError, CacheError, pytest.fail.Exception):
        return False
    return True


@pytest.mark.parametrize(("faulty", "test"), FAULTS.items(), ids=[f.__name__ for f in FAULTS])
async def test_a_fault_dies(
    faulty: type[MemoryStore], test: Callable[..., Awaitable[None]]
) -> None:
    """The store that is right passes the test, and the faulty one does not."""
    assert await ends_well(test, MemoryStore)
    assert not await ends_well(test, faulty)
