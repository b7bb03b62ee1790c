"""/ui: the status page. Its files are in ``ui/`` as they are sent, but for the first figures.

Invariants:
- the page is offered on the unix socket and on loopback addresses, nowhere else;
- it shows what ``overview`` and ``sharing`` of the API show this caller, and asks nothing else;
- no text of a registry is in the HTML: names come as JSON, and scripts set them as text;
- the browser is told to run the page's own script alone, and to ask nobody but this daemon.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import ipaddress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Final

from aiohttp import web

from registryd.operations import Operations
from registryd.server.challenges import local
from registryd.server.context import caller_of, context_of

FOLDER: Final = Path(__file__).parent / "ui"
PAGE: Final = "page.html"
UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
#: Content Security Policy Level 3.
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page: what it is, and what tells it from another version of it."""

    content: bytes
    media_type: str
    tag: str


@cache
def files(folder: Path = FOLDER) -> dict[str, PageFile]:
    """The files by name; blocks when it is called first."""
    found = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        found[path.name] = PageFile(content, TYPES[path.suffix], tag)
    return found


def add_routes(app: web.Application) -> None:
    """Put the page into an application."""
    app.router.add_get("/ui", _page)
    app.router.add_get("/ui/", _page)
    app.router.add_get("/ui/{file}", _file)


async def _page(request: web.Request) -> web.StreamResponse:
    """The page with the figures of this moment in it, for whoever runs no script."""
    _check_near(request)
    known = await asyncio.to_thread(files)
    operations: Operations = context_of(request).operations
    look = await operations.overview(principal=caller_of(request).principal)
    text = Template(known[PAGE].content.decode()).substitute(_figures(look))
    return web.Response(
        text=text, content_type="text/html", headers={"Content-Security-Policy": POLICY}
    )


async def _file(request: web.Request) -> web.StreamResponse:
    _check_near(request)
    known = await asyncio.to_thread(files)
    found = known.get(request.match_info["file"])
    if found is None or request.match_info["file"] == PAGE:
        raise web.HTTPNotFound
    headers = {"ETag": found.tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    if request.headers.get("If-None-Match") == found.tag:
        return web.Response(status=304, headers=headers)
    return web.Response(
        body=found.content, content_type=found.media_type, charset="utf-8", headers=headers
    )


def _check_near(request: web.Request) -> None:
    """Raise HTTPNotFound on a listener that other machines reach."""
    if local(request) is not None:
        return
    name = request.transport.get_extra_info("sockname") if request.transport else None
    if not name or not ipaddress.ip_address(name[0].partition("%")[0]).is_loopback:
        raise web.HTTPNotFound


def _figures(look: dict[str, Any]) -> dict[str, str]:
    """The totals, escaped for HTML."""
    cache_, cluster = look["cache"], look["cluster"]
    texts = {
        "version": look["node"]["version"],
        "name": look["node"]["name"] or "this node",
        "images": f"{cache_['images']:,}",
        "blobs": f"{cache_['blobs']:,}",
        "size": _size(cache_["size"]),
        "free": _size(cache_["free"]),
        "flights": str(len(look["flights"]) + look["more_flights"]),
        "nodes": str(len(cluster["nodes"]) + cluster["more"] or 1),
        "at": look["at"],
    }
    return {key: html.escape(text) for key, text in texts.items()}


def _size(size: float) -> str:
    """Bytes as the page's script writes them: ``1.4 GiB``."""
    unit = 0
    while size >= 1023.5 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.{0 if unit == 0 or size >= 99.95 else 1}f} {UNITS[unit]}"
