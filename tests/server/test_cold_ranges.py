"""Parts of a blob that is not here: what they cost upstream, what is kept, who may have it."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from cache.ingest import HELD_BACK
from registryd.transfer.stretches import CHUNK
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.server.cold import CONTENT, DIGEST, SIZE, files_open, grounded, kept, part, ranges, sent
from tests.server.content import BLOBS, fetch
from tests.server.wire import MIB, Wire


@pytest.fixture
def path(upstream: FakeRegistry) -> str:
    """Where the node has the blob."""
    upstream.add_blob("team/app", CONTENT)
    return f"/v2/{upstream.name}/team/app/blobs/{DIGEST}"


# what a part costs


@pytest.mark.parametrize(
    ("wanted", "span", "asked"),
    [
        ("bytes=100-199", (100, 200), "bytes=0-1048575"),
        (f"bytes={5 * MIB + 5}-{5 * MIB + 9}", (5 * MIB + 5, 5 * MIB + 10),
         f"bytes={5 * MIB}-{6 * MIB - 1}"),
        (f"bytes={2 * MIB - 1}-{2 * MIB}", (2 * MIB - 1, 2 * MIB + 1),
         f"bytes={MIB}-{3 * MIB - 1}"),
        ("bytes=-51", (SIZE - 51, SIZE), f"bytes={8 * MIB}-{SIZE - 1}"),
        (f"bytes={SIZE - 9}-{SIZE + 99}", (SIZE - 9, SIZE), f"bytes={8 * MIB}-{SIZE - 1}"),
    ],
)  # fmt: skip
async def test_a_part_costs_its_chunks(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str,
    wanted: str, span: tuple[int, int], asked: str,
) -> None:  # fmt: skip
    """A bounded range is fetched by the chunks that cover it, in one request, and nothing else
    is; then the flight ends, its files are closed, and what came is kept."""
    async with stranger.get(path, headers={"Range": wanted}) as answer:
        body, headers, status = await answer.read(), answer.headers, answer.status
    await grounded(node)

    assert (206, CONTENT[slice(*span)]) == (status, body)
    assert f"bytes {span[0]}-{span[1] - 1}/{SIZE}" == headers["Content-Range"]
    assert [asked] == ranges(upstream)
    assert sent(upstream) <= 2 * CHUNK
    assert ([], 2) == (files_open(node), len(kept(node)))


async def test_two_clients_cost_one_fetch(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """Who asks for the same part while it arrives costs upstream nothing more."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=1000)
    asking = [asyncio.create_task(part(stranger, path, 3 * MIB, 3 * MIB + 5000)) for _ in range(8)]
    await until(lambda: node.node.flights.under_way() and sent(upstream) == 1000)
    await until(lambda: sum(i.followers for i in node.node.store.arriving()) == 8)
    gate.set()

    assert [CONTENT[3 * MIB : 3 * MIB + 5000]] * 8 == await asyncio.gather(*asking)
    assert [f"bytes={3 * MIB}-{4 * MIB - 1}"] == ranges(upstream)


async def test_a_later_part_costs_what_is_missing(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """What was kept is not asked for again, and what is wholly kept is given without upstream."""
    await part(stranger, path, 2 * MIB, 2 * MIB + 1)
    await grounded(node)
    body = await part(stranger, path, MIB, 4 * MIB)
    await grounded(node)
    requests = len(upstream.requests)
    again = await part(stranger, path, MIB + 5, 4 * MIB - 5)

    assert (CONTENT[MIB : 4 * MIB], CONTENT[MIB + 5 : 4 * MIB - 5]) == (body, again)
    assert [f"bytes={n * MIB}-{(n + 1) * MIB - 1}" for n in (2, 1, 3)] == ranges(upstream)
    assert requests == len(upstream.requests)


async def test_a_part_outlives_the_process(
    upstream: FakeRegistry, path: str, tmp_path: Path
) -> None:
    """What an earlier process fetched is given without a word to upstream."""
    seen = []
    for _ in range(2):
        async with (
            running_node(tmp_path, registries=plain(upstream)) as node,
            node.owner() as client,
        ):
            seen.append((await part(client, path, 10, 5000), len(upstream.requests)))

    assert [(CONTENT[10:5000], seen[0][1])] * 2 == seen


async def test_parts_become_a_blob(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """When by and by every byte has come, the blob is proven and held as any other."""
    for start in range(0, SIZE, 2 * MIB):
        await part(stranger, path, start, min(SIZE, start + 2 * MIB))
    await grounded(node)

    assert node.node.store.find(DIGEST) is not None
    assert (SIZE, []) == (sent(upstream), kept(node))
    assert (200, CONTENT) == await fetch(stranger, path)


async def test_a_whole_get_takes_over(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """Who wants the whole after parts were fetched costs upstream the gaps only."""
    await part(stranger, path, 3 * MIB, 4 * MIB)
    await part(stranger, path, 6 * MIB, 7 * MIB)

    assert (200, CONTENT) == await fetch(stranger, path)
    assert SIZE == sent(upstream)


async def test_a_flight_of_parts_becomes_whole(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """Who wants the whole while a part is under way joins it: one fetch, each byte once."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=1000)
    asking = asyncio.create_task(part(stranger, path, 3 * MIB, 4 * MIB))
    await until(lambda: sent(upstream) == 1000)
    whole = asyncio.create_task(fetch(stranger, path))
    await until(lambda: node.node.flights.under_way()[0].whole)
    gate.set()

    assert (CONTENT[3 * MIB : 4 * MIB], (200, CONTENT)) == (await asking, await whole)
    assert SIZE == sent(upstream)


async def test_a_part_that_is_not_there(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """416 says the size, and costs upstream no byte."""
    async with stranger.get(path, headers={"Range": f"bytes={SIZE}-{SIZE + 9}"}) as answer:
        refused = (answer.status, answer.headers["Content-Range"])
    await grounded(node)

    assert (416, f"bytes */{SIZE}") == refused
    assert [] == ranges(upstream)


async def test_who_leaves_ends_the_fetch(
    node: RunningNode, wire: Wire, stranger: aiohttp.ClientSession, upstream: FakeRegistry,
    path: str,
) -> None:  # fmt: skip
    """A part whose reader has gone ends when that is seen; what came of it is kept."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=300_000)
    wire.send("GET", path, f"Range: bytes={MIB}-{7 * MIB - 1}")
    head = await wire.head()
    came = await wire.take(200_000)
    await until(lambda: sum(i.held.total for i in node.node.store.arriving()) == 300_000)
    wire.writer.close()
    gate.set()
    await until(lambda: not node.node.flights.under_way() and not files_open(node))
    again = await part(stranger, path, MIB, 7 * MIB)
    await grounded(node)

    assert (206, CONTENT[MIB : MIB + 200_000]) == (head.status, came)
    assert CONTENT[MIB : 7 * MIB] == again


# what is wanted at once


@pytest.mark.parametrize("bounded", [True, False])
async def test_a_far_range_of_an_arriving_blob_does_not_wait(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, node: RunningNode, path: str,
    bounded: bool,
) -> None:  # fmt: skip
    """While the whole arrives (and stalls), a range far ahead comes by a connection of its own,
    and no byte comes twice."""
    gate, at = asyncio.Event(), 5 * MIB + 3
    upstream.stall(BLOBS, gate, at=MIB)
    whole = asyncio.create_task(fetch(stranger, path))
    await until(lambda: sent(upstream) == MIB)
    header = f"bytes={at}-{at + 99_999}" if bounded else f"bytes={at}-"
    async with stranger.get(path, headers={"Range": header}) as answer:
        first = await answer.content.readexactly(100_000)
        waiting = not gate.is_set()
        gate.set()
        rest = await answer.read()

    assert (206, CONTENT[at : at + 100_000], True) == (answer.status, first, waiting)
    assert rest == (b"" if bounded else CONTENT[at + 100_000 :])
    assert (200, CONTENT) == await whole
    assert ranges(upstream)[1].startswith(f"bytes={at}-")


async def test_an_open_range_of_a_cold_blob_comes_first(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """``bytes=N-`` of a blob of which nothing is here begins at once, and brings the whole."""
    gate, at = asyncio.Event(), 6 * MIB
    upstream.stall(BLOBS, gate, at=1000)
    async with stranger.get(path, headers={"Range": f"bytes={at}-"}) as answer:
        first = await answer.content.readexactly(1000)
        waiting = not gate.is_set()
    gate.set()
    await until(lambda: node.node.store.find(DIGEST))

    assert (206, CONTENT[at : at + 1000], True) == (answer.status, first, waiting)


async def test_parallel_readers_each_begin_at_once(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """Many open ranges, each closed after its share, as containerd fetches: no one waits for
    another's share, and the blob is complete after it."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=1000)

    async def share(at: int) -> bytes:
        async with stranger.get(path, headers={"Range": f"bytes={at}-"}) as answer:
            return await answer.content.readexactly(MIB)

    shares = await asyncio.gather(*(share(n * 2 * MIB) for n in (1, 2, 3)))
    gate.set()

    assert [CONTENT[n * MIB : (n + 1) * MIB] for n in (2, 4, 6)] == shares
    assert (200, CONTENT) == await fetch(stranger, path)


# what is given before it is proven, and what is not


async def test_the_tail_of_a_part_need_not_wait(
    node: RunningNode, stranger: aiohttp.ClientSession, path: str
) -> None:
    """A bounded range may have the blob's last bytes: nobody can take it for a whole blob."""
    assert CONTENT[SIZE - 100 :] == await part(stranger, path, SIZE - 100, SIZE)
    assert node.node.store.find(DIGEST) is None


@pytest.mark.parametrize(
    "wanted", [f"bytes=0-{SIZE - 1}", f"bytes=-{SIZE}", "bytes=0-", "bytes=4194304-"]
)
async def test_what_may_be_taken_for_the_whole_is_held_back(
    node: RunningNode, wire: Wire, upstream: FakeRegistry, path: str, wanted: str
) -> None:
    """A bounded range of all bytes is the whole, and an open one may be the end of it: their tail
    is not given of a wrong blob."""
    upstream.change(BLOBS, lambda answer: setattr(answer, "body", bytes(len(answer.body))))
    wire.send("GET", path, f"Range: {wanted}")
    head = await wire.head()
    body = await wire.rest()

    assert 206 == head.status
    assert len(body) <= int(head.headers["content-length"]) - HELD_BACK
    await until(lambda: not kept(node))
    assert node.node.store.find(DIGEST) is None


async def test_wrong_parts_end_with_the_proof(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """Parts that together are another content leave nothing, and are not fetched again unasked."""
    upstream.change(BLOBS, lambda answer: setattr(answer, "body", bytes(len(answer.body))), 2)
    for start, stop in ((0, 4 * MIB), (4 * MIB, SIZE)):
        await part(stranger, path, start, stop)
    await until(lambda: not kept(node))
    await grounded(node)

    assert (None, 2) == (node.node.store.find(DIGEST), len(ranges(upstream)))
    assert (200, CONTENT) == await fetch(stranger, path)
