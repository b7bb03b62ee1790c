"""A bare aiohttp handler on uvloop that gives one file: what the library alone can do.

python -m bench.bare PORT FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvloop
from aiohttp import web


def main() -> None:
    port, body = int(sys.argv[1]), Path(sys.argv[2]).read_bytes()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": "application/json"})

    app = web.Application()
    app.router.add_get("/manifest", answer)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=port, print=lambda _: None, access_log=None, loop=loop)


if __name__ == "__main__":
    main()
