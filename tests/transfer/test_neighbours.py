"""What other nodes bring, and what becomes of it: the flight asks them, and believes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cache.content import Digest
from cache.errors import DigestMismatch
from cache.store import BlobStore
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library
from registryd.transfer.tag_policy import TagPolicy
from tests.fakes.clock import FakeClock
from tests.fakes.neighbours import ScriptedNeighbours
from tests.fakes.registry import FakeRegistry
from tests.transfer.conftest import SETTINGS

BLOB = bytes(range(256)) * 2048
DIGEST = Digest.of(BLOB)
HALF = len(BLOB) // 2


@pytest.fixture
def neighbours() -> ScriptedNeighbours:
    return ScriptedNeighbours()


@pytest.fixture
async def flights(store: BlobStore, neighbours: ScriptedNeighbours) -> AsyncIterator[Flights]:
    async with Flights.open(store, SETTINGS, neighbours=neighbours) as opened:
        yield opened


@pytest.fixture
def library(
    store: BlobStore,
    flights: Flights,
    policy: TagPolicy,
    clock: FakeClock,
    neighbours: ScriptedNeighbours,
) -> Library:
    return Library(store, flights, policy=policy, clock=lambda: clock.now, neighbours=neighbours)


@pytest.fixture
def blob(upstream: FakeRegistry, app: Reference) -> Digest:
    upstream.add_blob("team/app", BLOB)
    return DIGEST


def fetched(upstream: FakeRegistry, digest: Digest) -> list[str | None]:
    """The ranges by which a blob was asked of its registry."""
    return [
        seen.headers.get("Range")
        for seen in upstream.requests
        if seen.method == "GET" and seen.path.endswith(f"/blobs/{digest}")
    ]


async def test_what_others_have_is_not_asked_of_the_registry(
    library: Library,
    remote: RegistryClient,
    app: Reference,
    blob: Digest,
    neighbours: ScriptedNeighbours,
    upstream: FakeRegistry,
    store: BlobStore,
) -> None:
    """They bring half, so the registry is asked for the other half alone."""
    neighbours.blobs[blob] = {0: BLOB[:HALF]}
    flight = await library.blob(remote, app, blob, len(BLOB))
    assert flight is not None
    await flight.landed()

    assert BLOB == await store.read(blob, limit=len(BLOB))
    assert [f"bytes={HALF}-{len(BLOB) - 1}"] == fetched(upstream, blob)
    assert len(BLOB) - HALF == flight.received
    assert flight.shared
    assert await store.is_member(app.name, blob)


async def test_wrong_bytes_of_others_end_in_a_fetch_without_them(
    library: Library,
    remote: RegistryClient,
    app: Reference,
    blob: Digest,
    neighbours: ScriptedNeighbours,
    upstream: FakeRegistry,
    store: BlobStore,
) -> None:
    """The digest finds them out; the registry alone brings the blob, then they are looked at."""
    neighbours.blobs[blob] = {0: bytes(HALF)}
    flight = await library.blob(remote, app, blob, len(BLOB))
    assert flight is not None
    await flight.landed()

    assert BLOB == await store.read(blob, limit=len(BLOB))
    assert [blob] == neighbours.wrong
    assert 1 == len(neighbours.errands)


async def test_a_registry_that_is_wrong_too_is_believed_by_nobody(
    library: Library,
    remote: RegistryClient,
    app: Reference,
    blob: Digest,
    neighbours: ScriptedNeighbours,
    upstream: FakeRegistry,
    store: BlobStore,
) -> None:
    """The second try has no third, and nobody else is blamed."""
    neighbours.blobs[blob] = {0: bytes(HALF)}
    upstream.repositories["team/app"].blobs[str(blob)] = bytes(len(BLOB))
    flight = await library.blob(remote, app, blob, len(BLOB))
    assert flight is not None
    with pytest.raises(DigestMismatch):
        await flight.landed()

    assert store.find(blob) is None
    assert [] == neighbours.wrong


@pytest.mark.parametrize("others", [True, False])
async def test_a_size_is_asked_for_where_others_are(
    library: Library,
    remote: RegistryClient,
    app: Reference,
    blob: Digest,
    neighbours: ScriptedNeighbours,
    upstream: FakeRegistry,
    others: bool,
) -> None:
    """Chunks need the size of the whole; alone, nothing is asked that was not asked before."""
    neighbours.others = others
    flight = await library.blob(remote, app, blob)
    assert flight is not None
    await flight.landed()
    heads = [seen for seen in upstream.requests if seen.method == "HEAD"]

    assert int(others) == len(heads)
    assert [len(BLOB)] * others == [errand.size for errand in neighbours.errands]


async def test_manifests_come_from_the_node_that_answers_for_them(
    library: Library,
    remote: RegistryClient,
    tag: Reference,
    neighbours: ScriptedNeighbours,
    upstream: FakeRegistry,
    store: BlobStore,
) -> None:
    """A HEAD says what the tag means; its bytes are another node's, and proven."""
    document = await remote.fetch_manifest(tag)
    neighbours.manifests[document.digest] = (document.raw, document.media_type)
    upstream.requests.clear()
    found = await library.document(remote, tag)

    assert document.raw == found.raw
    assert ["HEAD"] == [seen.method for seen in upstream.requests]
    assert await store.is_member(tag.name, document.digest)


async def test_a_wrong_manifest_is_asked_of_the_registry(
    library: Library,
    remote: RegistryClient,
    tag: Reference,
    neighbours: ScriptedNeighbours,
) -> None:
    """What another node says is a manifest has to hash to its digest."""
    document = await remote.fetch_manifest(tag)
    neighbours.manifests[document.digest] = (document.raw + b" ", document.media_type)

    assert document.raw == (await library.document(remote, tag)).raw
    assert 1 == len(neighbours.asked)
