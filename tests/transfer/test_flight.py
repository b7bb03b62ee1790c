"""One fetch a digest, however many want it and whoever leaves."""

import asyncio
import random
from pathlib import Path

import pytest

from cache.content import Digest
from cache.errors import DigestMismatch, IngestAborted, SizeMismatch
from cache.store import BlobStore
from registryd.oci.errors import BlobUnknown
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.remote.client import RegistryClient
from registryd.transfer.flight import Flights
from registryd.transfer.intake import Want
from tests.fakes.http import Reply
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.transfer.conftest import SETTINGS

BLOBS = "GET .*/blobs/"
CONTENT = random.Random(7).randbytes(200_000)
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def want(upstream: FakeRegistry, remote: RegistryClient, app: Reference) -> Want:
    """A blob that the scripted registry has."""
    upstream.add_blob("team/app", CONTENT)
    return Want(remote, app, DIGEST)


def lie(answer: Reply) -> None:
    """Let the registry send as many bytes, but others."""
    answer.body = bytes(len(answer.body))


def left(store: BlobStore) -> list[str]:
    """What lies in the cache that is not committed."""
    return sorted(path.name for path in (store.root / "ingest").iterdir())


async def test_many_joiners_make_one_request(
    flights: Flights, store: BlobStore, upstream: FakeRegistry, want: Want
) -> None:
    """Fifty who want a blob at once cause one GET, and are all told of its landing."""
    joined = [flights.join(want) for _ in range(50)]
    await asyncio.gather(*(flight.landed() for flight in joined))

    assert 1 == len(set(joined)) == len(upstream.lines(BLOBS))
    assert CONTENT == await store.read(DIGEST, limit=len(CONTENT))
    assert ([], len(CONTENT), None) == (
        flights.under_way(),
        flights.fetched().total(),
        flights.find(DIGEST),
    )


async def test_a_landed_blob_belongs_to_its_repository(
    flights: Flights, store: BlobStore, want: Want
) -> None:
    """What was fetched from a repository is a member of it."""
    await flights.join(want).landed()

    assert await store.is_member(want.repository.name, DIGEST)


async def test_the_starter_leaves_and_the_flight_goes_on(
    flights: Flights, store: BlobStore, upstream: FakeRegistry, want: Want
) -> None:
    """A flight does not belong to whoever started it."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=100_000)
    starter = asyncio.create_task(flights.join(want).landed())
    await until(lambda: upstream.sent[str(DIGEST)] == 100_000)
    starter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starter
    gate.set()
    await until(lambda: not flights.under_way())

    assert (len(CONTENT), 1) == (store.find(DIGEST).size, len(upstream.lines(BLOBS)))  # type: ignore[union-attr]


async def test_one_who_waits_leaves_and_the_others_wait_on(
    flights: Flights, upstream: FakeRegistry, want: Want
) -> None:
    """Who is cancelled while waiting, for the first byte or for the last, takes nobody along."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate)
    flight = flights.join(want)
    first = [asyncio.create_task(flight.ingest()) for _ in range(2)]
    last = [asyncio.create_task(flight.landed()) for _ in range(2)]
    await asyncio.sleep(0)
    for leaving in (first[0], last[0]):
        leaving.cancel()
    await asyncio.wait([first[0], last[0]])
    ingest = await first[1]
    gate.set()
    await last[1]

    assert ingest is not None and ingest.committed


async def test_followers_read_along(flights: Flights, upstream: FakeRegistry, want: Want) -> None:
    """The arriving blob can be followed while it arrives, and says who sends it."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=100_000)
    flight = flights.join(want)
    ingest = await flight.ingest()
    assert ingest is not None
    await until(lambda: ingest.held.total == flight.received == 100_000)
    before = (ingest.available(0), flight.received, flight.source)
    gate.set()
    await flight.landed()

    assert (100_000, 100_000, upstream.name) == before


async def test_a_failure_is_told_to_all_and_not_kept(
    flights: Flights, store: BlobStore, upstream: FakeRegistry, want: Want
) -> None:
    """Everyone hears why; the next to join starts anew, at the byte reached."""
    cuts = [50_000, 0]
    upstream.change(BLOBS, lambda answer: setattr(answer, "cut", cuts.pop(0)), times=2)
    joined = [flights.join(want) for _ in range(3)]
    errors = await asyncio.gather(*(f.landed() for f in joined), return_exceptions=True)
    await flights.join(want).landed()

    assert [TransportError] * 3 == [type(error) for error in errors]
    assert all("bytes=50000-" in seen.headers["Range"] for seen in upstream.asked(BLOBS)[1:3])
    assert upstream.sent[str(DIGEST)] == len(CONTENT)


async def test_a_refusal_is_told_to_who_waits_for_the_ingest(flights: Flights, want: Want) -> None:
    """Who waits for the bytes hears the refusal too."""
    flight = flights.join(Want(want.fetcher, want.repository, Digest.of(b"not there")))

    with pytest.raises(BlobUnknown):
        await flight.landed()
    ingest = await flight.ingest()
    assert ingest is not None
    with pytest.raises(IngestAborted, match="BLOB_UNKNOWN"):
        ingest.available(0)


async def test_wrong_bytes_leave_nothing(
    flights: Flights, store: BlobStore, upstream: FakeRegistry, want: Want
) -> None:
    """A blob that does not hash to its digest is an error, and is gone from the disk."""
    upstream.change(BLOBS, lie)

    with pytest.raises(DigestMismatch):
        await flights.join(want).landed()
    assert (None, []) == (store.find(DIGEST), left(store))
    assert len(upstream.lines(BLOBS)) == 1


async def resumable(root: Path, content: bytes, reach: int, origin: str) -> None:
    """Leave what a process that was stopped would have left."""
    async with BlobStore.open(root) as store:
        ingest = await store.ingest(DIGEST)
        ingest.note_origin(origin)
        await ingest.write(0, [content[:reach]])


async def test_wrong_resumed_bytes_get_one_fresh_try(
    tmp_path: Path, upstream: FakeRegistry, want: Want
) -> None:
    """Where an earlier process left wrong bytes, the blob is fetched once more, whole."""
    await resumable(tmp_path / "c", bytes(60_000), 60_000, want.repository.name)
    async with (
        BlobStore.open(tmp_path / "c") as store,
        Flights.open(store, SETTINGS) as flights,
    ):
        await flights.join(want).landed()

        assert CONTENT == await store.read(DIGEST, limit=len(CONTENT))
    assert ["bytes=60000-", ""] == [seen.headers.get("Range", "") for seen in upstream.asked(BLOBS)]


async def test_too_many_resumed_bytes_get_one_fresh_try(
    tmp_path: Path, upstream: FakeRegistry, want: Want
) -> None:
    """More bytes than the blob has were left by something else: they are given up."""
    await resumable(tmp_path / "c", CONTENT + b"more", len(CONTENT) + 4, want.repository.name)
    async with (
        BlobStore.open(tmp_path / "c") as store,
        Flights.open(store, SETTINGS) as flights,
    ):
        await flights.join(Want(want.fetcher, want.repository, DIGEST, len(CONTENT))).landed()

        assert store.find(DIGEST) is not None


async def test_only_one_fresh_try(tmp_path: Path, upstream: FakeRegistry, want: Want) -> None:
    """A registry that lies is not asked for ever."""
    await resumable(tmp_path / "c", CONTENT, 60_000, want.repository.name)
    upstream.change(BLOBS, lie)
    async with (
        BlobStore.open(tmp_path / "c") as store,
        Flights.open(store, SETTINGS) as flights,
    ):
        with pytest.raises(DigestMismatch):
            await flights.join(want).landed()
        assert left(store) == []
    assert len(upstream.lines(BLOBS)) == 2


async def test_a_stop_leaves_what_came_for_the_next_process(
    tmp_path: Path, upstream: FakeRegistry, want: Want
) -> None:
    """When the process stops, flights end, tell so, and the next process resumes them."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=100_000)
    async with BlobStore.open(tmp_path / "c") as store:
        async with Flights.open(store, SETTINGS) as flights:
            flight = flights.join(want)
            await until(lambda: flight.received == 100_000)
        with pytest.raises(IngestAborted):
            await flight.landed()
    gate.set()
    async with (
        BlobStore.open(tmp_path / "c") as store,
        Flights.open(store, SETTINGS) as flights,
    ):
        await flights.join(want).landed()
    assert ["", "bytes=100000-165535", "bytes=165536-199999"] == [
        seen.headers.get("Range", "") for seen in upstream.asked(BLOBS)
    ]


async def test_a_stop_before_the_first_step(store: BlobStore, want: Want) -> None:
    """A flight that was never begun tells those who joined it, too."""
    async with Flights.open(store, SETTINGS) as flights:
        flight = flights.join(want)

    async with asyncio.timeout(5):
        with pytest.raises(IngestAborted):
            await flight.landed()


async def test_errors_of_the_block_come_out_as_they_are(store: BlobStore) -> None:
    """Leaving by an error gives that error, not a group of one."""
    with pytest.raises(BlobUnknown):
        async with Flights.open(store, SETTINGS):
            raise BlobUnknown("no", status=404)


async def test_a_blob_that_is_here_needs_no_request(
    flights: Flights, upstream: FakeRegistry, want: Want
) -> None:
    """A flight of what came meanwhile lands at once, with nothing to follow."""
    await flights.join(want).landed()
    flight = flights.join(want)
    await flight.landed()

    assert (None, 1) == (await flight.ingest(), len(upstream.lines(BLOBS)))


async def test_a_wrong_size_is_an_error_of_content(
    flights: Flights, store: BlobStore, want: Want
) -> None:
    """A blob that has another size than was said is not taken, and leaves nothing."""
    with pytest.raises(SizeMismatch):
        await flights.join(Want(want.fetcher, want.repository, DIGEST, 5)).landed()
    assert left(store) == []
