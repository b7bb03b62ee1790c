"""A store, its flights, and clients of scripted registries whose waits cost no time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from cache.content import Digest
from cache.store import BlobStore
from registryd.config import RegistryConfig, TransferConfig
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.remote.remotes import RegistryRemotes
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library
from registryd.transfer.tag_policy import TagPolicy
from tests.fakes.clock import FakeClock
from tests.fakes.http import FakeServer
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream

#: Quick to give up: what a test wants to see is that it does.
SETTINGS = TransferConfig(attempts=2, ranges=4, range_size=64 << 10, stall_timeout=20)
#: How long a tag is believed in these tests, seconds.
TTL = 300.0

Connect = Callable[[FakeServer], Awaitable[RegistryClient]]
Configured = Callable[..., Library]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with Upstream().serve() as server:
        yield server


@pytest.fixture
async def store(tmp_path: Path, clock: FakeClock) -> AsyncIterator[BlobStore]:
    async with BlobStore.open(tmp_path / "cache", clock=lambda: clock.now) as opened:
        yield opened


@pytest.fixture
async def flights(store: BlobStore) -> AsyncIterator[Flights]:
    async with Flights.open(store, SETTINGS) as opened:
        yield opened


@pytest.fixture
def policy(upstream: FakeRegistry) -> TagPolicy:
    """What is said of tags; a test that wants more has a fixture of the same name."""
    return TagPolicy({upstream.name: RegistryConfig(tag_ttl=TTL)})


@pytest.fixture
def library(store: BlobStore, flights: Flights, policy: TagPolicy, clock: FakeClock) -> Library:
    return Library(store, flights, policy=policy, clock=lambda: clock.now)


@pytest.fixture
async def connect(clock: FakeClock) -> AsyncIterator[Connect]:
    """A client for a scripted registry."""
    async with AsyncExitStack() as stack:

        async def connect_(server: FakeServer) -> RegistryClient:
            opened = RegistryRemotes.open(
                registries={server.name: RegistryConfig(plain_http=True)},
                transfer=SETTINGS,
                allow=("*",),
                credentials=None,
                proxies={},
                clock=clock.clock,
            )
            return (await stack.enter_async_context(opened)).remote(server.name)

        yield connect_


@pytest.fixture
async def remote(connect: Connect, upstream: FakeRegistry) -> RegistryClient:
    return await connect(upstream)


@pytest.fixture
def app(upstream: FakeRegistry) -> Reference:
    """The repository that the tests speak of."""
    return Reference(upstream.name, "team/app")


@pytest.fixture
def tag(upstream: FakeRegistry, app: Reference) -> Reference:
    """An image that the scripted registry has."""
    upstream.add_image("team/app", "1", b"layer " * 1000)
    return app.with_tag("1")


async def hold(library: Library, remote: RegistryClient, reference: Reference) -> Digest:
    """Make an image present with its blobs; its digest."""
    document = await library.document(remote, reference)
    for child in document.children:
        flight = await library.blob(remote, reference, child.digest, child.size)
        if flight is not None:
            await flight.landed()
    return document.digest


@pytest.fixture
async def held(library: Library, remote: RegistryClient, tag: Reference) -> Digest:
    """The image of ``tag``, whole."""
    return await hold(library, remote, tag)


@pytest.fixture
def configured(
    store: BlobStore, flights: Flights, upstream: FakeRegistry, clock: FakeClock
) -> Configured:
    """Makes a library for which the registry is configured so."""

    def make(**config: Any) -> Library:
        policy = TagPolicy({upstream.name: RegistryConfig(**{"tag_ttl": TTL, **config})})
        return Library(store, flights, policy=policy, clock=lambda: clock.now)

    return make
