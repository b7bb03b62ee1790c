"""What comes from registries keeps to the limits, and the small ones get through."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator

import pytest

from cache.content import Digest
from cache.errors import IngestAborted
from cache.store import BlobStore
from registryd.config import TransferConfig
from registryd.oci.reference import Reference
from registryd.ports import Line
from registryd.rates import LARGEST_GRAIN, LEAST_BURST, Rates
from registryd.remote.client import RegistryClient
from registryd.transfer.flight import Flight, Flights
from registryd.transfer.intake import Want
from registryd.transfer.lines import receive
from tests.fakes.http import Reply
from tests.fakes.rated import Jumps, Standing, Timed
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until

KIB, MIB = 1 << 10, 1 << 20
LIMIT = 2 * MIB
HUGE = random.Random(1).randbytes(8 * MIB)
SMALL = random.Random(2).randbytes(64 * KIB)
#: What the client holds in its buffer already when a stream is paid for, at most.
PIECE = 2 * MIB


class Place:
    """A registry with blobs, and flights that keep to rates in a time of their own."""

    def __init__(
        self, upstream: FakeRegistry, remote: RegistryClient, app: Reference, flights: Flights
    ) -> None:
        self.upstream, self.remote, self.app, self.flights = upstream, remote, app, flights

    def fetch(self, content: bytes, *, size: int | None = None) -> Flight:
        digest = Digest.parse(self.upstream.add_blob("team/app", content))
        return self.flights.join(Want(self.remote, self.app, digest, size))


@pytest.fixture
def time() -> Timed:
    return Jumps()


@pytest.fixture
def rates(time: Timed) -> Rates:
    return time.rates(down=LIMIT)


@pytest.fixture
async def place(
    upstream: FakeRegistry, remote: RegistryClient, app: Reference, store: BlobStore, rates: Rates
) -> AsyncIterator[Place]:
    async with Flights.open(store, TransferConfig(), rates=rates) as flights:
        yield Place(upstream, remote, app, flights)


def without_length(answer: Reply) -> None:
    """Let a body come in chunks: it cannot be taken from its socket by threads."""
    answer.length = -1


@pytest.mark.parametrize("by_pieces", [False, True])
async def test_a_blob_takes_its_time(place: Place, time: Timed, by_pieces: bool) -> None:
    """At no moment has more come than the limit lets through, by lines and by pieces."""
    if by_pieces:
        place.upstream.change("GET .*/blobs/", without_length)
    seen = [(0.0, 0)]
    flight = place.fetch(HUGE, size=len(HUGE))
    ingest = await flight.ingest()
    assert ingest is not None
    while not ingest.ended:
        seen.append((time.now, ingest.held.total))
        await ingest.changed()
    await flight.landed()

    slack = LEAST_BURST + (PIECE if by_pieces else LIMIT // 20)
    assert all(total <= LIMIT * now + slack for now, total in seen)
    assert time.now >= (len(HUGE) - slack) / LIMIT
    assert time.now <= len(HUGE) / LIMIT


@pytest.mark.parametrize("by_pieces", [False, True])
async def test_many_small_blobs_take_their_time(place: Place, time: Timed, by_pieces: bool) -> None:
    """A blob that comes in one piece is paid for like any other."""
    if by_pieces:
        place.upstream.change("GET .*/blobs/", without_length)
    contents = [bytes([number]) * len(SMALL) for number in range(40)]
    for content in contents:
        await place.fetch(content, size=len(content)).landed()

    assert time.now >= (38 * len(SMALL) - LEAST_BURST) / LIMIT


async def test_a_line_that_is_cut_while_it_waits(store: BlobStore) -> None:
    """What another connection was given meanwhile is not taken from the socket."""
    time = Standing()
    rates = time.rates(down=LIMIT)
    await rates.down.take("other", LEAST_BURST + LIMIT)
    near, far = socket.socketpair()
    near.setblocking(False)
    far.sendall(SMALL)
    ingest = await store.ingest(Digest.of(SMALL), size=len(SMALL))
    stop = len(SMALL)
    with far, near, rates.from_registry("a.io", "a") as pace:
        line = Line(b"", os.dup(near.fileno()), len(SMALL))
        receiving = asyncio.create_task(
            receive(
                ingest,
                line,
                0,
                source="far",
                stall=30.0,
                came=lambda _: None,
                until=lambda: stop,
                pace=pace,
            )
        )
        await until(lambda: waiting(rates))
        stop = 1000
        time.pass_by(1.5)
        await receiving

    assert 1000 == ingest.held.total
    await store.abort(ingest, IngestAborted("the end"))


async def test_a_registry_s_own_limit(place: Place, rates: Rates, time: Timed) -> None:
    """A registry's limit holds for its blobs, where the node has none."""
    rates.take_over(0, 0, {place.upstream.name: LIMIT, "other.io": 1})
    await place.fetch(HUGE, size=len(HUGE)).landed()

    assert time.now >= (len(HUGE) - LEAST_BURST - LARGEST_GRAIN) / LIMIT


class TestStanding:
    """Time passes only while the small blob waits for its turn."""

    @pytest.fixture
    def time(self) -> Standing:
        return Standing()

    @pytest.mark.parametrize("by_pieces", [False, True])
    async def test_a_small_blob_passes_a_huge_one(
        self, place: Place, rates: Rates, time: Standing, by_pieces: bool
    ) -> None:
        """Who pulls a small image waits for its bytes, not for the huge image's of another."""
        if by_pieces:
            place.upstream.change("GET .*/blobs/", without_length)
        huge = place.fetch(HUGE, size=len(HUGE))
        await until(lambda: huge.want.digest in waiting(rates))
        small = place.fetch(SMALL, size=len(SMALL))
        landing = asyncio.create_task(small.landed())
        while not landing.done():
            if small.want.digest in waiting(rates):
                time.pass_by(0.005)
            await asyncio.sleep(0)
        await landing

        assert time.now * LIMIT <= (PIECE if by_pieces else 0) + 4 * len(SMALL) + LEAST_BURST
        rates.down.change(0)
        await huge.landed()  # though no time passes any more


def waiting(rates: Rates) -> set[object]:
    """The blobs that wait for the node's limit."""
    return {ask.key for _, _, ask in rates.down._bucket._line if ask.open}
