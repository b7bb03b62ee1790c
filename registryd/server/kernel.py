"""Sending file ranges to a socket from the kernel: no byte of a cached blob passes through Python.

Invariants:
- the loop never waits for the disk: what is not in the page cache is read ahead by a thread;
- a client that reads nothing for ``STALL`` seconds is given up;
- the transport's own buffer is empty before the first byte is sent past it.

aiohttp's FileResponse is not used for this: uvloop has no ``loop.sendfile``, so it copies.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: Bytes handed to the kernel before other tasks get their turn.
TURN = 4 << 20
#: Bytes a thread reads at a time to bring a cold file into the page cache.
WARM = 1 << 20
#: A client that takes nothing for so long (seconds) is gone.
STALL = 300.0


class Sender:
    """The raw way to one client's socket; made by ``open_sender``."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._loop = asyncio.get_running_loop()

    async def send(self, fd: int, offset: int, count: int) -> None:
        """Send ``count`` bytes of ``fd`` from ``offset``. Raises ConnectionError, EOFError."""
        stop = offset + count
        while offset < stop:
            turn = min(stop, offset + TURN)
            if not _in_memory(fd, turn - 1):
                await asyncio.to_thread(_warm, fd, offset, turn)
            while offset < turn:
                try:
                    sent = os.sendfile(self._out, fd, offset, turn - offset)
                except BlockingIOError:
                    await self._writable()
                    continue
                if sent == 0:
                    raise EOFError("the file is shorter than it was announced")
                offset += sent
            await asyncio.sleep(0)

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
async def open_sender(transport: asyncio.Transport) -> AsyncIterator[Sender]:
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
        yield Sender(out)
    finally:
        os.close(out)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _in_memory(fd: int, offset: int) -> bool:
    try:
        os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:  # the file system cannot tell (tmpfs): then it does not need to
        return True
    return True


def _warm(fd: int, start: int, stop: int) -> None:
    for offset in range(start, stop, WARM):
        os.pread(fd, min(WARM, stop - offset), offset)
