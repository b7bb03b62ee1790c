"""What a browser may do here: nothing for a page from elsewhere.

A browser carries a page's requests to addresses that the page itself could not reach: to this
machine, and through a forwarded port to the socket, as the user who forwarded it. Invariants:
- the API and the page answer only under a name that cannot be somebody else's: an address, a name
  without a dot, ``*.localhost``, or this machine's own (against DNS rebinding);
- so does /v2 to a browser; programs reach it under names of all kinds;
- a request that another origin's page makes is refused (the Fetch standard's ``Origin``, Fetch
  Metadata's ``Sec-Fetch-Site``; a link to the page may be followed), and no answer allows one to be
  read (no CORS; Cross-Origin-Resource-Policy);
- clients that are no browsers send none of this, and notice nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from registryd.oci.errors import Denied

#: What is guarded by name, whoever asks.
GUARDED: Final = ("/api/v1", "/ui")
#: How the User-Agent of every browser begins, and of no runtime.
BROWSER: Final = "Mozilla/"
#: A page of another origin asks, says the browser.
ELSEWHERE: Final = ("cross-site", "same-site")
HEADERS: Final = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guarded(request: web.Request, handler: Next) -> web.StreamResponse:
    """Refuse what pages from elsewhere ask. Raises Denied."""
    ours, origin = request.path.startswith(GUARDED), request.headers.get("Origin")
    if not ours and origin is None and not _browser(request):
        return await handler(request)
    if request.headers.get("Sec-Fetch-Site") in ELSEWHERE and not _followed(request):
        raise Denied("pages of other origins may not ask here")
    check(request.headers.get("Host", ""), origin, request.secure)
    response = await handler(request)
    if ours and not response.prepared:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
    return response


def _browser(request: web.Request) -> bool:
    """Whether a browser asks for content: a name that is pointed here would let its page read."""
    named = request.headers.get("User-Agent", "").startswith(BROWSER)
    return request.path.startswith("/v2") and (named or "Sec-Fetch-Site" in request.headers)


def _followed(request: web.Request) -> bool:
    """Whether somebody has followed a link to the page."""
    return request.path.startswith("/ui") and request.headers.get("Sec-Fetch-Mode") == "navigate"


def check(host: str, origin: str | None, secure: bool, *, machine: str | None = None) -> None:
    """Raise Denied for a host that may be somebody else's, and for another origin.

    Behind TLS the certificate has proven the name. ``machine`` is this machine's name.
    """
    name = _name(host)
    if not secure and not _ours(name, (machine or socket.gethostname()).lower()):
        raise Denied(
            f"this listener is not called {name[:80]!r}: use localhost, an address, or this"
            " machine's name"
        )
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise Denied("pages of other origins may not ask here")


def _name(host: str) -> str:
    """The host without its port, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _ours(name: str, machine: str) -> bool:
    bare = name.removesuffix(".")
    return "." not in bare or bare.endswith(".localhost") or bare == machine or _address(bare)


def _address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
