"""Sending file ranges to a client: by the kernel where the connection is plain, else in pieces.

Plain: a thread sends while the client takes (``os.sendfile`` lets go of the interpreter, so several
clients use several cores); when the client's buffer stays full the thread goes home, and the event
loop waits for it to drain. No byte of a cached blob passes through Python. Over TLS a thread reads
and the connection encrypts. Invariants:
- the loop never waits for the disk, and no thread waits long for a client;
- a client that takes nothing for ``STALL`` seconds is given up;
- nothing is sent past a transport that encrypts, and elsewhere only after all that it had to send;
- a descriptor is closed only after the thread that uses it has returned.

aiohttp's FileResponse is not used for this: uvloop has no ``loop.sendfile``, so it copies.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from aiohttp import web

from registryd.rates import Pace

#: Threads that send. Each serves one client for at most ``SLICE``, so more clients take turns.
SEND_THREADS = 16
SLICE = 0.25
#: How long (milliseconds) a thread waits for a client before the loop takes over the waiting.
PATIENCE = 10
#: A client that takes nothing for so long (seconds) is gone.
STALL = 300.0
#: What one call asks of the kernel at most (Linux itself stops at 2 GiB - 4 KiB).
CALL = 1 << 30
#: What is read at once where bytes go through the transport (bytes).
PIECE = 1 << 19
#: Said when a file ends too early.
SHORTER = "the file is shorter than it was announced"

_T = TypeVar("_T")


class Sender(Protocol):
    """A way to one client; made by ``open_sender``."""

    @property
    def sent(self) -> int:
        """Bytes sent so far."""

    async def send(self, fd: int, offset: int, count: int) -> None:
        """Send ``count`` bytes of ``fd`` from ``offset``. Raises ConnectionError, EOFError."""


#: Asked between two pieces; raises what ends the sending.
Check = Callable[[], None]


def _nothing() -> None:
    """Nothing speaks against it."""


class _KernelSender:
    """Past the transport, to the socket itself."""

    def __init__(self, out: int, workers: Executor, check: Check) -> None:
        self.sent = 0
        self._check = check
        self._out = out
        self._workers = workers
        self._loop = asyncio.get_running_loop()

    async def send(self, fd: int, offset: int, count: int) -> None:
        stop = offset + count
        while True:
            self._check()
            hop = self._loop.run_in_executor(self._workers, _push, self._out, fd, offset, stop)
            reached = await _returned(hop)
            self.sent += reached - offset
            offset = reached
            if offset == stop:
                return
            await _writable(self._out)


class _PieceSender:
    """Through the transport, which encrypts."""

    def __init__(self, response: web.StreamResponse, workers: Executor, check: Check) -> None:
        self.sent = 0
        self._check = check
        self._response = response
        self._workers = workers
        self._loop = asyncio.get_running_loop()

    async def send(self, fd: int, offset: int, count: int) -> None:
        stop = offset + count
        while offset < stop:
            want = min(stop - offset, PIECE)
            piece = await _returned(
                self._loop.run_in_executor(self._workers, os.pread, fd, want, offset)
            )
            if not piece:
                raise EOFError(SHORTER)
            self._check()
            try:
                async with asyncio.timeout(STALL):
                    await self._response.write(piece)
            except TimeoutError:
                raise ConnectionResetError("the client stopped reading") from None
            offset += len(piece)
            self.sent += len(piece)


class _PacedSender:
    """Another sender, which is given no more at once than may pass."""

    def __init__(self, sender: Sender, pace: Pace) -> None:
        self._sender = sender
        self._pace = pace

    @property
    def sent(self) -> int:
        return self._sender.sent

    async def send(self, fd: int, offset: int, count: int) -> None:
        stop = offset + count
        while offset < stop:
            room = await self._pace.room(stop - offset)
            await self._sender.send(fd, offset, room)
            self._pace.passed(room)
            offset += room


def _paced(sender: Sender, pace: Pace | None) -> Sender:
    return sender if pace is None else _PacedSender(sender, pace)


@asynccontextmanager
async def open_sender(
    transport: asyncio.Transport,
    response: web.StreamResponse,
    workers: Executor,
    pace: Pace | None = None,
    check: Check = _nothing,
) -> AsyncIterator[Sender]:
    """A Sender of this response's body, once everything written before has left.

    With ``pace`` it keeps to that; what ``check`` raises ends it. Raises ConnectionError.
    """
    if transport.get_extra_info("sslcontext") is not None:
        yield _paced(_PieceSender(response, workers, check), pace)
        return
    await _emptied(transport)
    # Of its own, for the event loop refuses to watch a descriptor that a transport owns.
    out = os.dup(transport.get_extra_info("socket").fileno())
    try:
        yield _paced(_KernelSender(out, workers, check), pace)
    finally:
        os.close(out)


async def send_descriptor(transport: asyncio.Transport, content: bytes, fd: int) -> None:
    """Send these few bytes, and an open file with the first, once all written before has left.

    For unix sockets: unix(7), SCM_RIGHTS. Raises ConnectionError.
    """
    await _emptied(transport)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))]
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as out:
        sent = 0
        while not sent:
            try:
                sent = out.sendmsg([content], rights)
            except BlockingIOError:
                await _writable(out.fileno())
    transport.write(content[sent:])


async def _emptied(transport: asyncio.Transport) -> None:
    """Return when what was written has left. Raises ConnectionResetError."""
    tries = 0
    while transport.get_write_buffer_size():
        tries += 1
        await asyncio.sleep(0 if tries < 16 else 0.005)
        if transport.is_closing():
            raise ConnectionResetError("the client has gone")


async def _writable(out: int) -> None:
    """Return when a socket takes bytes again. Raises ConnectionResetError."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(out, _resolve, ready)
    try:
        async with asyncio.timeout(STALL):
            await ready
    except TimeoutError:
        raise ConnectionResetError("the client stopped reading") from None
    finally:
        loop.remove_writer(out)


async def _returned(hop: asyncio.Future[_T]) -> _T:
    """What a thread gives; when cancelled, not before it has returned (it uses a descriptor)."""
    try:
        return await asyncio.shield(hop)
    except asyncio.CancelledError:
        await asyncio.wait([hop])
        raise


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _push(out: int, fd: int, offset: int, stop: int) -> int:
    """Send for a while; how far it came."""
    room = select.poll()
    room.register(out, select.POLLOUT)
    until = time.monotonic() + SLICE
    while offset < stop and time.monotonic() < until:
        try:
            sent = os.sendfile(out, fd, offset, min(stop - offset, CALL))
        except BlockingIOError:
            if not room.poll(PATIENCE):
                break
            continue
        if sent == 0:
            raise EOFError(SHORTER)
        offset += sent
    return offset
