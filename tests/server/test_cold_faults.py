"""Parts of a blob that is not here: sources that give them wrongly, and who may have them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from registryd.transfer.stretches import CHUNK
from tests.fakes.http import Reply
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import until
from tests.server.cold import CONTENT, DIGEST, SIZE, files_open, grounded, part, sent
from tests.server.content import BLOBS, fetch
from tests.server.wire import MIB, connected


@pytest.fixture
def path(upstream: FakeRegistry) -> str:
    """Where the node has the blob."""
    upstream.add_blob("team/app", CONTENT)
    return f"/v2/{upstream.name}/team/app/blobs/{DIGEST}"


# sources that do it wrong


def ignore(answer: Reply) -> None:
    """Send everything whatever is asked."""
    answer.status, answer.body = 200, CONTENT
    answer.headers.popall("Content-Range", None)


def shift(answer: Reply) -> None:
    """Send another range than was asked for."""
    answer.headers["Content-Range"] = f"bytes 1-{len(answer.body)}/{SIZE}"


def refuse(answer: Reply) -> None:
    """Take no Range at all."""
    answer.status, answer.body = 501, b""
    answer.headers.popall("Content-Range", None)


@pytest.mark.parametrize("start", [0, 100, 5 * MIB])
@pytest.mark.parametrize("fault", [ignore, shift, refuse])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_source_without_ranges_gives_the_whole(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, path: str,
    start: int, fault: object, chunked: bool,
) -> None:  # fmt: skip
    """Where ranges do not work the whole is fetched, once, and the answer is right."""
    if fault is ignore:
        upstream.change(BLOBS, ignore, None)
    else:
        upstream.change(BLOBS, fault, 1)  # type: ignore[arg-type]
    if chunked:
        upstream.announce(BLOBS, -1, None)
    body = await part(stranger, path, start, start + 1000)
    await until(lambda: node.node.store.find(DIGEST))
    later = await part(stranger, path, 7 * MIB, 7 * MIB + 10)

    assert (CONTENT[start : start + 1000], CONTENT[7 * MIB : 7 * MIB + 10]) == (body, later)
    assert sent(upstream) <= SIZE + CHUNK


@pytest.mark.parametrize("length", ["0", "1000", str(SIZE + 5)])
async def test_a_head_that_lies_costs_the_whole(
    node: RunningNode, owner: aiohttp.ClientSession, upstream: FakeRegistry, path: str, length: str
) -> None:
    """Where HEAD tells another size than GET, the whole is fetched, and GET is believed."""
    upstream.header("HEAD .*/blobs/", "Content-Length", length)
    upstream.announce("HEAD .*/blobs/", int(length), None)
    async with owner.get(path, headers={"Range": "bytes=10-19"}) as answer:
        body, said = await answer.read(), answer.headers.get("Content-Range")

    assert (CONTENT[10:20], f"bytes 10-19/{SIZE}") == (body, said)


async def test_a_source_that_says_no_size_gives_the_whole(
    node: RunningNode, owner: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """A part cannot be answered without the size of the whole: it is waited for."""
    upstream.answer("HEAD .*/blobs/", 405, times=None)
    upstream.change(BLOBS, ignore, None)
    upstream.announce(BLOBS, -1, None)

    assert CONTENT[10:20] == await part(owner, path, 10, 20)


async def test_a_stalled_part_is_declined_in_time(
    node: RunningNode, upstream: FakeRegistry, path: str
) -> None:
    """A runtime that can ask elsewhere gets its no within the budget, and the part is let go."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate)
    async with node.stranger() as client:
        url = f"/v2/team/app/blobs/{DIGEST}?ns={upstream.name}"
        status, _ = await fetch(client, url, Range="bytes=5-9")
    await until(lambda: not node.node.flights.under_way() and not files_open(node))

    assert 503 == status


# who may have what is kept


@pytest.fixture
async def other() -> AsyncIterator[FakeRegistry]:
    """Another registry that the node may ask."""
    async with Upstream().serve() as server:
        yield server


async def test_kept_parts_are_not_given_to_who_does_not_have_the_blob(
    node: RunningNode, owner: aiohttp.ClientSession, upstream: FakeRegistry, path: str
) -> None:
    """Another repository of the registry gets them when the registry says that it has the blob."""
    await part(owner, path, 0, 1000)
    await grounded(node)
    stolen = await fetch(owner, path.replace("team/app", "evil/app"), Range="bytes=0-9")
    upstream.add_blob("good/app", CONTENT)
    given = await fetch(owner, path.replace("team/app", "good/app"), Range="bytes=0-9")

    assert (404, (206, CONTENT[:10])) == (stolen[0], given)
    assert 1 == len(upstream.lines("GET .*/blobs/"))


@pytest.mark.parametrize("under_way", [True, False])
async def test_another_registry_s_bytes_are_not_believed(
    upstream: FakeRegistry, other: FakeRegistry, path: str, tmp_path: Path, under_way: bool
) -> None:
    """Parts are not proven, so those of one registry are never given as another's: neither what
    it left nor what is just coming from it."""
    other.add_blob("evil/app", CONTENT)
    other.change(BLOBS, lambda answer: setattr(answer, "body", bytes(len(answer.body))))
    gate = asyncio.Event()
    async with (
        running_node(tmp_path, registries=plain(upstream, other)) as node,
        node.owner() as client,
        connected(node.port) as evil,
    ):
        if under_way:
            other.stall(BLOBS, gate, at=500_000)
        evil.send("GET", f"/v2/{other.name}/evil/app/blobs/{DIGEST}", "Range: bytes=0-600000")
        await evil.head()
        assert bytes(1000) == await evil.take(1000)
        if not under_way:
            await grounded(node)
        asking = asyncio.create_task(fetch(client, path, Range="bytes=0-999"))
        if under_way:
            await until(lambda: node.node.flights.under_way()[0].whole)
        gate.set()
        status, body = await asking
        again = await fetch(client, path, Range="bytes=0-999")

    assert (status, body) == (206, CONTENT[:1000]) or (under_way and status >= 500)
    assert (206, CONTENT[:1000]) == again
