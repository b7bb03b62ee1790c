"""The daemon's own way of sending files, without an index and without asking who may have them.

python -m bench.plain PORT SOCKET FILE...: ``/0`` is the first file, ``/1`` the second.
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import uvloop
from aiohttp import web

from registryd.server.kernel import SEND_THREADS, open_sender


def main() -> None:
    port, socket, files = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    uvloop.run(serve(port, socket, files))


async def serve(port: int, socket: str, files: list[str]) -> None:
    """Until it is ended."""
    senders = ThreadPoolExecutor(SEND_THREADS, "send")
    openers = ThreadPoolExecutor(8, "open")

    async def answer(request: web.Request) -> web.StreamResponse:
        path = files[int(request.match_info["number"])]
        loop = asyncio.get_running_loop()
        fd = await loop.run_in_executor(openers, os.open, path, os.O_RDONLY)
        try:
            response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            response.content_length = os.fstat(fd).st_size
            await response.prepare(request)
            assert request.transport is not None
            async with open_sender(request.transport, response, senders) as sender:
                await sender.send(fd, 0, response.content_length)
            await response.write_eof()
        finally:
            os.close(fd)
        return response

    app = web.Application()
    app.router.add_get("/{number}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, socket).start()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
