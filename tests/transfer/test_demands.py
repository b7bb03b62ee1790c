"""What is demanded of a blob comes before the rest of it, or without the rest."""

import asyncio
from contextlib import ExitStack

import pytest

from cache.store import BlobStore
from registryd.config import TransferConfig
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.transfer.intake import Intake, Want
from tests.fakes.http import Reply
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.transfer.conftest import SETTINGS
from tests.transfer.test_intake import BLOBS, MIB, Setting, ignore_ranges, noise


@pytest.fixture
def setting(
    upstream: FakeRegistry, store: BlobStore, remote: RegistryClient, app: Reference
) -> Setting:
    return Setting(upstream, store, remote, app)


def hold_large(answer: Reply) -> None:
    """Let an answer of several MiB stop after its first bytes."""
    if len(answer.body) > MIB:
        answer.gate, answer.gate_at = asyncio.Event(), 1000


@pytest.mark.parametrize("chunked", [False, True], ids=["line", "pieces"])
async def test_a_demand_is_fetched_at_once(setting: Setting, chunked: bool) -> None:
    """While the linear fetch stalls, what is demanded far ahead comes by a connection of its own;
    then the linear one stops where that began, and goes on behind it."""
    size, at = 6 * MIB, 4 * MIB + 5
    setting.offer(noise(size))
    gate = asyncio.Event()
    setting.upstream.stall(BLOBS, gate, at=10_000)
    if chunked:
        setting.upstream.announce(BLOBS, -1, times=None)
    settings = TransferConfig(attempts=2, ranges=4, range_size=8 * MIB, stall_timeout=20)
    ingest = await setting.begin(size)
    intake = setting.intake(ingest, settings)
    running = asyncio.create_task(intake.run())
    await until(lambda: ingest.held.total == 10_000)
    with intake.demand(at, at + 1000):
        await until(lambda: ingest.held.total == 11_000)
    gate.set()
    await running
    await setting.store.commit(ingest)
    rest = int(setting.ranges[2].removeprefix("bytes=").removesuffix(f"-{size - 1}"))

    assert ["", f"bytes={at}-{at + 999}"] == setting.ranges[:2]
    assert 3 == len(setting.ranges)
    # What was on the wire when it stopped counts too.
    assert at + 1000 <= rest <= at + 1000 + MIB


async def test_a_line_that_was_cut_leaves_the_demand_to_its_connection(setting: Setting) -> None:
    """The linear fetch goes round what another connection was given, however long that takes."""
    size, at = 6 * MIB, 4 * MIB + 5
    setting.offer(noise(size))
    gates = [asyncio.Event(), asyncio.Event()]
    setting.upstream.stall(BLOBS, gates[0], at=10_000)
    settings = TransferConfig(attempts=2, ranges=4, range_size=8 * MIB, stall_timeout=20)
    ingest = await setting.begin(size)
    intake = setting.intake(ingest, settings)
    running = asyncio.create_task(intake.run())
    await until(lambda: ingest.held.total == 10_000)
    setting.upstream.stall(BLOBS, gates[1])
    with intake.demand(at, at + 1000):
        await until(lambda: len(setting.ranges) == 2)
        gates[0].set()
        await until(lambda: ingest.held.total == size - 1000)
        missing = ingest.held.missing(0, size)
        gates[1].set()
        await running
    await setting.store.commit(ingest)

    assert [(at, at + 1000)] == missing


async def test_demands_have_connections_of_their_own(setting: Setting) -> None:
    """As many demands as ``ranges`` are fetched beside one another, the next when one is done;
    each is asked for once, and nothing else is, until nobody wants more."""
    setting.offer(noise(20 * MIB))
    gates = [asyncio.Event() for _ in range(5)]
    for gate in gates:
        setting.upstream.stall(BLOBS, gate)
    spans = [(n * 3 * MIB, n * 3 * MIB + 1000) for n in range(5)]
    ingest = await setting.begin(20 * MIB)
    intake = Intake(
        Want(setting.remote, setting.app, setting.digest), ingest, SETTINGS, whole=False
    )
    wanted = True
    running = asyncio.create_task(intake.run(lambda: wanted))
    with ExitStack() as demands:
        for span in spans:
            demands.enter_context(intake.demand(*span))
        await until(lambda: len(setting.ranges) == SETTINGS.ranges)
        for gate in gates:
            gate.set()
        await until(lambda: all(not ingest.held.missing(*span) for span in spans))
    wanted = False
    intake.rest()
    await running
    await setting.store.abort(ingest, RuntimeError("the test is over"))

    assert len(setting.ranges) == len(set(setting.ranges))
    assert ingest.held.total <= 5 * MIB


async def test_a_long_stretch_is_not_brought_to_its_end_for_nobody(setting: Setting) -> None:
    """What one reader left behind ends with the last one, though that one had all it wanted."""
    setting.offer(noise(20 * MIB))
    setting.upstream.change(BLOBS, hold_large, None)
    settings = TransferConfig(attempts=2, ranges=4, range_size=8 * MIB, stall_timeout=20)
    ingest = await setting.begin(20 * MIB)
    want = Want(setting.remote, setting.app, setting.digest)
    intake = Intake(want, ingest, settings, whole=False)
    running = asyncio.create_task(intake.run(lambda: False))
    with ExitStack() as first, intake.demand(15 * MIB, 15 * MIB + 1000):
        first.enter_context(intake.demand(0, 8 * MIB))
        await until(lambda: len(setting.ranges) == 2)
        await until(lambda: ingest.held.reach(15 * MIB) >= 15 * MIB + 1000)
        first.close()
    intake.rest()
    async with asyncio.timeout(10):
        await running
    await setting.store.abort(ingest, RuntimeError("the test is over"))

    assert ingest.held.total <= 2 * MIB


async def test_a_source_that_ignores_the_range_of_a_demand(setting: Setting) -> None:
    """It sends the whole, so the whole is taken, past what is here already."""
    setting.offer(noise(3 * MIB))
    ingest = await setting.begin(3 * MIB)
    await ingest.write(MIB, [setting.content[MIB : MIB + 5000]])
    ignore_ranges(setting)
    intake = Intake(
        Want(setting.remote, setting.app, setting.digest), ingest, SETTINGS, whole=False
    )
    with intake.demand(0, 10):
        async with asyncio.timeout(20):
            await intake.run()
    await setting.store.commit(ingest)

    assert intake.whole
    assert 2 >= len(setting.ranges)
