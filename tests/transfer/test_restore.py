"""What is put back after the index was lost."""

import json
from pathlib import Path

from cache.store import BlobStore
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library
from registryd.transfer.tag_policy import TagPolicy
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry
from tests.transfer.conftest import SETTINGS


async def test_names_are_put_back_after_the_index_was_lost(
    tmp_path: Path, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    clock: FakeClock,
) -> None:  # fmt: skip
    """Without cache.db the names of index.json and their links come back. Whose the layers are
    was lost: their registry has to give each again, which is compared and not stored."""
    root = tmp_path / "lost"

    def made(store: BlobStore, flights: Flights) -> Library:
        return Library(store, flights, policy=TagPolicy({}), clock=lambda: clock.now)

    clock.now = 1_000_000.0
    async with (
        BlobStore.open(root, clock=lambda: clock.now) as store,
        Flights.open(store, SETTINGS) as flights,
    ):
        library = made(store, flights)
        document = await library.document(remote, tag)
        for child in document.children:
            flight = await library.blob(remote, tag, child.digest, child.size)
            assert flight is not None
            await flight.landed()
        listed = json.loads((root / "index.json").read_text())["manifests"]
    for path in root.glob("cache.db*"):
        path.unlink()
    asked = len(upstream.lines(""))
    async with (
        BlobStore.open(root, clock=lambda: clock.now) as store,
        Flights.open(store, SETTINGS) as flights,
    ):
        library = made(store, flights)
        await library.restore(own=False)
        again = await library.document(remote, tag)
        blobs = [await library.blob(remote, tag, child.digest) for child in again.children]
        names = [(name.name, name.complete) for name in await store.names()]
        listed_again = json.loads((root / "index.json").read_text())["manifests"]

    assert ([(str(tag), True)], document, [None, None]) == (names, again, blobs)
    assert (1, listed) == (len(listed), listed_again)
    wanted = [f"GET /v2/team/app/blobs/{child.digest}" for child in document.children]
    assert wanted == upstream.lines("")[asked:]


async def test_what_cannot_be_put_back_is_left_out(
    tmp_path: Path, clock: FakeClock, upstream: FakeRegistry, remote: RegistryClient,
    tag: Reference,
) -> None:  # fmt: skip
    """A name of index.json whose manifest is gone does not stop the start."""
    root = tmp_path / "lost"
    async with (
        BlobStore.open(root, clock=lambda: clock.now) as store,
        Flights.open(store, SETTINGS) as flights,
    ):
        library = Library(store, flights, policy=TagPolicy({}), clock=lambda: clock.now)
        document = await library.document(remote, tag)
        for child in document.children:
            flight = await library.blob(remote, tag, child.digest)
            assert flight is not None
            await flight.landed()
        blob = store.find(document.digest)
        assert blob is not None
    blob.path.unlink()
    for path in root.glob("cache.db*"):
        path.unlink()
    async with (
        BlobStore.open(root, clock=lambda: clock.now) as store,
        Flights.open(store, SETTINGS) as flights,
    ):
        library = Library(store, flights, policy=TagPolicy({}), clock=lambda: clock.now)
        await library.restore(own=False)

        assert [] == await store.names()


async def test_in_one_s_own_cache_nothing_has_to_be_proven_again(
    tmp_path: Path, upstream: FakeRegistry, remote: RegistryClient, tag: Reference,
    clock: FakeClock,
) -> None:  # fmt: skip
    """A cache that only its owner reads is as good without its index, also without a network."""
    root = tmp_path / "own"

    async def images(lost: bool) -> list[object]:
        async with (
            BlobStore.open(root, clock=lambda: clock.now) as store,
            Flights.open(store, SETTINGS) as flights,
        ):
            library = Library(store, flights, policy=TagPolicy({}), clock=lambda: clock.now)
            if lost:
                await library.restore(own=True)
            document = await library.document(None if lost else remote, tag)
            given = []
            for child in document.children:
                flight = await library.blob(None if lost else remote, tag, child.digest)
                if flight is not None:
                    await flight.landed()
                given.append(store.find(child.digest))
            return given

    first = await images(lost=False)
    for path in root.glob("cache.db*"):
        path.unlink()

    assert first == await images(lost=True)
