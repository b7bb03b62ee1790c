"""The token realm of this node's TCP listeners, and the ping by which clients learn of it.

Docker's "Token Authentication Specification" (GET) and "OAuth2 Token Authentication" (POST).
Invariants:
- nothing is verified here: a request for a token names no registry when it comes from a client
  that says ``ns``, so the token carries the login to where it is used and tried;
- whoever sends no login gets a token too, nobody's: with it a "no" is final, not a question.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from aiohttp import web

from registryd.oci.errors import UsageError
from registryd.secrets import NOBODY, Login, Secret
from registryd.server.challenges import REALM_PATH, LoginWanted, local
from registryd.server.context import basic_login, caller_of, context_of, has_shown, login_of
from registryd.server.tokens import LIFETIME
from registryd.transfer.library import LOCALHOST


def add_routes(app: web.Application) -> None:
    """Put the realm into an application."""
    app.router.add_get(REALM_PATH, _by_query)
    app.router.add_post(REALM_PATH, _by_form)


def ping(request: web.Request) -> web.StreamResponse:
    """Say that this is a registry; on TCP, to whoever has shown who they are.

    Many clients learn from the ping alone that they may log in. A listener of the node's own
    registry has no one to log in to. Raises LoginWanted.
    """
    caller_of(request)
    open_door = context_of(request).default_registry == LOCALHOST
    if not open_door and local(request) is None and not has_shown(request):
        raise LoginWanted("ask for a token first; anybody gets one")
    return web.Response(body=b"{}", content_type="application/json")


async def _by_query(request: web.Request) -> web.StreamResponse:
    """A token for the login in the Authorization header. Raises UsageError."""
    header = request.headers.get("Authorization")
    login = NOBODY if header is None else basic_login(header)
    if login is None:
        raise UsageError("the Authorization header is not a login (Basic, in UTF-8)")
    return _token(request, login)


async def _by_form(request: web.Request) -> web.StreamResponse:
    """A token for the login in a form. Raises UsageError."""
    try:
        pairs = parse_qsl((await request.read()).decode(), True, errors="strict")
    except ValueError:
        raise UsageError("the body must be a form in UTF-8") from None
    form = dict(pairs)
    match form.get("grant_type"):
        case "password":
            login = login_of(form.get("username", ""), form.get("password", ""))
        case "refresh_token" if form.get("refresh_token"):
            login = Login(identity_token=Secret(form["refresh_token"]), origin="the request")
        case _:
            raise UsageError("grant_type must be password, or refresh_token with its token")
    return _token(request, login)


def _token(request: web.Request, login: Login) -> web.StreamResponse:
    token = context_of(request).tokens.seal(login)
    body = {
        "token": token,
        "access_token": token,
        "expires_in": LIFETIME,
        "issued_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return web.Response(
        body=json.dumps(body).encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
