"""Sending file ranges to a socket from the kernel: no byte of a cached blob passes through Python.

A thread sends while the client takes (``os.sendfile`` lets go of the interpreter, so several
clients use several cores); when the client's buffer stays full the thread goes home, and the event
loop waits for it to drain. Invariants:
- the loop never waits for the disk, and no thread waits long for a client;
- a client that takes nothing for ``STALL`` seconds is given up;
- the transport's own buffer is empty before the first byte is sent past it;
- a descriptor is closed only after the thread that uses it has returned.

aiohttp's FileResponse is not used for this: uvloop has no ``loop.sendfile``, so it copies.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager

#: Threads that send. Each serves one client for at most ``SLICE``, so more clients take turns.
SEND_THREADS = 16
SLICE = 0.25
#: How long (milliseconds) a thread waits for a client before the loop takes over the waiting.
PATIENCE = 10
#: A client that takes nothing for so long (seconds) is gone.
STALL = 300.0
#: What one call asks of the kernel at most (Linux itself stops at 2 GiB - 4 KiB).
CALL = 1 << 30


class Sender:
    """The raw way to one client's socket; made by ``open_sender``."""

    def __init__(self, out: int, workers: Executor) -> None:
        self._out = out
        self._workers = workers
        self._loop = asyncio.get_running_loop()

    async def send(self, fd: int, offset: int, count: int) -> None:
        """Send ``count`` bytes of ``fd`` from ``offset``. Raises ConnectionError, EOFError."""
        stop = offset + count
        while True:
            offset = await self._hop(fd, offset, stop)
            if offset == stop:
                return
            await self._writable()

    async def _hop(self, fd: int, offset: int, stop: int) -> int:
        hop = self._loop.run_in_executor(self._workers, _push, self._out, fd, offset, stop)
        try:
            return await asyncio.shield(hop)
        except asyncio.CancelledError:
            await asyncio.wait([hop])
            raise

    async def _writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._out, _resolve, ready)
        try:
            async with asyncio.timeout(STALL):
                await ready
        except TimeoutError:
            raise ConnectionResetError("the client stopped reading") from None
        finally:
            self._loop.remove_writer(self._out)


@asynccontextmanager
async def open_sender(transport: asyncio.Transport, workers: Executor) -> AsyncIterator[Sender]:
    """A Sender past this transport, once everything written to it before has left."""
    tries = 0
    while transport.get_write_buffer_size():
        tries += 1
        await asyncio.sleep(0 if tries < 16 else 0.005)
        if transport.is_closing():
            raise ConnectionResetError("the client has gone")
    # Of its own, for the event loop refuses to watch a descriptor that a transport owns.
    out = os.dup(transport.get_extra_info("socket").fileno())
    try:
        yield Sender(out, workers)
    finally:
        os.close(out)


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
            raise EOFError("the file is shorter than it was announced")
        offset += sent
    return offset
