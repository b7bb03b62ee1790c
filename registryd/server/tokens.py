"""Tokens of this node: a login, sealed, on its way through a client and back to us.

Invariants:
- a token proves nothing: it carries a login (or nobody's), which is tried where it is used;
- only this cache can read its tokens, and only for ``LIFETIME`` seconds; they outlive a restart;
- what a login is called in grants and logs is a salted hash of all of it: neither the name nor
  the password can be read from it or tried against it without the cache's own secret.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from registryd.access import LOGIN
from registryd.oci.errors import Unauthorized
from registryd.secrets import Login, Secret

#: Seconds for which a token is good.
LIFETIME: Final = 900


class TokenInvalid(Unauthorized):
    """Raised when a token is not ours, or is too old."""


class Tokens:
    """The tokens and principals of one cache, by its two secrets (32 bytes each)."""

    def __init__(self, key: bytes, salt: bytes, clock: Callable[[], float] = time.time) -> None:
        self._box = Fernet(base64.urlsafe_b64encode(key))
        self._salt = salt
        self._clock = clock

    def seal(self, login: Login) -> str:
        """A token that carries this login."""
        return self._box.encrypt_at_time(_written(login), int(self._clock())).decode()

    def open(self, token: str) -> Login:
        """The login that a token carries. Raises TokenInvalid."""
        try:
            raw = self._box.decrypt_at_time(token, LIFETIME, int(self._clock()))
        except (InvalidToken, ValueError):  # the latter for what is not ASCII
            raise TokenInvalid("this token is not valid here, or not any more") from None
        username, password, identity = json.loads(raw)
        return Login(username, Secret(password), Secret(identity), origin="the request")

    def principal(self, login: Login) -> str:
        """What a login is called where it is not to be seen."""
        return LOGIN + hmac.digest(self._salt, _written(login), "sha256").hex()


def _written(login: Login) -> bytes:
    """A login in the one form that we write."""
    words = [login.username, login.password.reveal(), login.identity_token.reveal()]
    return json.dumps(words, ensure_ascii=False, separators=(",", ":")).encode()
