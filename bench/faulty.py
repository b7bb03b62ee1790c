"""A link that breaks when it is told to: SIGUSR1 lets connections be refused, cut and stalled.

    python -m bench.faulty PORT UPSTREAM_PORT SEED

SIGUSR2 makes it whole again.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from contextlib import suppress
from functools import partial

import uvloop

READ = 1 << 16
#: How often a connection is refused, and one piece of it is the last, or comes late.
REFUSED, CUT, LATE = 0.2, 0.1, 0.03
#: How late (seconds): longer than the stall that the daemon of the soak puts up with.
STALL = 3.0


class Link:
    """Passes connections on to a port of loopback."""

    def __init__(self, upstream: int, chance: random.Random) -> None:
        self.broken = False
        self._upstream = upstream
        self._chance = chance

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        if self.broken and self._chance.random() < REFUSED:
            writer.transport.abort()
            return
        with suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
            ways = (self._carry(reader, back), self._carry(there, writer))
            await asyncio.gather(*ways)
            back.transport.abort()
        writer.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(READ):
                if self.broken and self._chance.random() < LATE:
                    await asyncio.sleep(STALL)
                if self.broken and self._chance.random() < CUT:
                    break
                sink.write(piece)
                await sink.drain()
        sink.close()


async def serve(port: int, upstream: int, seed: int) -> None:
    """Pass on until the process is ended."""
    link = Link(upstream, random.Random(seed))
    loop = asyncio.get_running_loop()
    for number, broken in ((signal.SIGUSR1, True), (signal.SIGUSR2, False)):
        loop.add_signal_handler(number, partial(setattr, link, "broken", broken))
    server = await asyncio.start_server(link.accept, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
