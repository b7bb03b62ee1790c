"""A scripted token server: anonymous, by password, by identity token; it counts each."""

from __future__ import annotations

import base64
import json
from collections import Counter
from urllib.parse import parse_qs, parse_qsl

from aiohttp import web

from tests.fakes.http import FakeServer, Reply, reply


def decode_basic(header: str) -> tuple[str, str]:
    """User and password of an Authorization header; empty when it is not Basic."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    user, _, password = base64.b64decode(encoded).decode().partition(":")
    return user, password


class FakeTokenServer(FakeServer):
    """Issues tokens that say which scopes they are for.

    ``users`` are names with passwords; ``refresh`` the identity tokens that are taken by POST.
    Nobody gets ``pull`` when ``anonymous`` is true.
    """

    def __init__(self, *, users: dict[str, str] | None = None, anonymous: bool = True) -> None:
        super().__init__()
        self.users = users or {}
        self.refresh: set[str] = set()
        self.anonymous = anonymous
        self.post = True
        self.members: dict[str, object] = {"expires_in": 300}
        self.member = "token"
        #: How often each way was taken: anonymous, basic, refresh, password, refused.
        self.counts: Counter[str] = Counter()
        #: Tokens that are good now, with the scopes each one is for.
        self.issued: dict[str, set[str]] = {}
        #: The scopes of each request, as they came.
        self.scopes: list[tuple[str, ...]] = []

    def revoke(self) -> None:
        """No token that was issued is good any more."""
        self.issued.clear()

    async def respond(self, request: web.BaseRequest) -> Reply:
        if request.method == "POST":
            return self._post(dict(parse_qsl((await request.read()).decode())))
        query = parse_qs(request.rel_url.raw_query_string)
        wanted = tuple(query.get("scope", []))
        header = request.headers.get("Authorization", "")
        if not header:
            if not self.anonymous:
                return self._refuse()
            granted = [s for s in wanted if s.endswith(":pull")]
            return self._issue("anonymous", wanted, granted)
        user, password = decode_basic(header)
        if self.users.get(user) != password or not password:
            return self._refuse()
        return self._issue("basic", wanted, list(wanted))

    def _post(self, form: dict[str, str]) -> Reply:
        if not self.post:
            return reply(405)
        wanted = tuple(form.get("scope", "").split())
        if form.get("grant_type") == "refresh_token" and form["refresh_token"] in self.refresh:
            return self._issue("refresh", wanted, list(wanted))
        known = self.users.get(form.get("username", ""))
        if form.get("grant_type") == "password" and known == form["password"]:
            return self._issue("password", wanted, list(wanted))
        return self._refuse()

    def _refuse(self) -> Reply:
        self.counts["refused"] += 1
        body = {"errors": [{"code": "UNAUTHORIZED", "message": "bad user or password"}]}
        return reply(401, json.dumps(body), Content_Type="application/json")

    def _issue(self, way: str, wanted: tuple[str, ...], granted: list[str]) -> Reply:
        self.counts[way] += 1
        self.scopes.append(wanted)
        token = f"token-{sum(self.counts.values())}-{way}"
        self.issued[token] = set(granted)
        body = {self.member: token} | self.members
        return reply(200, json.dumps(body), Content_Type="application/json")
