"""Who has the connections to a registry: large blobs share them, small ones find one."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Digest
from cache.store import BlobStore
from registryd.config import TransferConfig
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.transfer.flight import Flight, Flights
from registryd.transfer.intake import Want
from registryd.transfer.lanes import SMALL, Lanes, Road, lanes_of
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.transfer.test_paced import without_length

MIB = 1 << 20


@pytest.mark.parametrize(("connections", "lanes"), [(1, 1), (2, 1), (4, 3), (16, 12), (100, 75)])
def test_a_quarter_is_kept(connections: int, lanes: int) -> None:
    """One connection at least is for small things, unless there is no other."""
    assert lanes == lanes_of(connections)


@dataclass
class Street:
    """A road with those who drive on it: each until it is told to end."""

    road: Road
    order: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    #: The same by the place of the drive among all.
    places: list[int] = field(default_factory=list)
    ends: dict[str, list[asyncio.Event]] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def drive(self, blob: str, *, new: bool = False) -> asyncio.Task[None]:
        """Take a lane, or wait for one."""
        place = len(self.tasks)
        self.tasks.append(asyncio.create_task(self._drive(blob, new, place)))
        await asyncio.sleep(0)
        return self.tasks[-1]

    async def _drive(self, blob: str, new: bool, place: int) -> None:
        def shorten() -> None:
            self.cut.append(blob)
            self.places.append(place)

        async with self.road.lane(blob, shorten, new=new):
            end = asyncio.Event()
            self.order.append(blob)
            self.ends.setdefault(blob, []).append(end)
            await end.wait()

    async def end(self, blob: str) -> None:
        """Let the first of a blob's lanes end."""
        self.ends[blob].pop(0).set()
        for _ in range(3):
            await asyncio.sleep(0)


@asynccontextmanager
async def street(count: int) -> AsyncIterator[Street]:
    opened = Street(Road(count))
    try:
        yield opened
    finally:
        for task in opened.tasks:
            task.cancel()
        await asyncio.gather(*opened.tasks, return_exceptions=True)


async def test_a_free_lane_goes_to_who_has_the_fewest() -> None:
    """And among those that have as many to the one that waits longest."""
    async with street(3) as road:
        for blob in ("a", "a", "b", "a", "b", "c", "d"):
            await road.drive(blob)
        await road.end("a")
        await road.end("c")

        assert ["a", "a", "b", "c", "d"] == road.order


async def test_what_is_new_comes_first_among_equals() -> None:
    """A blob of which nothing is here goes before one that has had a lane already."""
    async with street(1) as road:
        await road.drive("a")
        await road.drive("b")
        await road.drive("c", new=True)
        await road.end("a")

        assert ["a", "c"] == road.order


async def test_who_has_too_many_gives_one_up() -> None:
    """The youngest lane of the blob with the most, one for each that waits and has less."""
    async with street(4) as road:
        for blob in ("b", "a", "a", "a", "a"):
            await road.drive(blob)
        assert [] == road.cut  # not for a fourth of its own
        for blob in ("c", "c", "c", "d", "e"):
            await road.drive(blob)

        assert ["a", "a"] == road.cut  # for c and d: then all have one, and e waits
        assert [3, 2] == road.places


async def test_who_has_as_many_is_left_alone() -> None:
    """A blob that was here before is not cut short for one that was here too."""
    async with street(2) as road:
        for blob in ("a", "b", "c", "d"):
            await road.drive(blob)

        assert [] == road.cut


async def test_one_cut_is_enough() -> None:
    """A lane that ends soon for one who has left is there for the next who comes."""
    async with street(2) as road:
        for blob in ("a", "b"):
            await road.drive(blob)
        leaving = await road.drive("c", new=True)
        leaving.cancel()
        await asyncio.wait([leaving])
        await road.drive("d", new=True)

        assert ["a"] == road.cut


async def test_the_oldest_makes_room_for_a_new_one() -> None:
    """Where each has one lane, a new blob does not wait for a whole stretch of theirs."""
    async with street(2) as road:
        for blob in ("a", "b", "c"):
            await road.drive(blob)
        await road.drive("d", new=True)
        await road.drive("d", new=True)
        assert ["a"] == road.cut  # by d's second lane nobody is cut who has no more
        await road.end("a")

        assert ["a", "b", "d"] == road.order


@pytest.mark.parametrize("granted", [False, True])
async def test_who_leaves_keeps_no_lane(granted: bool) -> None:
    """Cancelled in the line, or in the moment of its turn: the next one has it."""
    async with street(1) as road:
        await road.drive("a")
        leaving = await road.drive("b")
        await road.drive("c")
        if granted:
            road.ends["a"].pop(0).set()
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        if not granted:
            await road.end("a")
        await asyncio.sleep(0)

        assert "c" == road.order[-1]
        await road.end("c")
        assert road.road.idle


@given(st.data())
async def test_all_come_through_and_never_too_many(data: st.DataObject) -> None:
    """Whoever asks gets a lane in the end, and no more than there are have one at a time."""
    count = data.draw(st.integers(1, 4))
    asks = data.draw(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=20))
    road, on_it, passed = Road(count), 0, Counter[str]()

    async def drive(blob: str, new: bool) -> None:
        nonlocal on_it
        async with road.lane(blob, lambda: None, new=new):
            on_it += 1
            assert on_it <= count
            await asyncio.sleep(0)
            on_it -= 1
        passed[blob] += 1

    async with asyncio.TaskGroup() as group:
        for blob, new in asks:
            group.create_task(drive(blob, new))

    assert Counter(blob for blob, _ in asks) == passed
    assert road.idle


async def test_small_blobs_need_none() -> None:
    """What is small is not counted, whatever large ones have; a size nobody knows is large."""
    lanes = Lanes(lambda _: 1)
    async with lanes.lane("a.io", "a", None, lambda: None, new=True):
        async with lanes.lane("a.io", "b", SMALL, lambda: None, new=True):
            pass
        async with lanes.lane("b.io", "b", SMALL + 1, lambda: None, new=True):
            pass
        waiting = asyncio.create_task(enter(lanes))
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting

    assert {} == lanes._roads


async def enter(lanes: Lanes) -> None:
    async with lanes.lane("a.io", "c", SMALL + 1, lambda: None, new=True):
        pass


# fetching


HUGE = [random.Random(seed).randbytes(8 * MIB) for seed in range(3)]
STEP = TransferConfig(range_size=4 * MIB, ranges=4)


async def test_a_small_image_passes_huge_ones(
    upstream: FakeRegistry, store: BlobStore, remote: RegistryClient, app: Reference
) -> None:
    """While all that large blobs may have is stuck, manifests and small blobs still come."""
    gate = asyncio.Event()
    upstream.stall("GET .*/blobs/", gate, 1000, times=None)
    lanes = Lanes(lambda _: 4)
    async with Flights.open(store, STEP, lanes=lanes) as flights:
        huge = [fetch(flights, upstream, remote, app, content) for content in HUGE * 2]
        more = [b"x" * MIB + bytes([number]) for number in range(20)]
        huge += [fetch(flights, upstream, remote, app, content) for content in more]
        await until(lambda: len(upstream.asked("GET .*/blobs/")) == 3)
        for _ in range(100):
            await asyncio.sleep(0)
        assert 3 == len(upstream.asked("GET .*/blobs/"))
        upstream.faults.clear()
        await fetch(flights, upstream, remote, app, b"small").landed()
        gate.set()
        for flight in huge:
            await flight.landed()


async def test_a_stretch_that_is_cut_short_loses_nothing(
    upstream: FakeRegistry, store: BlobStore, remote: RegistryClient, app: Reference
) -> None:
    """A large blob that makes room for a new one goes on where it was cut, and is whole."""
    gate = asyncio.Event()
    upstream.change("GET .*/blobs/", without_length)
    upstream.stall("GET .*/blobs/", gate, MIB + MIB // 2, times=1)
    lanes = Lanes(lambda _: 1)
    async with Flights.open(store, STEP, lanes=lanes) as flights:
        first = fetch(flights, upstream, remote, app, HUGE[0])
        await until(lambda: first.received == MIB + MIB // 2)
        second = fetch(flights, upstream, remote, app, HUGE[1])
        await until(lambda: lanes._roads[upstream.name]._line)
        gate.set()
        await second.landed()
        await first.landed()

    asked = upstream.asked("GET .*/blobs/")
    assert [str(each.want.digest) for each in (first, second, first)] == [
        seen.path.rpartition("/")[2] for seen in asked[:3]
    ]
    assert [None, None] == [seen.headers.get("Range") for seen in asked[:2]]
    begun = int(asked[2].headers["Range"].removeprefix("bytes=").partition("-")[0])
    assert MIB <= begun < 3 * MIB  # the end of the chunk that was coming, and the piece it was in


def fetch(
    flights: Flights, upstream: FakeRegistry, remote: RegistryClient, app: Reference, content: bytes
) -> Flight:
    digest = Digest.parse(upstream.add_blob("team/app", content))
    return flights.join(Want(remote, app, digest, len(content)))
