"""GET of blobs that the cache has no room for: past it, by the same rules as of any other."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from cache.bounds import Bounds
from cache.content import Descriptor, Digest
from cache.errors import DiskFull
from cache.ingest import HELD_BACK
from tests.cache.samples import parent
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.server.content import BLOBS, CONTENT, DIGEST, SIZE, fetch, sent
from tests.server.test_blobs import RANGES
from tests.server.wire import KIB, noise

HELD = noise(10 * KIB, seed=7)


@pytest.fixture
async def node(upstream: FakeRegistry, tmp_path) -> AsyncIterator[RunningNode]:
    """A node whose cache is full of what is pinned."""
    async with running_node(tmp_path, registries=plain(upstream)) as running:
        store, held = running.node.store, Digest.of(HELD)
        await store.put(HELD, Descriptor("application/x", held, len(HELD)))
        await store.pins.add(held, name="all of it", ttl=None)
        store.room.bound(Bounds(len(HELD)))
        yield running


@pytest.mark.parametrize(("wanted", "status", "span"), RANGES)
async def test_ranges(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str,
    wanted: str | None, status: int, span: tuple[int, int] | None,
) -> None:  # fmt: skip
    """A range is answered as if there were room; nothing is kept. A bounded part costs upstream
    no more than that part and what was under way; HEAD is answered too."""
    async with stranger.get(path, headers={"Range": wanted} if wanted else {}) as answer:
        body, headers = await answer.read(), answer.headers
    async with stranger.head(path) as asked:
        head = asked.status, asked.headers["Content-Length"]

    assert (status, (200, str(SIZE))) == (answer.status, head)
    assert ([], None) == (list(node.root.glob("ingest/*")), node.node.store.find(DIGEST))
    if span is None:
        assert f"bytes */{SIZE}" == headers["Content-Range"]
        return
    assert CONTENT[slice(*span)] == body
    assert (str(DIGEST), str(len(body))) == (
        headers["Docker-Content-Digest"], headers["Content-Length"],
    )  # fmt: skip
    expected = f"bytes {span[0]}-{span[1] - 1}/{SIZE}" if status == 206 else None
    assert expected == headers.get("Content-Range")


async def test_a_wrong_blob_is_never_given_whole(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """The end of what is wrong is held back, and the connection is cut; also from a byte on."""
    upstream.spoil(BLOBS, at=10, times=None)
    given = []
    for start in (0, SIZE // 2):
        async with stranger.get(path, headers={"Range": f"bytes={start}-"}) as answer:
            given.append(start)
            with pytest.raises(aiohttp.ClientError):
                async for piece in answer.content.iter_any():
                    given[-1] += len(piece)

    assert max(given) <= SIZE - HELD_BACK


@pytest.mark.parametrize("wrong", [False, True])
async def test_what_was_given_before_is_proven_too(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str,
    wrong: bool,
) -> None:  # fmt: skip
    """Where the room ends in the middle, what was given out of the cache has to be what comes past
    it: else the connection is cut."""
    node.node.store.room.bound(Bounds())
    gate = asyncio.Event()
    if wrong:
        upstream.spoil(BLOBS, at=10)
    upstream.stall(BLOBS, gate, at=300 * KIB)
    async with stranger.get(path) as answer:
        got = await answer.content.readexactly(200 * KIB)
        (ingest,) = node.node.store.arriving()
        await node.node.store.abort(ingest, DiskFull("no room"), discard=True)
        gate.set()
        if wrong:
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        else:
            assert CONTENT == got + await answer.read()


async def test_each_client_has_its_own_stream(
    node: RunningNode, stranger: aiohttp.ClientSession, owner: aiohttp.ClientSession,
    upstream: FakeRegistry, path: str,
) -> None:  # fmt: skip
    """Nobody waits for a slower one; a registry that breaks off is gone on with at that byte; it
    is counted, and the log says so once."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=100 * KIB)
    slow = asyncio.create_task(fetch(stranger, path))
    await until(lambda: sent(upstream) == 100 * KIB)
    quick = await fetch(owner, path)
    waiting = not slow.done()
    gate.set()

    assert (True, (200, CONTENT), (200, CONTENT)) == (waiting, quick, await slow)
    assert {"blobs": 2, "bytes": 2 * SIZE} == dict(node.node.counts.streamed)
    assert 2 * SIZE == sum(node.node.flights.fetched().values())


async def test_manifests_and_private_blobs(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry
) -> None:
    """A manifest that there is no room for is given, by tag and by digest, and named nowhere; a
    blob that its registry does not give has its status."""
    digest = upstream.add_image("team/app", "1", b"layer" * KIB)
    seen = [
        await fetch(stranger, f"/v2/{upstream.name}/team/app/manifests/{target}")
        for target in ("1", digest, "1")
    ]
    status, _ = await fetch(stranger, f"/v2/{upstream.name}/other/blobs/{DIGEST}")

    assert {200} == {status for status, _ in seen}
    assert {digest} == {str(Digest.of(body)) for _, body in seen}
    assert [] == await node.node.store.names()
    assert 401 == status  # who has shown nothing is asked who they are


async def test_a_manifest_that_says_too_little(
    node: RunningNode, stranger: aiohttp.ClientSession, path: str
) -> None:
    """Anybody's manifest may say any size of a blob: what its registry says decides whether there
    is room, before the first byte comes."""
    small = Descriptor("application/x", DIGEST, 10)
    content, root, links = parent(small)
    node.node.store.room.bound(Bounds(len(HELD) + 2 * KIB))
    await node.node.store.put(content, root, links=links)

    assert (200, CONTENT) == await fetch(stranger, path)
    assert {"blobs": 1, "bytes": SIZE} == dict(node.node.counts.streamed)


@pytest.mark.parametrize("size", [500 * KIB, 1100 * KIB])
async def test_slow_readers_leave_connections_for_others(
    upstream: FakeRegistry, tmp_path, size: int
) -> None:
    """However many take their time with what passes, a blob that is kept comes meanwhile."""
    passing, kept = noise(size, seed=1), noise(1100 * KIB, seed=2)
    first, second = (upstream.add_blob("team/app", each) for each in (passing, kept))
    gate = asyncio.Event()
    upstream.stall(f"GET .*/{first}", gate, at=100 * KIB, times=None)
    place = f"/v2/{upstream.name}/team/app/blobs"
    registries = plain(upstream, max_connections=4)
    async with running_node(tmp_path, registries=registries) as node, node.stranger() as client:
        room = node.node.store.room
        room.bound(Bounds(KIB))
        slow = [asyncio.create_task(fetch(client, f"{place}/{first}")) for _ in range(5)]
        await until(lambda: node.node.counts.streamed["blobs"] == 5)
        room.bound(Bounds())
        async with asyncio.timeout(5):
            quick = await fetch(client, f"{place}/{second}")
        waiting = [each.done() for each in slow]
        gate.set()

        assert ((200, kept), [False] * 5) == (quick, waiting)
        assert [(200, passing)] * 5 == await asyncio.gather(*slow)
