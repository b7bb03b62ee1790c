"""GET and HEAD of blobs: held, and on their way; whole, in part, and never wrong."""

import asyncio

import aiohttp
import pytest

from cache.content import Digest
from cache.ingest import HELD_BACK
from tests.fakes.node import RunningNode
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.server.content import BLOBS, CONTENT, DIGEST, SIZE, arrived, fetch, sent
from tests.server.wire import KIB, Wire, connected, noise

# one table of ranges for both kinds of blobs

RANGES = [
    (None, 200, (0, SIZE)),
    ("bytes=0-99", 206, (0, 100)),
    ("bytes=500-", 206, (500, SIZE)),
    ("bytes=-500", 206, (SIZE - 500, SIZE)),
    ("bytes=0-", 206, (0, SIZE)),
    (f"bytes={SIZE - 1}-", 206, (SIZE - 1, SIZE)),
    (f"bytes=2000-{SIZE + 999}", 206, (2000, SIZE)),
    (f"bytes=-{SIZE + 5}", 206, (0, SIZE)),
    (f"bytes={SIZE}-", 416, None),
    (f"bytes={SIZE + 10}-{SIZE + 20}", 416, None),
    ("bytes=500-0", 416, None),
    ("bytes=0-99,200-299", 200, (0, SIZE)),
    ("lines=0-99", 200, (0, SIZE)),
    ("bytes=a-b", 200, (0, SIZE)),
    ("bytes=", 200, (0, SIZE)),
]


@pytest.mark.parametrize("held", [True, False], ids=["held", "arriving"])
@pytest.mark.parametrize(("wanted", "status", "span"), RANGES)
async def test_ranges(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str, held: bool,
    wanted: str | None, status: int, span: tuple[int, int] | None,
) -> None:  # fmt: skip
    """A range is answered in the same way whether the blob is held or on its way."""
    gate = asyncio.Event()
    if held:
        await fetch(stranger, path)
    else:
        # The size is known and the first half is here; the rest comes when somebody waits for it.
        upstream.stall(BLOBS, gate, at=SIZE // 2)
        follower = asyncio.create_task(fetch(stranger, path))
        await until(lambda: sent(upstream) == SIZE // 2)
        asyncio.get_running_loop().call_later(0.02, gate.set)
    async with stranger.get(path, headers={"Range": wanted} if wanted else {}) as answer:
        body, headers = await answer.read(), answer.headers
    gate.set()
    if not held:
        await follower

    assert status == answer.status
    if span is None:
        assert headers["Content-Range"] == f"bytes */{SIZE}"
    else:
        assert CONTENT[slice(*span)] == body
        assert headers["Content-Length"] == str(len(body))
        assert headers["Docker-Content-Digest"] == str(DIGEST)
        assert "Content-Encoding" not in headers
    expected = f"bytes {span[0]}-{span[1] - 1}/{SIZE}" if status == 206 and span else None
    assert headers.get("Content-Range") == (expected or (f"bytes */{SIZE}" if not span else None))
    assert len(upstream.lines(BLOBS)) == 1


async def test_a_range_that_is_not_there_is_refused_at_once(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """416 does not wait for the blob."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=100 * KIB)
    status, _ = await fetch(stranger, path, Range=f"bytes={SIZE}-")
    waiting = not gate.is_set()
    gate.set()

    assert (416, True) == (status, waiting)


@pytest.mark.parametrize("encoding", ["gzip", "zstd;q=1.0, gzip;q=0.8"])
async def test_blobs_are_never_encoded(
    stranger: aiohttp.ClientSession, path: str, encoding: str
) -> None:
    """Whatever a client accepts, it gets the bytes themselves."""
    for _ in range(2):
        async with stranger.get(path, headers={"Accept-Encoding": encoding}) as answer:
            assert ("Content-Encoding" in answer.headers, CONTENT) == (False, await answer.read())


async def test_head_of_a_blob(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """HEAD says the size without fetching, the same before and after; a Range is not for it."""
    seen = []
    for _ in range(2):
        async with stranger.head(path, headers={"Range": "bytes=0-9"}) as answer:
            seen.append((answer.status, answer.headers["Content-Length"],
                         answer.headers["Docker-Content-Digest"]))  # fmt: skip
        assert len(upstream.lines(BLOBS)) == len(seen) - 1
        await fetch(stranger, path)

    assert [(200, str(SIZE), str(DIGEST))] * 2 == seen


async def test_a_blob_without_bytes(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry
) -> None:
    """The empty blob is served like any other."""
    digest = upstream.add_blob("team/app", b"")
    path = f"/v2/{upstream.name}/team/app/blobs/{digest}"

    for wanted in ({}, {"Range": "bytes=0-"}):
        assert (200, b"") == await fetch(stranger, path, **wanted)


async def test_many_clients_one_fetch(
    node: RunningNode, owner: aiohttp.ClientSession, stranger: aiohttp.ClientSession,
    upstream: FakeRegistry, path: str,
) -> None:  # fmt: skip
    """32 clients over both sockets get every byte, and upstream sends it once."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=300 * KIB)
    clients = [owner if n % 2 else stranger for n in range(32)]
    fetching = [asyncio.create_task(fetch(client, path)) for client in clients]
    await until(lambda: node.node.flights.under_way() and sent(upstream) == 300 * KIB)
    gate.set()

    assert [(200, CONTENT)] * 32 == await asyncio.gather(*fetching)
    assert (1, SIZE) == (len(upstream.lines(BLOBS)), sent(upstream))


# the tail is held back


async def test_the_tail_waits_for_the_proof(
    node: RunningNode, wire: Wire, upstream: FakeRegistry, path: str
) -> None:
    """With all bytes here but one the client has everything but the tail: not a byte more."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=SIZE - 1)
    wire.send("GET", path)
    head = await wire.head()
    body = await wire.take(SIZE - HELD_BACK)
    await until(lambda: arrived(node) == SIZE - 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            body += await wire.take(1)
    gate.set()
    body += await wire.take(HELD_BACK)

    assert (str(SIZE), CONTENT) == (head.headers["content-length"], body)


async def test_all_bytes_here_but_the_stream_not_ended(
    node: RunningNode, owner: aiohttp.ClientSession, wire: Wire, upstream: FakeRegistry, path: str
) -> None:
    """When every byte is here and nothing is proven, the tail is still held back."""
    gate = asyncio.Event()
    upstream.add_image("team/app", "1", CONTENT)
    # No length is said, so that the end is not known to be the end; the pull knows the size.
    upstream.announce(f"GET .*/{DIGEST}", -1)
    upstream.stall(f"GET .*/{DIGEST}", gate, at=SIZE)
    body = {"reference": f"{upstream.name}/team/app:1"}
    pulling = asyncio.create_task(owner.post("/api/v1/pull", json=body))
    await until(lambda: arrived(node) == SIZE)
    wire.send("GET", path)
    await wire.head()
    came = await wire.take(SIZE - HELD_BACK)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            came += await wire.take(1)
    gate.set()
    came += await wire.take(HELD_BACK)
    await (await pulling).read()

    assert came == CONTENT


async def test_a_wrong_blob_is_never_given_whole(
    node: RunningNode, wire: Wire, upstream: FakeRegistry, path: str
) -> None:
    """A blob that does not hash to its digest cuts the connection before the end, for everyone
    who read along, and leaves nothing."""
    upstream.change(BLOBS, lambda answer: setattr(answer, "body", bytes(SIZE)), times=1)
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=SIZE // 2)
    async with connected(node.port) as other:
        for each in (wire, other):
            each.send("GET", path)
        heads = [await each.head() for each in (wire, other)]
        gate.set()
        bodies = [await each.rest() for each in (wire, other)]

    assert [200, 200] == [head.status for head in heads]
    assert all(len(body) <= SIZE - HELD_BACK for body in bodies)
    assert (None, []) == (node.node.store.find(DIGEST), list((node.root / "ingest").iterdir()))


async def test_a_wrong_small_blob_has_a_status(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry
) -> None:
    """A blob that is all tail is refused before the first header: 503, so that clients ask
    elsewhere."""
    content = noise(1000)
    digest = upstream.add_blob("team/app", content)
    upstream.change(BLOBS, lambda answer: setattr(answer, "body", bytes(1000)), times=1)
    path = f"/v2/{upstream.name}/team/app/blobs/{digest}"
    refused, _ = await fetch(stranger, path)

    assert (503, (200, content)) == (refused, await fetch(stranger, path))


async def test_wrong_resumed_bytes_are_no_failure_of_the_client(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry
) -> None:
    """Where the first try fails on what an earlier process left, a client that waited for the
    first byte gets the blob of the second."""
    content = noise(HELD_BACK)
    digest = Digest.parse(upstream.add_blob("team/app", content))
    ingest = await node.node.store.ingest(digest)
    ingest.note_origin(f"{upstream.name}/team/app")
    await ingest.write(0, [bytes(1000)])
    await node.node.store.abort(ingest, RuntimeError("stopped"))

    assert (200, content) == await fetch(stranger, f"/v2/{upstream.name}/team/app/blobs/{digest}")


# declining


async def test_a_blob_without_a_manifest_first(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """A client that nobody knows may ask for a blob before any manifest."""
    assert (200, CONTENT) == await fetch(stranger, path)


async def test_a_stalled_upstream_is_declined_in_time(
    node: RunningNode, upstream: FakeRegistry, path: str
) -> None:
    """A runtime that can ask elsewhere gets 503 within the budget; the fetch goes on."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate)
    async with node.stranger() as client:
        began = asyncio.get_running_loop().time()
        status, _ = await fetch(client, f"/v2/team/app/blobs/{DIGEST}?ns={upstream.name}")
        seconds = asyncio.get_running_loop().time() - began
        under_way = len(node.node.flights.under_way())
        gate.set()

    assert (503, 1) == (status, under_way)
    assert seconds < 8
