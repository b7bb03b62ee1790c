"""When a transfer that broke goes on, and which connection is too slow to wait for."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Digest
from cache.store import BlobStore
from registryd.config import TransferConfig
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.rates import Rates
from registryd.remote.client import RegistryClient
from registryd.transfer.intake import Intake, Want
from registryd.transfer.patience import PAUSES, LowSpeed, Patience
from tests.fakes.http import Reply
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until

BLOBS = "GET .*/blobs/"
BROKEN = TransportError("host broke off")


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 9))
def test_tries_are_counted_only_while_nothing_comes(breaks: list[bool], attempts: int) -> None:
    """It is given up at so many breaks in a row, the first after progress among them."""
    patience, row = Patience(attempts), 0
    for progress in breaks:
        row = 1 if progress else row + 1
        if row >= attempts:
            with pytest.raises(TransportError, match="broke off"):
                patience.broke(BROKEN, progress=progress)
            return
        patience.broke(BROKEN, progress=progress)


async def test_the_waits_grow_while_nothing_comes() -> None:
    """At once after progress, then ever longer; and the longest again and again."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    patience = Patience(100, sleep)
    for progress in (True, False, False, False, False, True):
        patience.broke(BROKEN, progress=progress)
        await patience.pause()

    assert [*PAUSES, PAUSES[-1], PAUSES[0]] == slept


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([(1000, 1.0)] * 100, ""),
        ([(999, 1.0)] * 30, "far sent only 29970 bytes in 30 seconds"),
        ([(999, 1.0)] * 29, ""),
        ([(10_000_000, 1.0), *[(1, 7.0)] * 10], "far sent only 5 bytes in 35"),
        ([(0, 10.0), (0, 10.0), (30_000, 10.0)], ""),
        ([(1, 0.0)] * 1000, ""),  # it is we who take little at a time
    ],
)
def test_a_trickle_is_too_slow(pieces: list[tuple[int, float]], said: str) -> None:
    """By what came in the time that we waited for it; a fast beginning excuses one window."""
    low_speed, error = LowSpeed(1000, 30.0), ""
    for count, waited in pieces:
        try:
            low_speed.check(count, waited, "far")
        except TransportError as raised:
            error = str(raised)
            break

    assert error.startswith(said)
    assert bool(error) == bool(said)


def test_no_limit_of_speed() -> None:
    """0 lets everything pass."""
    LowSpeed(0, 1.0).check(0, 1000.0, "far")


class Trickling:
    """A blob that comes in two parts: the second one when ``gate`` is opened."""

    def __init__(self, upstream: FakeRegistry, *, chunked: bool) -> None:
        self.content = random.Random(3).randbytes(300_000)
        self.digest = Digest.parse(upstream.add_blob("team/app", self.content))
        self.gate = asyncio.Event()
        self._chunked = chunked
        upstream.change(BLOBS, self._hold, times=1)

    def _hold(self, answer: Reply) -> None:
        answer.gate, answer.gate_at = self.gate, 100_000
        answer.length = -1 if self._chunked else None


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_connection_that_trickles_is_dropped_and_another_goes_on(
    upstream: FakeRegistry, store: BlobStore, remote: RegistryClient, app: Reference, chunked: bool
) -> None:
    """By lines and by pieces: the next request begins at the byte reached."""
    blob = Trickling(upstream, chunked=chunked)
    settings = TransferConfig(low_speed=1 << 40, low_speed_time=0.2, attempts=2)
    ingest = await store.ingest(blob.digest)
    intake = Intake(Want(remote, app, blob.digest), ingest, settings)
    running = asyncio.create_task(intake.run())
    await until(lambda: intake.received == 100_000)
    clock = asyncio.get_running_loop().time
    late = clock() + 1.0  # five windows: the first byte of the next step is too late
    await until(lambda: clock() > late)
    blob.gate.set()
    await running
    await store.commit(ingest)
    asked = [seen.headers.get("Range", "") for seen in upstream.asked(BLOBS)]

    assert 2 == len(asked)
    assert int(asked[1].removeprefix("bytes=").rstrip("-")) >= 100_000


async def test_who_is_paced_by_us_is_not_too_slow(
    upstream: FakeRegistry, store: BlobStore, remote: RegistryClient, app: Reference
) -> None:
    """A limit of our own holds the connection back for longer than the window: it is kept."""
    content = random.Random(4).randbytes(600_000)
    digest = Digest.parse(upstream.add_blob("team/app", content))
    settings = TransferConfig(low_speed=300_000, low_speed_time=1.0, attempts=1)
    ingest = await store.ingest(digest)
    want = Want(remote, app, digest)
    await Intake(want, ingest, settings, rates=Rates(down=250_000)).run()
    await store.commit(ingest)

    assert 1 == len(upstream.asked(BLOBS))
