"""Lines: a body taken from its socket by threads."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cache.content import Digest
from cache.errors import SizeMismatch
from cache.files import Files
from cache.ingest import Ingest
from cache.store import BlobStore
from registryd.ports import Line, TransportError
from registryd.transfer.lines import FIRST_HOP, HOP, receive
from tests.cache.gates import GatedExecutor, turns
from tests.cache.ingests import begun

CONTENT = os.urandom(3 << 20) * 3  # more than two hops
DIGEST = Digest.of(CONTENT)
#: Long against a busy machine where nothing is to stall.
PATIENT = 30.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BlobStore]:
    async with BlobStore.open(tmp_path / "root") as store:
        yield store


@pytest.fixture
async def ingest(store: BlobStore) -> Ingest:
    return await store.ingest(DIGEST, size=len(CONTENT))


class Wire:
    """A connected pair: the far end writes, the near end's copy is the line's."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)

    def line(self, head: bytes, count: int) -> Line:
        return Line(head, os.dup(self.near.fileno()), count)

    async def say(self, content: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.far, content)


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.near.close()
    wire.far.close()


async def take(
    ingest: Ingest,
    line: Line,
    *,
    at: int = 0,
    stall: float = PATIENT,
    until: Callable[[], int | None] = lambda: None,
) -> list[int]:
    """Receive a line; what each hop was said to have brought."""
    came: list[int] = []
    await receive(ingest, line, at, source="far", stall=stall, came=came.append, until=until)
    return came


async def test_head_and_socket_become_the_blob(
    store: BlobStore, ingest: Ingest, wire: Wire
) -> None:
    """What had come already and what the socket brings is one content, counted whole."""
    head, rest = CONTENT[:1000], CONTENT[1000:]
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(take(ingest, wire.line(head, len(rest))))
        group.create_task(wire.say(rest))
    await store.commit(ingest)

    assert (len(CONTENT), len(CONTENT)) == (sum(taking.result()), store.find(DIGEST).size)  # type: ignore[union-attr]


async def test_no_hop_takes_more_than_its_limit(ingest: Ingest, wire: Wire) -> None:
    """Followers see what came after every hop, and a killed process loses at most one."""
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(take(ingest, wire.line(b"", len(CONTENT))))
        group.create_task(wire.say(CONTENT))

    assert max(taking.result()) <= HOP


async def test_what_follows_on_the_socket_is_not_touched(ingest: Ingest, wire: Wire) -> None:
    """A line ends after its count, whatever else the connection carries."""
    await wire.say(CONTENT[:5000])
    await take(ingest, wire.line(b"", 4000))

    assert CONTENT[4000:5000] == wire.near.recv(10_000)
    assert ((0, 4000),) == ingest.held.ranges


@pytest.mark.parametrize("before", [0, 70_000])
async def test_a_line_that_ends_early_is_a_break(ingest: Ingest, wire: Wire, before: int) -> None:
    """What came before the end is kept, and the end is the transport's fault."""
    await wire.say(CONTENT[:before])
    wire.far.close()
    with pytest.raises(TransportError, match="far broke off"):
        await take(ingest, wire.line(b"", len(CONTENT)))

    assert before == ingest.held.total


async def test_a_reset_is_a_break(ingest: Ingest) -> None:
    """A connection that is reset ends the line with one clear line."""
    server = socket.create_server(("127.0.0.1", 0))
    far = socket.create_connection(server.getsockname())
    near, _ = server.accept()
    near.setblocking(False)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    with server, near, pytest.raises(TransportError, match="far broke off"):
        await take(ingest, Line(b"", os.dup(near.fileno()), 100))


async def test_a_silent_line_is_given_up(ingest: Ingest, wire: Wire) -> None:
    """Nothing for the stall limit: a break that says so."""
    with pytest.raises(TransportError, match=r"far sent nothing for 0\.05 seconds"):
        await take(ingest, wire.line(b"", 100), stall=0.05)


async def test_a_cancelled_line_keeps_what_came_and_lets_go(ingest: Ingest, wire: Wire) -> None:
    """Cancelled in the middle: the bytes count once, the socket is closed, the rest can come."""
    await wire.say(CONTENT[:1000])
    line = wire.line(b"", len(CONTENT))
    taking = asyncio.create_task(take(ingest, line))
    while not ingest.held.total:
        await ingest.changed()
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(line.fd)
    await ingest.write(1000, [CONTENT[1000:]])

    assert DIGEST == await ingest.commit()


async def test_more_than_was_announced_is_refused(ingest: Ingest, wire: Wire) -> None:
    """More bytes than were announced are refused before one of them is read."""
    with pytest.raises(SizeMismatch, match="more bytes come"):
        await take(ingest, wire.line(b"", 100), at=len(CONTENT) - 50)

    assert 0 == ingest.held.total


async def test_a_line_ends_before_bytes_that_are_here(ingest: Ingest, wire: Wire) -> None:
    """What is here does not come again: what was hashed stays as it is."""
    await ingest.write(10, [CONTENT[10:20]])
    await wire.say(CONTENT[5:10] + b"?" * 90)
    await take(ingest, wire.line(CONTENT[:5], 95))

    assert ((0, 20),) == ingest.held.ranges
    assert 90 == len(wire.near.recv(1000))


async def test_a_line_goes_no_further_than_it_may(ingest: Ingest, wire: Wire) -> None:
    """How far is asked before every hop, and may have become less."""
    limits = iter([2 * FIRST_HOP, FIRST_HOP + 7])
    async with asyncio.TaskGroup() as group:
        group.create_task(
            take(ingest, wire.line(b"", len(CONTENT)), until=lambda: next(limits, FIRST_HOP + 7))
        )
        group.create_task(wire.say(CONTENT[: FIRST_HOP + 100]))

    assert ((0, FIRST_HOP + 7),) == ingest.held.ranges


async def test_the_socket_outlives_the_thread_that_reads_it(tmp_path: Path, wire: Wire) -> None:
    """Cancelled while a thread is at the socket: it is closed only after the thread came back.

    Closed before, its number could be another file's by the time the thread reads.
    """
    files, workers = Files(tmp_path / "root"), GatedExecutor()
    await asyncio.to_thread(files.prepare)
    line = wire.line(b"", 1000)
    async with begun(files, workers, DIGEST) as ingest:
        gate = workers.hold()
        taking = asyncio.create_task(take(ingest, line))
        await gate.reached.wait()
        taking.cancel()
        await turns()
        open_then = os.fstat(line.fd)
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await taking
    files.release()
    workers.shutdown()

    assert open_then
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(line.fd)
