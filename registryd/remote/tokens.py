"""Bearer tokens: kept by what they are for, renewed before they expire, fetched once at a time.

Invariants:
- a token is used for exactly the realm, service, scopes and login that it was given for;
- for one such key one request is under way at a time; who waited for it shares its failure, so
  that a wrong password is tried once and not by every task;
- the number of tokens that are kept is bounded;
- a refresh token that a server gives in place of ours is kept in memory only, for as long as it
  is taken: what lies in a file is still good.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from yarl import URL

from registryd.remote.clock import Clock
from registryd.secrets import Login, Secret

#: A token is renewed so long before it expires, or when a quarter of its life is left.
MARGIN = 30.0
#: Tokens kept; the least recently used is forgotten first.
KEPT = 4096


@dataclass(frozen=True, slots=True)
class TokenKey:
    """What a token is for."""

    realm: URL
    service: str
    scopes: tuple[str, ...]
    login: Login | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and how many seconds it is good for from when it came."""

    text: Secret
    lifetime: float
    renewed: Secret = field(default_factory=lambda: Secret(""))


_Identity = tuple[URL, str, Login | None]


class _Turn:
    """Whose turn it is to fetch for one key, and how the last fetch failed."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.ended = 0
        self.failure: Exception | None = None


class TokenCache:
    """Tokens of all registries and logins of this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: OrderedDict[TokenKey, tuple[Token, float]] = OrderedDict()
        self._turns: WeakValueDictionary[TokenKey, _Turn] = WeakValueDictionary()
        self._renewed: OrderedDict[_Identity, Secret] = OrderedDict()

    def find(self, key: TokenKey) -> Token | None:
        """A token that is good for a while yet, or None."""
        token, until = self._tokens.get(key, (None, 0.0))
        if token is None or self._clock.monotonic() >= until:
            self._tokens.pop(key, None)
            return None
        self._tokens.move_to_end(key)
        return token

    def drop(self, key: TokenKey, token: Token) -> None:
        """Forget a token that was refused, unless another one is here by now."""
        if self._tokens.get(key, (None, 0.0))[0] is token:
            del self._tokens[key]

    def renewed(self, key: TokenKey) -> Secret | None:
        """The refresh token that was last given in place of a login's own, or None."""
        return self._renewed.get(_identity(key))

    def forget_renewed(self, key: TokenKey) -> None:
        """It is not taken any more."""
        self._renewed.pop(_identity(key), None)

    async def get(self, key: TokenKey, fetch: Callable[[], Awaitable[Token]]) -> Token:
        """The token for a key, by ``fetch`` where there is none. Raises what ``fetch`` raises."""
        token = self.find(key)
        if token is not None:
            return token
        turn = self._turns.setdefault(key, _Turn())
        began = turn.ended
        async with turn.lock:
            token = self.find(key)
            if token is not None:
                return token
            if turn.failure is not None and turn.ended > began:
                raise turn.failure
            try:
                token = await fetch()
            except Exception as error:
                turn.failure = error
                raise
            else:
                turn.failure = None
            finally:
                turn.ended += 1
            self._keep(key, token)
            return token

    def _keep(self, key: TokenKey, token: Token) -> None:
        margin = min(MARGIN, token.lifetime / 4)
        self._tokens[key] = (token, self._clock.monotonic() + token.lifetime - margin)
        while len(self._tokens) > KEPT:
            self._tokens.popitem(last=False)
        if token.renewed and key.login is not None:
            self._renewed[_identity(key)] = token.renewed
        while len(self._renewed) > KEPT:
            self._renewed.popitem(last=False)


def _identity(key: TokenKey) -> _Identity:
    return key.realm, key.service, key.login
