"""Blobs that come by way of mirrors: what breaks off there goes on elsewhere, what is wrong too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from cache.content import Digest
from cache.errors import IngestAborted
from cache.store import BlobStore
from registryd.config import MirrorConfig, RegistryConfig
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.remote.remotes import RegistryRemotes
from registryd.transfer.flight import Flights
from registryd.transfer.intake import Want
from tests.fakes.clock import FakeClock
from tests.fakes.registry import digest_of
from tests.fakes.upstream import Upstream
from tests.transfer.conftest import SETTINGS

CONTENT = bytes(range(256)) * 2048
BLOB = Digest.parse(digest_of(CONTENT))
CUT = 40_000


@pytest.fixture
async def servers() -> AsyncIterator[list[Upstream]]:
    """Two mirrors and the registry."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(Upstream().serve()) for _ in range(3)]
        for server in opened:
            server.add_blob("team/app", CONTENT)
        yield opened


@pytest.fixture
async def mirrored(servers: list[Upstream], clock: FakeClock) -> AsyncIterator[RegistryClient]:
    mirrors = tuple(MirrorConfig(server.url) for server in servers[:-1])
    config = RegistryConfig(plain_http=True, mirrors=mirrors)
    async with RegistryRemotes.open(
        registries={servers[-1].name: config},
        transfer=SETTINGS,
        allow=(servers[-1].name,),
        credentials=None,
        proxies={},
        clock=clock.clock,
    ) as remotes:
        yield remotes.remote(servers[-1].name)  # type: ignore[misc]


def want(servers: list[Upstream], client: RegistryClient, size: int | None) -> Want:
    return Want(client, Reference(servers[-1].name, "team/app"), BLOB, size)


@pytest.mark.parametrize("known", [True, False])
async def test_resumed_at_the_neighbour(
    flights: Flights,
    store: BlobStore,
    servers: list[Upstream],
    mirrored: RegistryClient,
    known: bool,
) -> None:
    """What breaks off at a mirror goes on at the next one, at the byte reached: none comes twice.

    By a line taken over and by pieces; a mirror needs no leave in [access].
    """
    length = None if known else -1  # without a length the body comes by pieces
    for server in servers:
        if length is not None:
            server.announce("GET .*/blobs/", length, None)
    servers[0].cut("/blobs/", CUT)
    flight = flights.join(want(servers, mirrored, len(CONTENT)))
    await flight.landed()
    sent = [sum(server.sent.values()) for server in servers]

    assert store.find(BLOB)
    assert [CUT, len(CONTENT) - CUT, 0] == sent
    assert servers[1].name == flight.source
    assert flight.received == len(CONTENT)


async def test_wrong_bytes(
    flights: Flights, store: BlobStore, servers: list[Upstream], mirrored: RegistryClient
) -> None:
    """Wrong bytes of a mirror are thrown away, and it is not asked for this blob again."""
    wrong = bytes(len(CONTENT))
    for server in servers[:2]:
        server.change("/blobs/", lambda answer: setattr(answer, "body", wrong[: len(answer.body)]))
    await flights.join(want(servers, mirrored, len(CONTENT))).landed()
    counts = [len(server.lines("/blobs/")) for server in servers]
    await mirrored.blob_size(Reference(servers[-1].name, "team/app"), BLOB)

    assert store.find(BLOB)
    assert all(count > 0 for count in counts)
    assert [0, 0, 1] == [
        len(server.lines("/blobs/")) - count for server, count in zip(servers, counts, strict=True)
    ]


async def test_mixed_bytes(
    flights: Flights, store: BlobStore, servers: list[Upstream], mirrored: RegistryClient
) -> None:
    """A blob that is wrong because a part of it was comes from hosts that sent none of it."""
    servers[0].change("/blobs/", lambda answer: setattr(answer, "body", bytes(len(answer.body))))
    servers[0].cut("/blobs/", CUT)
    await flights.join(want(servers, mirrored, len(CONTENT))).landed()

    assert store.find(BLOB)
    assert 0 < sum(servers[2].sent.values())


async def test_wrong_bytes_of_before(
    flights: Flights, store: BlobStore, servers: list[Upstream], mirrored: RegistryClient
) -> None:
    """Where an earlier flight has left wrong bytes, no mirror is blamed for them."""
    wanted = want(servers, mirrored, len(CONTENT))
    ingest = await store.ingest(BLOB)
    ingest.note_origin(wanted.repository.name)
    await ingest.write(0, [bytes(CUT)])
    await store.abort(ingest, IngestAborted("left"))
    for server in servers[1:]:
        server.drop(".", None)
    await flights.join(wanted).landed()
    fetched = len(servers[0].lines("^GET .*/blobs/"))
    await mirrored.blob_size(wanted.repository, BLOB)

    assert store.find(BLOB)
    assert fetched == len(servers[0].lines("^GET .*/blobs/"))
    assert 1 == len(servers[0].lines("^HEAD .*/blobs/"))
