"""What a registry wants to see before it answers: its challenge, and our reply to it.

Invariants:
- the newest challenge counts: some registries change their realm;
- our own scopes come first, and we ask for what is needed: of a challenge only what speaks of
  another thing than we do is added, and nothing of a ping's, which has placeholders;
- nothing is sent before it was asked for;
- a token that is another's is shown to the registry alone, and never to a token server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from yarl import URL

from registryd.oci.challenge import Challenge, Scope, merge, parse_challenges, parse_scopes
from registryd.oci.errors import BadAnswer
from registryd.remote.answer import Answer
from registryd.remote.logins import Logins
from registryd.remote.realm import Lookup, check_realm, look_up
from registryd.remote.token_server import basic, fetch_token
from registryd.remote.tokens import Token, TokenCache, TokenKey
from registryd.remote.transport import Transport
from registryd.secrets import Login, Secret, redact_url

#: Sets of scopes for which a registry's additions are remembered.
KEPT = 1024

Scopes = tuple[Scope, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """What goes along with a request; ``fresh`` is false for a token from the cache."""

    header: Secret
    scheme: str
    login: Login | None = field(repr=False)
    fresh: bool = True
    key: TokenKey | None = None
    token: Token | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a registry wants to see: a scheme ("" for nothing so far), and whom to ask for what."""

    scheme: str = ""
    realm: str = ""
    service: str = ""
    scopes: tuple[str, ...] = ()


class Authority:
    """How one registry is convinced, with one choice of logins."""

    def __init__(
        self,
        registry: str,
        transport: Transport,
        tokens: TokenCache,
        logins: Logins,
        lookup: Lookup = look_up,
    ) -> None:
        self.registry = registry
        self.logins = logins
        self._transport = transport
        self._tokens = tokens
        self._lookup = lookup
        self._challenge: Challenge | None = None
        self._asked_by = URL()
        self._realm = URL()
        self._added: dict[Scopes, Scopes] = {}

    @property
    def known(self) -> bool:
        """Whether the registry has said what it wants."""
        return self._challenge is not None

    @property
    def scheme(self) -> str:
        """``bearer`` or ``basic``; empty as long as nothing was asked."""
        return "" if self._challenge is None else self._challenge.scheme

    def asks(self, scopes: Scopes) -> Asked:
        """What the registry has asked for so far, where these scopes are wanted."""
        challenge = self._challenge
        if challenge is None:
            return Asked()
        if challenge.scheme == "basic":
            return Asked("basic", challenge.parameters.get("realm", ""))
        wanted = merge((*scopes, *self._added.get(scopes, ())))
        service = challenge.parameters.get("service", "")
        realm = redact_url(str(self._realm))
        return Asked("bearer", realm, service, tuple(map(str, wanted)))

    async def grant(
        self,
        repository: str,
        scopes: Scopes,
        shown: list[Login] | None = None,
        *,
        without: Login | None = None,
    ) -> Grant | None:
        """The reply for these scopes; None when nothing was asked or there is nothing to say.

        A login that is shown to anybody is added to ``shown`` first; ``without`` is not shown.
        Raises Unauthorized, Denied, RateLimited, RegistryError, ConfigInvalid, TransportError.
        """
        challenge = self._challenge
        if challenge is None:
            return None
        login = await self.logins.find(repository, without=without)
        if login is not None and shown is not None:
            shown.append(login)
        if login is not None and login.registry_token:
            # Not ours: it is shown where one is wanted, and another one cannot be had for it.
            header = Secret(f"Bearer {login.registry_token.reveal()}")
            return Grant(header, "bearer", login) if challenge.scheme == "bearer" else None
        if challenge.scheme == "basic":
            return None if login is None else Grant(basic(login), "basic", login)
        wanted = merge((*scopes, *self._added.get(scopes, ())))
        service = challenge.parameters.get("service", "")
        key = TokenKey(self._realm, service, tuple(map(str, wanted)), login)
        held = self._tokens.find(key)
        token = held or await self._fetch(key)
        header = Secret(f"Bearer {token.text.reveal()}")
        return Grant(header, "bearer", login, fresh=held is None, key=key, token=token)

    async def token(self, repository: str, scopes: Scopes) -> Secret | None:
        """The bearer token that our login is given for these scopes.

        None without a login, and where the registry gives no tokens. Raises as ``grant`` does.
        """
        grant = await self.grant(repository, scopes)
        if grant is None or grant.token is None or grant.login is None:
            return None
        return grant.token.text

    async def _fetch(self, key: TokenKey) -> Token:
        await check_realm(
            self._asked_by, key.realm, secret=key.login is not None, lookup=self._lookup
        )
        tokens = self._tokens
        return await tokens.get(
            key, lambda: fetch_token(self._transport, self.registry, key, tokens)
        )

    def drop(self, grant: Grant) -> None:
        """Forget a reply that was refused, so that the next one is made anew."""
        if grant.key is not None and grant.token is not None:
            self._tokens.drop(grant.key, grant.token)
        self.logins.forget()

    def learn(self, answer: Answer, scopes: Scopes) -> bool:
        """Take in the challenge of an answer; False when it has none that we can meet.

        No scopes are for a ping, whose challenge says nothing about scopes. Raises BadAnswer.
        """
        challenge = _choose(parse_challenges(answer.headers.getall("WWW-Authenticate", [])))
        if challenge is None:
            return False
        if challenge.scheme == "bearer":
            try:
                self._realm = answer.url.join(URL(challenge.parameters["realm"], encoded=True))
            except ValueError:
                raise BadAnswer(f"{self.registry} names a token server that is not a URL") from None
            self._add(scopes, parse_scopes(challenge.parameters.get("scope", "")))
        self._challenge = challenge
        self._asked_by = answer.url
        return True

    def _add(self, scopes: Scopes, asked: Scopes) -> None:
        ours = {(scope.kind, scope.name) for scope in scopes}
        added = tuple(scope for scope in asked if (scope.kind, scope.name) not in ours)
        if scopes and added:
            if len(self._added) >= KEPT:
                self._added.clear()
            self._added[scopes] = added


def _choose(challenges: Sequence[Challenge]) -> Challenge | None:
    """The challenge to meet: a token's before a password's, which it keeps from the registry."""
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            return challenge
    return next((challenge for challenge in challenges if challenge.scheme == "basic"), None)
