"""A scripted token server: anonymous, by password, by identity token; it counts each.

Where servers differ, ``traits`` says how (see ``tests.fakes.traits``).
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from urllib.parse import parse_qs, parse_qsl

from aiohttp import web

from tests.fakes.http import FakeServer, Reply, reply
from tests.fakes.traits import TokenTraits


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
        #: How often each token may still be used, where that is bounded.
        self.left: dict[str, int] = {}
        self.traits = TokenTraits()
        #: The scopes of each request, as they came.
        self.scopes: list[tuple[str, ...]] = []

    def behave(self, traits: TokenTraits) -> None:
        """Take on the ways of a token server."""
        self.traits = traits
        self.member, self.members = traits.member, dict(traits.members)

    def revoke(self) -> None:
        """No token that was issued is good any more."""
        self.issued.clear()

    def granted(self, token: str) -> set[str] | None:
        """What a token is for that is shown now, once more; None when it is not good."""
        if token in self.left:
            self.left[token] -= 1
            if self.left[token] < 0:
                self.issued.pop(token, None)
        return self.issued.get(token)

    async def respond(self, request: web.BaseRequest) -> Reply:
        if request.method == "POST":
            return self._post(dict(parse_qsl((await request.read()).decode())))
        query = parse_qs(request.rel_url.raw_query_string)
        wanted = tuple(query.get("scope", []))
        if not self._understands(wanted):
            return reply(400, '{"errors":[{"code":"DENIED","message":"invalid scope"}]}')
        header = request.headers.get("Authorization", "")
        if not header:
            if not self.anonymous:
                return self._refuse()
            granted = [s for s in wanted if s.endswith(":pull")]
            if self.traits.anonymous_push != 200 and len(granted) < len(wanted):
                self.counts["refused"] += 1
                return reply(
                    self.traits.anonymous_push, '{"errors":[{"code":"DENIED","message":"denied"}]}'
                )
            return self._issue("anonymous", wanted, granted)
        user, password = decode_basic(header)
        if self.users.get(user) != password or not password:
            return self._refuse()
        return self._issue("basic", wanted, list(wanted))

    def _post(self, form: dict[str, str]) -> Reply:
        if not self.post or self.traits.post != 200:
            return reply(405 if not self.post else self.traits.post)
        wanted = tuple(form.get("scope", "").split())
        if form.get("grant_type") == "refresh_token" and form["refresh_token"] in self.refresh:
            return self._issue("refresh", wanted, list(wanted))
        known = self.users.get(form.get("username", ""))
        if form.get("grant_type") == "password" and not self.traits.password:
            return reply(400, '{"error":"unsupported_grant_type"}')
        if form.get("grant_type") == "password" and known == form["password"]:
            return self._issue("password", wanted, list(wanted))
        return self._refuse()

    def _understands(self, wanted: tuple[str, ...]) -> bool:
        parts = [scope.split(":") for scope in wanted]
        projects = {part[1].partition("/")[0] for part in parts if part[0] == "repository"}
        if self.traits.one_project and len(projects) > 1:
            return False
        actions = {action for part in parts for action in part[-1].split(",")}
        return not actions & self.traits.unknown_actions

    def _refuse(self) -> Reply:
        self.counts["refused"] += 1
        body = {"errors": [{"code": "UNAUTHORIZED", "message": "bad user or password"}]}
        return reply(401, json.dumps(body), Content_Type="application/json")

    def _issue(self, way: str, wanted: tuple[str, ...], granted: list[str]) -> Reply:
        self.counts[way] += 1
        self.scopes.append(wanted)
        token = f"token-{sum(self.counts.values())}-{way}"
        self.issued[token] = set(granted)
        if self.traits.uses is not None:
            self.left[token] = self.traits.uses
        body = {self.member: token} | self.members
        return reply(200, json.dumps(body), Content_Type="application/json")
