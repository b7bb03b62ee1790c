"""Asking a token server for a token.

GET with Basic for a password or for nobody; POST (OAuth 2) for an identity token. Many servers
know only one of the two, so a refusal is tried the other way once.
Invariants:
- nothing of a login or token is in any error;
- a POST, which carries the login in its body, is never redirected.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

from yarl import URL

from registryd.oci.errors import BadAnswer, RateLimited, RegistryError, Unauthorized
from registryd.remote.answer import Answer
from registryd.remote.credential_helper import TOKEN_USER
from registryd.remote.tokens import Token, TokenCache, TokenKey
from registryd.remote.transport import Request, Transport
from registryd.secrets import Login, Secret

#: Tokens of some clouds are over 10 KiB; this is what other clients allow.
TOKEN_BODY_LIMIT = 128 * 2**10
#: "For compatibility ... set to 60 seconds" (distribution project, "Token Authentication").
SHORTEST_LIFE = 60.0
#: A lifetime above this is a mistake of the server's, or not a number we can count with.
LONGEST_LIFE = 24 * 3600.0
#: Refusals that may mean "ask me the other way".
OTHER_WAY = frozenset({400, 401, 403, 404, 405})

CLIENT_ID = "registryd"
#: The user under whose name Azure's tools keep an identity token as a password.
NULL_USER = "00000000-0000-0000-0000-000000000000"


def basic(login: Login) -> Secret:
    """The Authorization header for a login."""
    username, password = login.username, login.password
    if login.identity_token and not password:
        username, password = username or TOKEN_USER, login.identity_token
    plain = f"{username}:{password.reveal()}"
    return Secret("Basic " + base64.b64encode(plain.encode()).decode())


async def fetch_token(
    transport: Transport, registry: str, key: TokenKey, tokens: TokenCache
) -> Token:
    """A fresh token. Raises Unauthorized, RateLimited, RegistryError, BadAnswer, TransportError.

    ``tokens`` knows whether a refresh token was given in place of the login's own.
    """
    login = key.login
    refusal: RegistryError | None = None
    for request, renewed in _ways(key, tokens.renewed(key)):
        async with transport.send(request) as answer:
            if answer.status == 200:
                return _parse(await answer.plain(TOKEN_BODY_LIMIT), answer.host)
            refused = await _refusal(answer, registry, login)
        if renewed:
            tokens.forget_renewed(key)
            continue
        # The first way is the proper one, but "no such way" says less than "wrong password".
        if refusal is None or isinstance(refused, Unauthorized):
            refusal = refusal if isinstance(refusal, Unauthorized) else refused
        if refused.status not in OTHER_WAY:
            break
    assert refusal is not None  # noqa: S101 - there is at least one way
    raise refusal


def _ways(key: TokenKey, renewed: Secret | None) -> list[tuple[Request, bool]]:
    """The requests to try in turn; true for one with a renewed refresh token."""
    login = key.login
    if login is None:
        return [(_by_get(key), False)]
    get, post = (_by_get(key), False), (_by_post(key, login), False)
    if not login.identity_token:
        return [get, post]
    if renewed is None:
        return [post, get]
    return [(_by_post(key, replace(login, identity_token=renewed)), True), post, get]


def _by_get(key: TokenKey) -> Request:
    pairs = [("service", key.service)] if key.service else []
    pairs += [("scope", scope) for scope in key.scopes]
    pairs.append(("client_id", CLIENT_ID))
    if key.login is not None and key.login.username:
        pairs.append(("account", key.login.username))
    glue = "&" if key.realm.raw_query_string else "?"
    url = URL(f"{key.realm}{glue}{urlencode(pairs, quote_via=quote, safe='')}", encoded=True)
    return Request("GET", url, login=None if key.login is None else basic(key.login))


def _by_post(key: TokenKey, login: Login) -> Request:
    form = {"client_id": CLIENT_ID, "service": key.service, "scope": " ".join(key.scopes)}
    refresh = login.identity_token or (login.username == NULL_USER and login.password)
    if refresh:
        form |= {"grant_type": "refresh_token", "refresh_token": refresh.reveal()}
    else:
        form |= {"grant_type": "password", "username": login.username}
        form |= {"password": login.password.reveal()}
    body = urlencode({name: value for name, value in form.items() if value}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return Request("POST", key.realm, headers, body=body, follow=False)


def _parse(raw: bytes, host: str) -> Token:
    try:
        content: Any = json.loads(raw)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise BadAnswer(f"the token server {host} did not answer with a JSON object")
    for member in ("token", "access_token"):
        text = content.get(member)
        # What is not plain ASCII cannot stand in a header.
        if isinstance(text, str) and text and text.isascii() and text.isprintable():
            renewed = content.get("refresh_token")
            fresh = Secret(renewed if isinstance(renewed, str) else "")
            return Token(Secret(text), _lifetime(content.get("expires_in")), fresh)
    raise BadAnswer(f"the token server {host} gave no token")


def _lifetime(value: object) -> float:
    """Seconds from now: ``issued_at`` is by a clock that is not ours, so it is not used."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return SHORTEST_LIFE
    return float(min(max(value, SHORTEST_LIFE), LONGEST_LIFE))


async def _refusal(answer: Answer, registry: str, login: Login | None) -> RegistryError:
    entries = await answer.errors()
    said = entries[0].message or entries[0].code if entries else f"status {answer.status}"
    where = f"its token server {answer.host} says: {said}"
    if answer.status == 429:
        text = f"{registry} gives no token now (too many requests); {where}"
        return RateLimited(text, status=429, entries=entries)
    if answer.status not in OTHER_WAY - {404, 405}:
        text = f"{registry} gives no token; {where}"
        return RegistryError(text, status=answer.status, entries=entries)
    return Unauthorized(
        refused_login(registry, login, where), status=answer.status, entries=entries
    )


def refused_login(registry: str, login: Login | None, why: str) -> str:
    """The line for people whose login was refused, or who have none."""
    if login is None:
        return f"{registry} wants a login; {why}; run registryctl login {registry}"
    who = f"user {login.username!r}" if login.username else "an identity token"
    origin = f" from {login.origin}" if login.origin else ""
    return (
        f"{registry} refused the credentials of {who}{origin}: {why}; "
        f"run registryctl login {registry}"
    )
