"""A link with a delay: passes connections on, every byte so many milliseconds later.

python -m bench.far PORT UPSTREAM_PORT ROUND_TRIP_MS
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import uvloop

READ = 1 << 18


async def serve(port: int, upstream: int, delay: float) -> None:
    """Pass on until the process is ended; ``delay`` is the seconds of one way."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * delay)  # a connection takes a round trip
        with suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", upstream)
            await asyncio.gather(carry(reader, back, delay), carry(there, writer, delay))

    server = await asyncio.start_server(accept, "127.0.0.1", port, limit=READ)
    await server.serve_forever()


async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay: float) -> None:
    """One direction, to its end; what is on its way arrives in order."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while piece := await source.read(READ):
            loop.call_later(delay, sink.write, piece)
            await sink.drain()
    loop.call_later(delay + 0.001, sink.close)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) / 2000))
