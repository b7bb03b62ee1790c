"""How the bytes of one blob come in, over real HTTP from a registry that misbehaves."""

import asyncio
import random

import pytest

from cache.content import Digest
from cache.errors import SizeMismatch
from cache.ingest import Ingest
from cache.store import BlobStore
from registryd.config import TransferConfig
from registryd.oci.errors import BlobUnknown
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.remote.client import RegistryClient
from registryd.transfer.growth import FAST_ENOUGH, MOMENT, SAMPLE, Widths
from registryd.transfer.intake import Intake, Want
from tests.fakes.http import Reply
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.transfer.conftest import SETTINGS

BLOBS = "GET .*/blobs/"
KIB, MIB = 1 << 10, 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that differ from place to place."""
    return random.Random(seed).randbytes(size)


class Setting:
    """One blob upstream, and what fetches it."""

    def __init__(
        self, upstream: FakeRegistry, store: BlobStore, remote: RegistryClient, app: Reference
    ) -> None:
        self.upstream, self.store, self.remote, self.app = upstream, store, remote, app
        self.content = b""
        self.digest = Digest.of(b"")

    def offer(self, content: bytes) -> None:
        """Put the blob there."""
        self.content = content
        self.digest = Digest.parse(self.upstream.add_blob("team/app", content))

    async def begin(self, size: int | None = None) -> Ingest:
        """What takes the bytes."""
        return await self.store.ingest(self.digest, size=size)

    def intake(self, ingest: Ingest, settings: TransferConfig = SETTINGS) -> Intake:
        return Intake(Want(self.remote, self.app, self.digest), ingest, settings)

    async def fetch(self, size: int | None = None, settings: TransferConfig = SETTINGS) -> Intake:
        """Fetch and commit."""
        ingest = await self.begin(size)
        intake = self.intake(ingest, settings)
        try:
            async with asyncio.timeout(30):
                await intake.run()
            await self.store.commit(ingest)
        except BaseException as error:
            await self.store.abort(ingest, error)
            raise
        return intake

    @property
    def ranges(self) -> list[str]:
        """The Range of each request ("" for none)."""
        return [seen.headers.get("Range", "") for seen in self.upstream.asked(BLOBS)]

    @property
    def sent(self) -> int:
        """Bytes of the blob that the registry sent, by its own count."""
        return self.upstream.sent[str(self.digest)]


@pytest.fixture
def setting(
    upstream: FakeRegistry, store: BlobStore, remote: RegistryClient, app: Reference
) -> Setting:
    return Setting(upstream, store, remote, app)


def ignore_ranges(setting: Setting, pattern: str = BLOBS) -> None:
    """Let the registry send everything whatever is asked."""

    def change(answer: Reply) -> None:
        answer.status, answer.body = 200, setting.content
        answer.headers.popall("Content-Range", None)

    setting.upstream.change(pattern, change)


async def test_a_small_blob_is_one_request_without_range(setting: Setting) -> None:
    """A blob of up to two steps is asked for whole, and comes with one request."""
    setting.offer(noise(100 * KIB))
    intake = await setting.fetch(size=100 * KIB)

    assert ([""], 100 * KIB, setting.upstream.name) == (
        setting.ranges,
        intake.received,
        intake.source,
    )


async def test_a_break_is_resumed_at_the_byte_reached(setting: Setting) -> None:
    """After a break the next request begins at the byte reached: nothing is sent twice."""
    setting.offer(noise(300 * KIB))
    setting.upstream.cut(BLOBS, at=100_001)
    await setting.fetch()

    assert (["", "bytes=100001-"], 300 * KIB) == (setting.ranges, setting.sent)


async def test_a_large_blob_comes_in_steps(setting: Setting) -> None:
    """Beyond two steps bounded ranges are asked for, each byte once."""
    setting.offer(noise(150 * KIB))
    await setting.fetch(size=150 * KIB)

    assert ["bytes=0-65535", "bytes=65536-131071", "bytes=131072-153599"] == setting.ranges
    assert setting.sent == 150 * KIB


async def test_what_another_process_left_is_not_asked_for(setting: Setting) -> None:
    """What is in the ingest already is not asked for: the request begins after it."""
    setting.offer(noise(100 * KIB))
    ingest = await setting.begin()
    await ingest.write(0, [setting.content[:70_000]])
    await setting.intake(ingest).run()
    await setting.store.commit(ingest)

    assert (["bytes=70000-"], 100 * KIB - 70_000) == (setting.ranges, setting.sent)


async def test_a_source_that_ignores_ranges_is_followed_from_its_start(setting: Setting) -> None:
    """Where a Range is answered by everything, that one connection brings the blob."""
    setting.offer(noise(100 * KIB))
    setting.upstream.cut(BLOBS, at=30_000)
    ignore_ranges(setting)
    await setting.fetch()

    assert ["", "bytes=30000-"] == setting.ranges


async def test_a_source_that_ignores_ranges_is_asked_once(setting: Setting) -> None:
    """A large blob whose first step is answered by everything is not asked for again."""
    setting.offer(noise(300 * KIB))
    ignore_ranges(setting)
    await setting.fetch(size=300 * KIB)

    assert (["bytes=0-65535"], 300 * KIB) == (setting.ranges, setting.sent)


async def shown_to_be_slow(setting: Setting, gate: asyncio.Event) -> None:
    """The first request, which stops after a sample, goes on when that is slow."""
    await until(lambda: setting.sent == SAMPLE)
    clock = asyncio.get_running_loop().time
    slow = clock() + MOMENT + SAMPLE / FAST_ENOUGH
    await until(lambda: clock() > slow)
    gate.set()


async def test_a_slow_source_gets_another_connection(setting: Setting) -> None:
    """When one connection has shown that it is slow, two work side by side, on different bytes of
    one file."""
    step = SAMPLE + MIB
    settings = TransferConfig(attempts=2, ranges=4, range_size=step, stall_timeout=20)
    setting.offer(noise(4 * step))
    first, others = asyncio.Event(), asyncio.Event()
    setting.upstream.stall(BLOBS + ".*", first, at=SAMPLE)
    fetching = asyncio.create_task(setting.fetch(4 * step, settings))
    await until(lambda: setting.sent == SAMPLE)
    setting.upstream.stall(BLOBS, others, times=None)
    await shown_to_be_slow(setting, first)
    await until(lambda: setting.sent == step and len(setting.ranges) == 3)
    asked = setting.ranges[1:]
    others.set()
    await fetching

    assert {f"bytes={n * step}-{(n + 1) * step - 1}" for n in (1, 2)} == set(asked)
    assert setting.sent == 4 * step


def remembered(setting: Setting, count: int) -> Widths:
    """What an earlier blob has taught of the registry."""
    widths = Widths()
    now = asyncio.get_running_loop().time()
    widths.of(setting.upstream.name).helped(count, now)
    return widths


@pytest.mark.parametrize("ignored", [False, True])
async def test_a_whole_blob_that_comes_slowly_is_halved(setting: Setting, ignored: bool) -> None:
    """What was asked for in one request gets a second connection for the second half. Where that
    brings everything, it is dropped, and the first goes on: what came is not thrown away."""
    settings = TransferConfig(ranges=2, range_size=16 * MIB, stall_timeout=20)
    setting.offer(noise(24 * MIB))
    gate, never = asyncio.Event(), asyncio.Event()

    def stop(answer: Reply) -> None:
        half = "Content-Range" in answer.headers
        answer.gate, answer.gate_at = gate, MIB
        if ignored and half:
            answer.gate, answer.gate_at, answer.body = never, 0, setting.content
            answer.status = 200

    setting.upstream.change(BLOBS, stop)
    ingest = await setting.begin(24 * MIB)
    want = Want(setting.remote, setting.app, setting.digest)
    intake = Intake(want, ingest, settings)
    running = asyncio.create_task(intake.run())
    await until(lambda: intake.received == MIB)
    intake._growth.count = 2  # as when a sample has come slowly
    intake._news.set()
    await until(lambda: len(setting.ranges) == 2)
    await until(lambda: len(intake._ordinary) == 1 if ignored else setting.sent == 2 * MIB)
    gate.set()
    await running
    await setting.store.commit(ingest)

    assert ["", f"bytes={12 * MIB}-{24 * MIB - 1}"] == setting.ranges  # on a chunk's bound
    assert intake.received == 24 * MIB


@pytest.mark.parametrize(("ignored", "requests"), [(False, 4), (True, 1)])
async def test_what_helped_is_remembered_and_the_first_range_is_the_probe(
    setting: Setting, ignored: bool, requests: int
) -> None:
    """Several connections from the start, once a range has come as it was asked for; where the
    whole comes instead, that one connection is kept, and there is no other."""
    setting.offer(noise(6 * 64 * KIB))
    if ignored:
        ignore_ranges(setting)
    gate = asyncio.Event()
    setting.upstream.stall(BLOBS, gate, at=60 * KIB, times=None)
    ingest = await setting.begin(6 * 64 * KIB)
    want = Want(setting.remote, setting.app, setting.digest)
    intake = Intake(want, ingest, SETTINGS, widths=remembered(setting, 4))
    running = asyncio.create_task(intake.run())
    await until(lambda: setting.sent == requests * 60 * KIB)
    at_once = len(setting.ranges)
    gate.set()
    await running
    await setting.store.commit(ingest)

    assert (requests, 6 * 64 * KIB) == (at_once, setting.sent)


async def test_a_host_that_refuses_more_connections_gets_fewer(setting: Setting) -> None:
    """Connections beside the first that bring nothing are given up, and cost no try."""
    setting.offer(noise(8 * 64 * KIB))
    gate, refusing = asyncio.Event(), True

    def refuse(answer: Reply) -> None:
        if refusing and not answer.headers["Content-Range"].startswith("bytes 0-"):
            answer.cut = 0

    setting.upstream.change(BLOBS, refuse)
    setting.upstream.stall(BLOBS, gate, at=60 * KIB)
    ingest = await setting.begin(8 * 64 * KIB)
    want = Want(setting.remote, setting.app, setting.digest)
    widths = remembered(setting, 4)
    now = asyncio.get_running_loop().time()
    running = asyncio.create_task(Intake(want, ingest, SETTINGS, widths=widths).run())
    await until(lambda: widths.of(setting.upstream.name).start(now) == 1)
    refusing = False
    gate.set()
    await running
    await setting.store.commit(ingest)

    assert setting.sent == 8 * 64 * KIB


async def test_a_source_that_does_not_say_the_size(setting: Setting) -> None:
    """A body without Content-Length is taken to its end, and resumed after a break."""
    setting.offer(noise(200 * KIB))
    setting.upstream.announce(BLOBS, -1, times=None)
    setting.upstream.cut(BLOBS, at=60_000)
    await setting.fetch()

    assert (["", "bytes=60000-"], 200 * KIB) == (setting.ranges, setting.sent)


async def test_a_break_after_the_last_byte(setting: Setting) -> None:
    """A body of unknown size that breaks off after its last byte is whole: 416 says so."""
    setting.offer(noise(50_000))
    setting.upstream.announce(BLOBS, -1, times=1)
    setting.upstream.cut(BLOBS, at=50_000)
    await setting.fetch()

    assert (["", "bytes=50000-"], 50_000) == (setting.ranges, setting.sent)


@pytest.mark.parametrize(("size", "requests"), [(None, [""]), (0, [])])
async def test_a_blob_without_bytes(
    setting: Setting, size: int | None, requests: list[str]
) -> None:
    """An empty blob comes too, without a request where its size is known."""
    setting.offer(b"")
    await setting.fetch(size=size)

    assert (requests, 0) == (setting.ranges, setting.store.find(setting.digest).size)  # type: ignore[union-attr]


async def test_a_source_that_says_another_size(setting: Setting) -> None:
    """A source whose blob has another size than the manifest says is not read at all."""
    setting.offer(noise(50_000))

    with pytest.raises(SizeMismatch):
        await setting.fetch(size=50_001)
    assert setting.store.find(setting.digest) is None


async def test_it_gives_up_where_nothing_comes(setting: Setting) -> None:
    """After ``attempts`` failures without a byte the failure is passed on."""
    setting.offer(noise(50_000))
    setting.upstream.cut(BLOBS, at=0, times=None)

    with pytest.raises(TransportError):
        await setting.fetch()
    assert SETTINGS.attempts == len(setting.ranges)


async def test_it_goes_on_while_something_comes(setting: Setting) -> None:
    """Breaks are not counted while each try brings something, however many there are."""
    setting.offer(noise(100_000))
    setting.upstream.cut(BLOBS, at=10_000, times=None)
    await setting.fetch()

    assert (10, 100_000) == (len(setting.ranges), setting.sent)


async def test_a_refusal_is_passed_on(setting: Setting) -> None:
    """What the registry refuses is not tried again."""
    setting.offer(b"known")
    del setting.upstream.repositories["team/app"].blobs[str(setting.digest)]

    with pytest.raises(BlobUnknown):
        await setting.fetch()
    assert len(setting.ranges) == 1


async def test_what_came_before_a_cancellation_is_kept(setting: Setting) -> None:
    """A fetch that is cancelled has written all that it received."""
    setting.offer(noise(200 * KIB))
    gate = asyncio.Event()
    setting.upstream.stall(BLOBS, gate, at=100_000)
    ingest = await setting.begin()
    intake = setting.intake(ingest)
    running = asyncio.create_task(intake.run())
    await until(lambda: intake.received == 100_000)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    gate.set()
    await setting.store.abort(ingest, RuntimeError("the test is over"))

    assert ((0, 100_000),) == ingest.held.ranges


async def test_a_slow_stream_is_seen_at_once(setting: Setting) -> None:
    """Bytes are written when they pause, not only by the hop: those who read along see them."""
    setting.offer(noise(400 * KIB))
    gates = [asyncio.Event(), asyncio.Event()]
    setting.upstream.stall(BLOBS, gates[0], at=100_000)
    ingest = await setting.begin()
    running = asyncio.create_task(setting.intake(ingest).run())
    await until(lambda: ingest.held.total > 0)
    gates[0].set()
    await running
    await setting.store.commit(ingest)

    assert setting.store.find(setting.digest) is not None
