"""What every route has at hand: the node, who asks, and which repository is meant.

Invariants:
- on the unix socket the kernel says who asks (SO_PEERCRED); root and the daemon's own user are
  its owner; on TCP a caller is the login they send, by Basic or in a token of ours, or nobody;
- a login that a client sends is used for that request's registry only, and never kept;
- who is refused on TCP before they have shown anything is asked for a token, whatever is cached.
"""

from __future__ import annotations

import base64
import binascii
import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web

from registryd.access import ANYBODY, LOCALHOST, SHOWN, Caller, Probe
from registryd.oci.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    NameUnknown,
    Unauthorized,
)
from registryd.oci.reference import Reference
from registryd.oci.routes import parse, refer
from registryd.operations import Node, Operations
from registryd.ports import Remote
from registryd.secrets import NOBODY, Login, Secret
from registryd.server.account import account_of
from registryd.server.budget import Budgets
from registryd.server.challenges import LoginWanted, local
from registryd.server.metrics import Metrics
from registryd.server.tokens import TokenInvalid, Tokens

_PEER = struct.Struct("3i")
#: The user of a Basic login whose password is an identity token.
IDENTITY = "<token>"
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
    tokens: Tokens
    budgets: Budgets
    listener: str = ""


CONTEXT = web.AppKey("context", Context)
CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)


def context_of(request: web.Request) -> Context:
    """The context of the listener that a request came in by."""
    return request.app[CONTEXT]


def caller_of(request: web.Request) -> Caller:
    """Who asks, with the login they sent, if any. Raises LoginWanted for a token of no use."""
    caller = request.get(CALLER)
    if caller is None:
        caller = request[CALLER] = _caller(request)
    return caller


def _caller(request: web.Request) -> Caller:
    account = account_of(request)
    peer, login = local(request), _shown(request)
    if peer is not None:
        _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        account.user = f"uid:{uid}"
        return Caller("" if uid in (0, os.getuid()) else f"uid:{uid}", login)
    if login is None or login == NOBODY:
        account.user = ANYBODY.principal
        return ANYBODY
    principal = context_of(request).tokens.principal(login)
    account.user = principal[:SHOWN]
    return Caller(principal, login)


def has_shown(request: web.Request) -> bool:
    """Whether a request has a login or a token, be it nobody's. Raises LoginWanted."""
    return _shown(request) is not None


def _shown(request: web.Request) -> Login | None:
    """The login that a request has, NOBODY by an anonymous token; None when it has shown nothing.

    Raises LoginWanted for a token that is not ours, or too old.
    """
    header = request.headers.get("Authorization", "")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        return basic_login(header)
    try:
        return context_of(request).tokens.open(token.strip())
    except TokenInvalid as invalid:
        raise LoginWanted(str(invalid), error="invalid_token") from None


def basic_login(header: str) -> Login | None:
    """The login in an Authorization header, None when it holds none (RFC 7617, in UTF-8)."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return login_of(username, password) if colon else None


def login_of(username: str, password: str) -> Login:
    """A login as clients write it: the user ``<token>`` has an identity token for a password."""
    if username == IDENTITY:
        return Login(identity_token=Secret(password), origin="the request")
    return Login(username, Secret(password), origin="the request")


def located(request: web.Request, repository: str, target: str = "") -> Reference:
    """The reference that a /v2 path means on this listener. Raises ReferenceInvalid."""
    default = context_of(request).default_registry
    account = account_of(request)
    reference = refer(repository, target, request.query.get("ns"), default)
    account.reference = account.reference or reference
    return reference


async def admitted(
    request: web.Request, reference: Reference, probe: Probe | None = None
) -> Remote | None:
    """The Remote for this caller and repository, None for the node's own.

    Raises as Access.admit does, and LoginWanted.
    """
    with challenged(request, reference):
        return await context_of(request).node.access.admit(caller_of(request), reference, probe)


@contextmanager
def challenged(request: web.Request, reference: Reference, actions: str = "pull") -> Iterator[None]:
    """A refusal in here is a question to a TCP client that has shown nothing: raises LoginWanted.

    ``actions`` is what the token is to be for.
    """
    try:
        yield
    except (Unauthorized, Denied, ManifestUnknown, NameUnknown, BlobUnknown) as refusal:
        known = reference.registry == LOCALHOST or local(request) is not None
        if known or has_shown(request):
            raise
        name = getattr(parse(request.path), "repository", reference.repository)
        scope = f"repository:{name}:{actions}"
        raise LoginWanted(str(refusal), scope=scope) from refusal
