"""Whose login a registry is asked with.

Invariants:
- the caller's own login comes before the configuration's, that before the credential files;
- a caller who is ``NOBODY`` asks without any login, whatever the node is configured with;
- what was found is kept for a short while only: a new ``login`` counts without a restart;
- a stored login that was set aside for a repository is not found for it for the same while.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from registryd.config import RegistryConfig
from registryd.oci.errors import ConfigInvalid
from registryd.remote.clock import Clock
from registryd.remote.credentials import CredentialFiles
from registryd.secrets import NOBODY, Login, Secret

#: Seconds for which a login is not looked up again: a helper program costs tens of milliseconds.
FRESH = 60.0
#: Repositories whose logins are kept; beyond it all are looked up anew.
KEPT = 1024


class Logins:
    """The login for each repository of one registry."""

    def __init__(
        self,
        registry: str,
        *,
        own: Login | None,
        config: RegistryConfig,
        files: CredentialFiles | None,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._own = own
        self._config = config
        self._files = files
        self._clock = clock
        self._found: dict[str, tuple[Login | None, float]] = {}
        self._aside: dict[tuple[str, Login], float] = {}

    async def find(self, repository: str, *, without: Login | None = None) -> Login | None:
        """The login to use for a repository, if it is not this one. Raises ConfigInvalid."""
        if self._own is not None:
            login = self._own if self._own != NOBODY else None
        else:
            login = await self._known(repository)
        if login is None or login == without:
            return None
        if self._clock.monotonic() < self._aside.get((repository, login), 0.0):
            return None
        return login

    async def _known(self, repository: str) -> Login | None:
        login, until = self._found.get(repository, (None, 0.0))
        now = self._clock.monotonic()
        if now < until:
            return login
        login = await asyncio.to_thread(self._look_up, repository)
        if len(self._found) >= KEPT:
            self._found.clear()
        self._found[repository] = (login, now + FRESH)
        return login

    def set_aside(self, repository: str, login: Login) -> bool:
        """Do without a refused login for a while; False when that was so already."""
        known = self._clock.monotonic() < self._aside.get((repository, login), 0.0)
        if len(self._aside) >= KEPT:
            self._aside.clear()
        self._aside[repository, login] = self._clock.monotonic() + FRESH
        return not known

    def forget(self) -> None:
        """Look all logins up anew when they are needed next: one was refused."""
        self._found.clear()

    def _look_up(self, repository: str) -> Login | None:
        login = configured_login(self._config)
        if login is not None or self._files is None:
            return login
        return self._files.find(self._registry, repository)


def configured_login(config: RegistryConfig) -> Login | None:
    """The login that a registry's configuration names. Raises ConfigInvalid."""
    if not config.username or config.password_file is None:
        return None
    return Login(
        config.username, read_password(config.password_file), origin=str(config.password_file)
    )


def read_password(path: Path) -> Secret:
    """The password in a file, without the line's end. Raises ConfigInvalid."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigInvalid(f"{path}: is not UTF-8 text") from None
    return Secret(text.rstrip("\r\n"))
