"""What a client on TCP is asked for: a token of our own realm, by ``WWW-Authenticate``.

RFC 6750, 3; the distribution project's "Token Authentication Specification". Invariants:
- the realm is this listener, by its own address; a client that came by another name of this
  machine's loopback (through a forwarded port) is sent back there, and nobody to anywhere else;
- on the unix socket the kernel knows who asks: nothing is asked for there.
"""

from __future__ import annotations

import ipaddress
import re
import socket

from aiohttp import web

from registryd.oci.errors import Unauthorized

SERVICE = "registryd"
REALM_PATH = "/token"

_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?")


class LoginWanted(Unauthorized):
    """Raised when a request should come again with a token; ``scope`` is what it is to be for."""

    def __init__(self, text: str, *, scope: str = "", error: str = "") -> None:
        super().__init__(text, status=401)
        self.scope = scope
        self.error = error


def local(request: web.Request) -> socket.socket | None:
    """The unix socket that a request came in by; None for TCP."""
    peer = request.transport.get_extra_info("socket") if request.transport else None
    return peer if peer is not None and peer.family == socket.AF_UNIX else None


def challenge(request: web.Request, wanted: LoginWanted) -> str:
    """The value of WWW-Authenticate, "" where there is nothing to ask for."""
    if local(request) is not None or request.transport is None:
        return ""
    parts = [f'realm="{request.scheme}://{_host(request)}{REALM_PATH}"', f'service="{SERVICE}"']
    parts += [f'scope="{wanted.scope}"'] if wanted.scope else []
    parts += [f'error="{wanted.error}"'] if wanted.error else []
    return "Bearer " + ",".join(parts)


def _host(request: web.Request) -> str:
    """Where the client finds this listener: as it said itself, if that is this machine."""
    said = request.headers.get("Host", "")
    match = _HOST.fullmatch(said)
    if match is not None and _is_loopback(match["host"].strip("[]")):
        return said
    assert request.transport is not None  # noqa: S101 (challenge has looked)
    host, port = request.transport.get_extra_info("sockname")[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
