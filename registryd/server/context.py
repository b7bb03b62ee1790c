"""What every route has at hand: the node, who asks, and which repository is meant.

Invariants:
- on the unix socket the kernel says who asks (SO_PEERCRED); root and the daemon's own user are
  its owner; on TCP nobody is known, and sees what everybody may see;
- a login that a client sends is used for that request's registry only, and never kept.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import socket
import struct
from concurrent.futures import Executor
from dataclasses import dataclass

from aiohttp import web

from registryd.access import Caller, Probe
from registryd.oci.reference import Reference
from registryd.oci.routes import locate
from registryd.operations import Node, Operations
from registryd.ports import Remote
from registryd.secrets import Login, Secret
from registryd.server.metrics import Metrics

#: In this process's memory only: grants to logins do not outlive it.
_SALT = secrets.token_bytes(16)
_PEER = struct.Struct("3i")
ANONYMOUS = "anonymous"
#: The header by which a handler tells the request log why it did not answer; it is never sent.
CAUSE = "X-Cause"


@dataclass(frozen=True, slots=True)
class Context:
    """What the handlers of one listener share."""

    node: Node
    operations: Operations
    metrics: Metrics
    senders: Executor
    default_registry: str


CONTEXT = web.AppKey("context", Context)


def context_of(request: web.Request) -> Context:
    """The context of the listener that a request came in by."""
    return request.app[CONTEXT]


def caller_of(request: web.Request) -> Caller:
    """Who asks, with the login they sent, if any."""
    login = _login(request.headers.get("Authorization", ""))
    peer = request.transport.get_extra_info("socket") if request.transport else None
    if peer is not None and peer.family == socket.AF_UNIX:
        _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        return Caller("" if uid in (0, os.getuid()) else f"uid:{uid}", login)
    if login is None:
        return Caller(ANONYMOUS)
    words = f"{login.username}\0{login.password.reveal()}\0{login.identity_token.reveal()}"
    return Caller("login:" + hashlib.sha256(_SALT + words.encode()).hexdigest(), login)


def _login(header: str) -> Login | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    if not colon:
        return None
    if username == "<token>":
        return Login(identity_token=Secret(password), origin="the request")
    return Login(username, Secret(password), origin="the request")


def located(request: web.Request, repository: str, target: str = "") -> Reference:
    """The reference that a /v2 path means on this listener. Raises ReferenceInvalid."""
    context = context_of(request)
    registry, name = locate(repository, request.query.get("ns"), context.default_registry)
    return Reference.of(registry, name, target) if target else Reference(registry, name)


async def admitted(
    request: web.Request, reference: Reference, probe: Probe | None = None
) -> Remote | None:
    """The Remote for this caller and repository, None for the node's own. Raises as admit does."""
    return await context_of(request).node.access.admit(caller_of(request), reference, probe)
