"""The logins that came with imports: in memory only, and no longer than they are needed.

Invariant: what is kept of a login that was used up is a keyed hash, by which the next one is seen
to be another.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from registryd.secrets import Login

#: Logins that were tried, of which we know that the next one is another.
TRIED: Final = 10_000

Key = tuple[str, str, int]


class Logins:
    """Logins by the import that they are for."""

    def __init__(self) -> None:
        self._logins: dict[Key, Login] = {}
        self._tried: dict[Key, bytes] = {}
        self._salt = secrets.token_bytes(16)

    def of(self, key: Key) -> Login | None:
        """The login of an import."""
        return self._logins.get(key)

    def is_new(self, key: Key, login: Login | None) -> bool:
        """Whether this is another login than the last one of an import."""
        return login is not None and self._print(login) != self._tried.get(key)

    def keep(self, key: Key, login: Login | None) -> None:
        """Keep a login for an import that goes on."""
        if login is None:
            return
        if len(self._tried) >= TRIED:
            self._tried.clear()
        self._logins[key], self._tried[key] = login, self._print(login)

    def let_go(self, key: Key) -> None:
        """Forget the login of an import that has ended."""
        self._logins.pop(key, None)

    def _print(self, login: Login) -> bytes:
        words = (login.username, login.password.reveal(), login.identity_token.reveal())
        text = "\0".join(words).encode(errors="surrogateescape")
        return hashlib.blake2b(text, key=self._salt).digest()
