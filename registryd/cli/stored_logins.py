"""A daemon that is shown the user's stored logins: one that is refused does not stand in the way.

The daemon takes each login it is shown at its word, and tells nobody more than that login may see.
So it is here that a stale one is done without, as a command without a daemon does.
Invariants:
- only a login that was found in a file or by a helper is done without, and only to read;
- without it the daemon gives what it gives to this user who has shown nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from registryd.cli.backend import Backend, Event, Raw, Report
from registryd.cli.errors import DaemonRefused
from registryd.secrets import Login

#: Operations that only read; a login that may write is wanted for the others.
READING = frozenset(
    {"pull", "convert", "digest", "manifest", "config", "tags", "referrers", "open", "pin"}
)
#: The exit code of "no access".
NO_ACCESS = 3

T = TypeVar("T")


class StoredLogins:
    """A Backend that asks again without a stored login that was refused."""

    def __init__(self, backend: Backend, warned: Callable[[str], None]) -> None:
        self._backend = backend
        self._warned = warned
        self.socket: Path | None = backend.socket
        self.root: Path | None = backend.root

    def call(
        self, operation: str, arguments: Mapping[str, Any], login: Login | None = None
    ) -> dict[str, Any]:
        """As the backend does. Raises Fault."""
        ask = self._backend.call
        return self._ask(operation, arguments, login, lambda one: ask(operation, arguments, one))

    def raw(self, operation: str, arguments: Mapping[str, Any], login: Login | None = None) -> Raw:
        """As the backend does. Raises Fault."""
        ask = self._backend.raw
        return self._ask(operation, arguments, login, lambda one: ask(operation, arguments, one))

    def stream(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        report: Report,
        login: Login | None = None,
    ) -> Event:
        """As the backend does. Raises Fault."""
        ask = self._backend.stream
        return self._ask(
            operation, arguments, login, lambda one: ask(operation, arguments, report, one)
        )

    def opened(self, reference: str, digest: str, login: Login | None = None) -> int:
        """As the backend does. Raises Fault."""
        ask = self._backend.opened
        arguments = {"reference": reference}
        return self._ask("open", arguments, login, lambda one: ask(reference, digest, one))

    def close(self) -> None:
        """Give back what is held."""
        self._backend.close()

    def _ask(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        login: Login | None,
        ask: Callable[[Login | None], T],
    ) -> T:
        try:
            return ask(login)
        except DaemonRefused as error:
            if login is None or not login.stored or error.ends_with != NO_ACCESS:
                raise
            told = DaemonRefused(
                f"{error} (the login is from {login.origin})", ends_with=error.ends_with
            )
            if operation not in READING:
                raise told from error
            refused = error
        try:
            result = ask(None)
        except DaemonRefused as error:
            raise (told if error.ends_with == NO_ACCESS else error) from refused
        name = str(arguments.get("reference") or arguments.get("repository", ""))
        registry = name.partition("/")[0]
        self._warned(
            f"the login stored in {login.origin} was refused by {registry}; went on without it, as"
            f" {name} is public: run registryctl logout {registry}"
        )
        return result
