"""Flights of which only parts are wanted: what they fetch, when they end, who may go on."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cache.content import Digest
from cache.errors import IngestAborted
from cache.ingest import Ingest
from cache.store import BlobStore
from registryd.oci.errors import BlobUnknown
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.transfer.flight import Flight, Flights
from registryd.transfer.intake import Want
from registryd.transfer.stretches import CHUNK
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import until
from tests.transfer.conftest import SETTINGS, Connect

BLOBS = "GET .*/blobs/"
MIB = 1 << 20
SIZE = 4 * MIB
CONTENT = random.Random(8).randbytes(SIZE)
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def want(upstream: FakeRegistry, remote: RegistryClient, app: Reference) -> Want:
    """A blob that the scripted registry has."""
    upstream.add_blob("team/app", CONTENT)
    return Want(remote, app, DIGEST)


def sent(upstream: FakeRegistry) -> int:
    """Bytes of the blob that the registry sent."""
    return upstream.sent[str(DIGEST)]


def ranges(upstream: FakeRegistry) -> list[str]:
    """The Range of each GET ("" for none)."""
    return [seen.headers.get("Range", "") for seen in upstream.asked(BLOBS)]


async def arriving(flight: Flight) -> Ingest:
    """What arrives; there must be something."""
    ingest = await flight.ingest()
    assert ingest is not None
    return ingest


async def read(flight: Flight, start: int, stop: int) -> bytes:
    """A part, as a handler takes it."""
    with flight.reading():
        ingest = await arriving(flight)
        got = b""
        with flight.demand(start, stop):
            async with ingest.follow(start, stop, proven=False) as follower:
                async for offset, count in follower:
                    got += os.pread(follower.fd, count, offset)
        return got


async def test_a_flight_without_readers_does_nothing(
    flights: Flights, store: BlobStore, upstream: FakeRegistry, want: Want
) -> None:
    """Who joins for a part and never reads costs upstream nothing."""
    flight = flights.join(want, whole=False)
    await flight.landed()

    assert ([], [], None) == (upstream.requests, flights.under_way(), store.find(DIGEST))


async def test_it_ends_with_its_last_reader(
    flights: Flights, store: BlobStore, upstream: FakeRegistry, want: Want
) -> None:
    """When the last one leaves before the bytes came, the request is dropped, and what came kept;
    while another reads it goes on."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=50_000)
    flight = flights.join(want, whole=False)
    with flight.reading():
        readers = [asyncio.create_task(read(flight, MIB, 2 * MIB)) for _ in range(2)]
        await until(lambda: flight.received == 50_000)
    readers[0].cancel()
    await asyncio.wait(readers[:1])
    still = flights.find(DIGEST)
    readers[1].cancel()
    await asyncio.wait(readers)
    with pytest.raises(IngestAborted, match="nobody reads"):
        await flight.landed()

    assert flight is still
    assert ([], []) == (flights.under_way(), store.arriving())
    assert CONTENT[MIB : 2 * MIB] == await read(flights.join(want, whole=False), MIB, 2 * MIB)
    # The step of these tests is 64 KiB.
    assert f"bytes={MIB + 50_000}-{MIB + 50_000 + 65_535}" == ranges(upstream)[1]


async def test_a_chunk_that_was_begun_is_brought_to_its_end(
    flights: Flights, upstream: FakeRegistry, want: Want
) -> None:
    """A reader that got its bytes leaves the rest of the stretch on its way; who comes meanwhile
    joins the same flight."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=1000)
    flight = flights.join(want, whole=False)
    await read(flight, MIB, MIB + 1000)
    same = flights.join(want, whole=False)
    reading = asyncio.create_task(read(same, MIB, MIB + 60_000))
    await asyncio.sleep(0)
    gate.set()

    assert flight is same
    assert CONTENT[MIB : MIB + 60_000] == await reading
    assert [f"bytes={MIB}-{MIB + 65_535}"] == ranges(upstream)[:1]


async def test_who_comes_after_the_last_one_waits_for_its_end(
    flights: Flights, store: BlobStore, upstream: FakeRegistry, want: Want
) -> None:
    """A flight that is over is not joined any more; the next one begins when it has let go."""
    for _ in range(5):
        first = flights.join(want, whole=False)
        with first.reading():
            await arriving(first)
        await until(lambda first=first: first.over)  # type: ignore[misc]
        second = flights.join(want, whole=False)

        assert first is not second
        assert CONTENT[:10] == await read(second, 0, 10)


async def test_the_whole_takes_a_flight_of_parts_over(
    flights: Flights, store: BlobStore, upstream: FakeRegistry, want: Want
) -> None:
    """Joined for the whole, it goes on to the end without readers."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=1000)
    flight = flights.join(want, whole=False)
    with flight.reading():
        reading = asyncio.create_task(read(flight, MIB, MIB + 5000))
        await until(lambda: flight.received == 1000)
    ingest = await arriving(flight)
    kept_up = [ingest.keeps_up]
    whole = flights.join(want)
    kept_up.append(ingest.keeps_up)
    gate.set()
    await reading
    await whole.landed()

    assert (flight, SIZE) == (whole, sent(upstream))
    assert [False, True] == kept_up
    assert store.find(DIGEST) is not None


async def test_a_demand_before_anything_arrives_is_an_error(flights: Flights, want: Want) -> None:
    """There is nothing yet to demand of."""
    flight = flights.join(want, whole=False)
    with (
        flight.reading(),
        pytest.raises(RuntimeError, match="nothing is arriving"),
        ExitStack() as s,
    ):
        s.enter_context(flight.demand(0, 1))


@pytest.mark.parametrize("turns", range(8))
async def test_a_reader_cancelled_at_any_point_leaves_nothing(
    flights: Flights, store: BlobStore, want: Want, turns: int
) -> None:
    """However early somebody leaves, the flight ends and its files are closed."""
    flight = flights.join(want, whole=False)
    with flight.reading():
        reading = asyncio.create_task(read(flight, MIB, 2 * MIB))
        await asyncio.sleep(0)
    for _ in range(turns * 3):
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    await until(lambda: not flights.under_way())

    assert [] == store.arriving()


# what an earlier flight left


async def leave(root: Path, content: bytes, *origins: str) -> None:
    """A process that was stopped when it had this much."""
    async with BlobStore.open(root) as store:
        ingest = await store.ingest(DIGEST)
        for origin in origins:
            ingest.note_origin(origin)
        ingest.announce(SIZE)
        await ingest.write(0, [content])


@pytest.fixture
async def other() -> AsyncIterator[FakeRegistry]:
    """Another registry."""
    async with Upstream().serve() as server:
        yield server


async def test_what_is_kept_needs_no_request(
    tmp_path: Path, upstream: FakeRegistry, want: Want
) -> None:
    """The journal says the size, and whose the bytes are."""
    await leave(tmp_path / "c", CONTENT[:1000], want.repository.name)
    async with BlobStore.open(tmp_path / "c") as store, Flights.open(store, SETTINGS) as flights:
        got = await read(flights.join(want, whole=False), 10, 900)

    assert (CONTENT[10:900], []) == (got, upstream.requests)


@pytest.mark.parametrize(
    "origins", [(), ("other.test/team/app",), ("other.test/x", "{}/team/other")]
)
async def test_bytes_from_elsewhere_are_given_up(
    tmp_path: Path, upstream: FakeRegistry, want: Want, origins: tuple[str, ...]
) -> None:
    """What another registry left, or nobody knows who, is not given on as this one's."""
    names = (origin.format(upstream.name) for origin in origins)
    await leave(tmp_path / "c", bytes(1000), *names)
    async with BlobStore.open(tmp_path / "c") as store, Flights.open(store, SETTINGS) as flights:
        assert CONTENT[10:900] == await read(flights.join(want, whole=False), 10, 900)


@pytest.mark.parametrize(("status", "asked"), [(200, []), (405, [f"bytes=0-{CHUNK // 16 - 1}"])])
async def test_another_repository_has_them_on_its_registry_s_word(
    tmp_path: Path, upstream: FakeRegistry, want: Want, status: int, asked: list[str]
) -> None:
    """Its registry says by HEAD that the blob is there too; who says nothing gives it anew."""
    await leave(tmp_path / "c", CONTENT[:1000], f"{upstream.name}/team/other")
    if status != 200:
        upstream.answer("HEAD .*/blobs/", status, times=None)
        upstream.announce("GET .*/blobs/", -1, times=1)
    async with BlobStore.open(tmp_path / "c") as store, Flights.open(store, SETTINGS) as flights:
        got = await read(flights.join(want, whole=False), 10, 900)

    assert CONTENT[10:900] == got
    assert upstream.lines("HEAD")
    assert status == 405 or asked == ranges(upstream)


async def test_a_repository_without_the_blob_gets_nothing_and_takes_nothing_away(
    tmp_path: Path, upstream: FakeRegistry, want: Want
) -> None:
    """The refusal is passed on, and what was kept is still there for those who may have it."""
    await leave(tmp_path / "c", CONTENT[:1000], want.repository.name)
    stranger = Want(want.fetcher, Reference(upstream.name, "evil/app"), DIGEST)
    async with BlobStore.open(tmp_path / "c") as store, Flights.open(store, SETTINGS) as flights:
        with pytest.raises(BlobUnknown):
            await read(flights.join(stranger, whole=False), 10, 900)
        gets = len(ranges(upstream))
        assert CONTENT[10:900] == await read(flights.join(want, whole=False), 10, 900)

    assert gets == len(ranges(upstream))


async def test_the_whole_is_not_given_on_the_ground_of_another_s_bytes(
    tmp_path: Path, upstream: FakeRegistry, other: FakeRegistry, connect: Connect
) -> None:
    """All bytes are kept, and only a proof is missing: a registry without the blob gets none."""
    await leave(tmp_path / "c", CONTENT, f"{upstream.name}/team/app")
    stranger = Want(await connect(other), Reference(other.name, "evil/app"), DIGEST)
    async with BlobStore.open(tmp_path / "c") as store, Flights.open(store, SETTINGS) as flights:
        with pytest.raises(BlobUnknown):
            await flights.join(stranger).landed()

        assert store.find(DIGEST) is None
