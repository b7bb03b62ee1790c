"""A registry at its door: who knocks with which login, and who is let in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from registryd.access import Caller
from registryd.oci.errors import Denied, RegistryError, Unauthorized
from registryd.oci.reference import Reference
from registryd.ports import Remote
from registryd.secrets import NOBODY, Login, Secret

TTL = 3600.0
NAME = Reference("ghcr.io", "team/app", "1")
ANN = Login("ann", Secret("word"), origin="the request")


@dataclass
class Door:
    """A registry that lets these logins in (NOBODY: everybody), and counts who tried.

    The node's own login, None here, is let in where ``ours``.
    """

    opens_to: tuple[Login | None, ...] = ()
    tried: list[Login | None] = field(default_factory=list)
    away: RegistryError | None = None
    ours: bool = True
    #: Whether it knows this node by the way there.
    knows: bool = False

    def knows_us(self, repository: Reference) -> bool:
        """As it was told."""
        return self.knows

    def left_alone(self) -> list[tuple[str, float, str]]:
        """Nobody."""
        return []

    def remote(self, registry: str, login: Login | None = None) -> Remote:
        if registry == "denied.example":
            raise Denied("not allowed")
        return cast(Remote, Knocking(self, login))


@dataclass(frozen=True)
class Knocking:
    door: Door
    login: Login | None

    async def resolve(self, reference: Reference) -> None:
        self.door.tried.append(self.login)
        if self.door.away:
            raise self.door.away
        if self.login is None and self.door.ours:
            return
        if self.login not in self.door.opens_to and NOBODY not in self.door.opens_to:
            raise Unauthorized("no", status=401)


@dataclass
class Time:
    now: float = 1_000_000.0


def login_of(remote: Remote | None) -> Login | None:
    """Whose login a Remote has."""
    assert isinstance(remote, Knocking)
    return remote.login


def user(number: int, login: Login | None = None) -> Caller:
    return Caller(f"uid:{number}", login)
