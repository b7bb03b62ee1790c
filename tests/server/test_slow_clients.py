"""Clients that send nothing, half of something, or too much: they are let go, others are served."""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from registryd.server.connections import LONGEST_LINE, MOST_HEADERS, Limits
from tests.fakes.node import RunningNode, running_node
from tests.fakes.waiting import until
from tests.real.daemon import started
from tests.server.raw import check, exchange
from tests.server.wire import connected
from tests.test_daemon import write_config

ASK = b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n"
SHORT = 0.3
UPLOADS = "/v2/localhost/team/app/blobs/uploads/"


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[RunningNode]:
    """A node that loses its patience soon."""
    async with running_node(tmp_path, limits=Limits(idle=SHORT, body=SHORT)) as node:
        yield node


async def works(node: RunningNode) -> bool:
    (reply,) = await exchange(node.port, ASK)
    return reply.status == 200


@pytest.mark.parametrize("sent", [b"", b"G", ASK[:-2], ASK, ASK + b"GET /heal"])
async def test_no_whole_request(hasty: RunningNode, sent: bytes) -> None:
    """A connection on which no whole request comes is closed, at first and between requests."""
    async with connected(hasty.port) as wire:
        wire.writer.write(sent)
        came = await wire.rest()

    assert sent.count(b"\r\n\r\n") == came.count(b"HTTP/1.1 200")
    assert await works(hasty)


async def test_a_drop_at_a_time(tmp_path: Path) -> None:
    """Time is counted from the beginning of the wait, and not from the last byte."""
    loop = asyncio.get_running_loop()
    async with (
        running_node(tmp_path, limits=Limits(idle=SHORT)) as node,
        connected(node.port) as wire,
    ):
        began = loop.time()
        ending = asyncio.create_task(wire.rest())
        drops = 0
        while not ending.done():
            with suppress(ConnectionError):
                wire.writer.write(b"GET / HTTP/1.1\r\n" if drops == 0 else b"a: b\r\n")
            drops += 1
            await asyncio.wait([ending], timeout=SHORT / 20)
        took = loop.time() - began
        came = await ending

    assert (b"", True) == (came, took < 20 * SHORT)
    assert drops > 1


async def test_a_body_that_does_not_come(hasty: RunningNode) -> None:
    """An upload whose client falls silent ends; the upload itself can go on later."""
    async with hasty.owner() as client, client.post(UPLOADS) as answer:
        place = answer.headers["Location"]
    reader, writer = await asyncio.open_unix_connection(str(hasty.socket))
    writer.write(f"PATCH {place} HTTP/1.1\r\nHost: n\r\nContent-Length: 1000\r\n\r\nsome".encode())
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            came = await reader.read()
            assert b"HTTP/1.1 2" not in came
    writer.close()
    async with hasty.owner() as client, client.get(place) as answer:
        status = answer.status

    assert (204, True) == (status, await works(hasty))


async def test_a_second_body_that_does_not_come(hasty: RunningNode) -> None:
    """Each request of a connection is watched, not only the first."""
    async with hasty.owner() as client, client.post(UPLOADS) as answer:
        place = answer.headers["Location"]
    reader, writer = await asyncio.open_unix_connection(str(hasty.socket))
    chunk = f"PATCH {place} HTTP/1.1\r\nHost: n\r\nContent-Length: 4\r\n"
    writer.write(f"{chunk}Expect: 100-continue\r\n\r\n".encode())
    heads = [await reader.readuntil(b"\r\n\r\n")]  # it waits for the body now
    writer.write(f"some{chunk}\r\n".encode())
    heads.append(await reader.readuntil(b"\r\n\r\n"))
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            assert b"" == await reader.read()
    writer.close()

    assert [b"HTTP/1.1 100", b"HTTP/1.1 202"] == [head[:12] for head in heads]


async def test_a_body_that_comes_slowly_is_taken(hasty: RunningNode) -> None:
    """Slow is not silent: each byte gives time for the next."""
    async with hasty.owner() as client, client.post(UPLOADS) as begun:
        place = begun.headers["Location"]
    reader, writer = await asyncio.open_unix_connection(str(hasty.socket))
    writer.write(f"PATCH {place} HTTP/1.1\r\nHost: n\r\nContent-Length: 8\r\n\r\n".encode())
    answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    for _ in range(8):
        writer.write(b"x")
        await asyncio.wait([answer], timeout=SHORT / 2)
    async with asyncio.timeout(20):
        head = await answer
    writer.close()

    assert head.startswith(b"HTTP/1.1 202 ") and b"Range: 0-7\r\n" in head


@pytest.mark.parametrize(
    "lines",
    [
        b"X: " + b"a" * (LONGEST_LINE + 1),
        b"\r\n".join(b"X%d: y" % number for number in range(MOST_HEADERS + 1)),
        b"a" * (2 * LONGEST_LINE) + b": x",
    ],
)
async def test_a_head_that_is_too_large(hasty: RunningNode, lines: bytes) -> None:
    """431 in the protocol's words (RFC 6585, 5)."""
    sent = b"GET /v2/ HTTP/1.1\r\nHost: node\r\n" + lines + b"\r\n\r\n"
    (reply,) = await exchange(hasty.port, sent)
    check(reply, "GET")

    assert (431, "UNSUPPORTED") == (reply.status, reply.code)


async def test_a_head_without_an_end(hasty: RunningNode) -> None:
    """Not even an endless line is read for ever."""
    async with connected(hasty.port) as wire:
        with suppress(ConnectionError):
            for _ in range(200):
                wire.writer.write(b"a" * 65536)
                await wire.writer.drain()
        came = await wire.rest()

    assert b"" == came or came.split(b" ")[1] in (b"400", b"431")
    assert await works(hasty)


async def test_a_body_that_is_too_large_for_its_route(hasty: RunningNode) -> None:
    """A manifest of a gigabyte is refused while it comes, and is not kept in memory."""
    target = "/v2/localhost/team/app/manifests/1"
    reader, writer = await asyncio.open_unix_connection(str(hasty.socket))
    line = f"PUT {target} HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\n"
    writer.write(f"{line}Content-Length: {1 << 30}\r\n\r\n".encode())
    refusal = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    sent = 0
    with suppress(ConnectionError):
        while not refusal.done() and sent < 64 << 20:
            writer.write(b" " * 65536)
            sent += 65536
            await writer.drain()
    async with asyncio.timeout(20):
        head = await refusal
    writer.transport.abort()

    assert head.split(b" ")[1] in (b"400", b"413"), head
    assert sent < 64 << 20
    assert await works(hasty)


async def test_bytes_are_taken_as_they_are_sent(hasty: RunningNode) -> None:
    """A blob that is said to be gzip is not unpacked: its digest is that of what was sent."""
    bomb = b"\x1f\x8b" + b"no gzip at all"
    async with hasty.owner() as client:
        async with client.post(UPLOADS) as answer:
            place = answer.headers["Location"]
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/octet-stream"}
        async with client.patch(place, data=bomb, headers=headers) as answer:
            status, until_byte = answer.status, answer.headers.get("Range")

    assert (202, f"0-{len(bomb) - 1}") == (status, until_byte)


@asynccontextmanager
async def idlers(port: int, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many connections that say nothing."""
    writers, readers = [], []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            readers.append(reader)
            writers.append(writer)
        yield readers
    finally:
        for writer in writers:
            writer.transport.abort()


async def test_the_one_that_was_idle_longest_makes_room(tmp_path: Path) -> None:
    """Over the limit the oldest idle connections go; who asks is answered."""
    async with (
        running_node(tmp_path, limits=Limits(connections=20)) as node,
        idlers(node.port, 50) as readers,
    ):
        for _ in range(5):
            assert await works(node)
        await until(lambda: sum(reader.at_eof() for reader in readers) >= 30)
        closed = [reader.at_eof() for reader in readers]

    assert ([True] * 30, [False] * 10) == (closed[:30], closed[-10:])


async def test_one_that_is_being_answered_does_not_make_room(tmp_path: Path) -> None:
    """The limit takes nobody's answer away."""
    async with running_node(tmp_path, limits=Limits(connections=3)) as node:
        async with node.owner() as client, client.post(UPLOADS) as answer:
            place = answer.headers["Location"]
        reader, writer = await asyncio.open_unix_connection(str(node.socket))
        writer.write(f"PATCH {place} HTTP/1.1\r\nHost: n\r\nContent-Length: 4\r\n\r\n".encode())
        async with idlers(node.port, 20):
            assert await works(node)
            writer.write(b"done")
            async with asyncio.timeout(20):
                head = await reader.readuntil(b"\r\n\r\n")
        writer.close()

    assert head.startswith(b"HTTP/1.1 202 ")


async def test_thousands_of_idle_connections(tmp_path: Path) -> None:
    """With 3,000 of them open, a real daemon answers everybody else at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 8192:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    try:
        async with started(write_config(tmp_path)) as daemon:
            port = int(daemon.url.rpartition(":")[2])
            async with idlers(port, 3000) as readers:
                replies = [await exchange(port, ASK) for _ in range(50)]
                alive = sum(not reader.at_eof() for reader in readers)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert [200] * 50 == [reply.status for (reply,) in replies]
    assert 3000 == alive


@pytest.mark.parametrize("most", [128, 40])
async def test_no_more_files(tmp_path: Path, most: int) -> None:
    """Where the system allows few open files, as many as there may be are used; and when there is
    none left for a client, the daemon goes on and serves the next."""
    under = ["prlimit", f"--nofile=32:{most}"]
    async with started(write_config(tmp_path), under=under) as daemon:
        port = int(daemon.url.rpartition(":")[2])
        limits = Path(f"/proc/{daemon.pid}/limits").read_text()
        async with idlers(port, 400):
            replies = [reply for _ in range(20) for reply in await exchange(port, ASK)]
        async with daemon.client() as client, client.get("/healthz") as answer:
            after = answer.status

    assert re.search(rf"Max open files +{most} +{most}", limits)
    assert {200} == {after, *(reply.status for reply in replies)}
    assert most < 128 or len(replies) == 20
    assert not any("Traceback" in line for line in daemon.lines)
