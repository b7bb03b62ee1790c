"""A daemon that refuses a stored login is asked once more without it, for what is only read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from registryd.cli.backend import Event, Raw, Report
from registryd.cli.errors import DaemonRefused
from registryd.cli.stored_logins import StoredLogins
from registryd.secrets import Login, Secret


class Guarded:
    """A backend that refuses every login, with this exit code, and nobody too unless public."""

    socket: Path | None = Path("/d.sock")
    root: Path | None = None

    def __init__(self, *, public: bool = True, code: int = 3) -> None:
        self.public, self.code = public, code
        self.asked: list[Login | None] = []

    def call(
        self, operation: str, arguments: Mapping[str, Any], login: Login | None = None
    ) -> dict[str, Any]:
        self.asked.append(login)
        if login is not None or not self.public:
            raise DaemonRefused("no access", ends_with=self.code)
        return {"done": True}

    def raw(self, operation: str, arguments: Mapping[str, Any], login: Login | None = None) -> Raw:
        return Raw(str(self.call(operation, arguments, login)).encode())

    def stream(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        report: Report,
        login: Login | None = None,
    ) -> Event:
        return self.call(operation, arguments, login)

    def close(self) -> None:
        pass


def login(*, stored: bool) -> Login:
    return Login("ann", Secret("w"), origin='/a.json, key "K"', stored=stored)


@pytest.mark.parametrize("way", ["call", "raw", "stream"])
def test_what_is_public_is_given(way: str) -> None:
    """The result, and one line that names file and key."""
    daemon, told = Guarded(), list[str]()
    backend = StoredLogins(daemon, told.append)
    wanted, old = {"reference": "ghcr.io/a/b:1"}, login(stored=True)
    if way == "stream":
        backend.stream("pull", wanted, lambda event: None, old)
    else:
        getattr(backend, way)("digest", wanted, old)

    assert [old, None] == daemon.asked
    assert 1 == len(told)
    assert told[0].startswith('the login stored in /a.json, key "K" was refused by ghcr.io; ')


@pytest.mark.parametrize(
    ("operation", "stored", "public", "code", "asked", "said"),
    [
        ("pull", False, True, 3, 1, "no access"),
        ("push", True, True, 3, 1, 'no access (the login is from /a.json, key "K")'),
        ("pull", True, False, 3, 2, 'no access (the login is from /a.json, key "K")'),
        ("pull", True, True, 2, 1, "no access"),
    ],
)
def test_what_stays_refused(
    operation: str, stored: bool, public: bool, code: int, asked: int, said: str
) -> None:
    """A login that was given, a push, what is private; other errors have nothing to do with it."""
    daemon, told = Guarded(public=public, code=code), list[str]()
    with pytest.raises(DaemonRefused) as caught:
        StoredLogins(daemon, told.append).call(
            operation, {"reference": "a.io/b"}, login(stored=stored)
        )

    assert (asked, said, code, []) == (
        len(daemon.asked),
        str(caught.value),
        caught.value.ends_with,
        told,
    )
