"""What a site, a module or a device adds to what a command runs in, as values.

Invariants:
- paths are absolute and have no ``..``; a source is a path of this machine, a target one of the
  image;
- edits are applied in their order: a later bind lies on top, a later change of a variable wins;
- nothing here looks at a disk or at the environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from registryd.launch.errors import LaunchRefused

#: What can be done to a variable.
CHANGES: Final = ("set", "default", "prepend", "append", "unset")


def absolute(path: str, what: str) -> str:
    """The path in its shortest form; LaunchRefused for a relative one, or one with ``..``."""
    pure = PurePosixPath(path)
    if not path.startswith("/") or "\0" in path or ".." in pure.parts:
        raise LaunchRefused(f"{what} {path!r} is not an absolute path without ..")
    return "/" + "/".join(pure.parts[1:])


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or folder of this machine that is seen in the image; ``optional``: only if there."""

    source: str
    target: str
    read_only: bool = False
    optional: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", absolute(self.source, "the source of a bind"))
        object.__setattr__(self, "target", absolute(self.target, "the target of a bind"))


@dataclass(frozen=True, slots=True)
class Device:
    """A device node of this machine (``source``) under a path of the image."""

    source: str
    target: str
    read_only: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", absolute(self.source, "a device"))
        object.__setattr__(self, "target", absolute(self.target, "the path of a device"))


@dataclass(frozen=True, slots=True)
class EnvChange:
    """One change of the environment.

    ``default`` sets what nobody has set; ``prepend`` and ``append`` join with ``separator``.
    """

    name: str
    value: str = ""
    how: str = "set"
    separator: str = ":"

    def __post_init__(self) -> None:
        if not self.name or "=" in self.name or "\0" in self.name + self.value:
            raise LaunchRefused(f"{self.name!r} cannot be the name of a variable")
        if self.how not in CHANGES:
            raise LaunchRefused(f"{self.how!r} is no change of a variable ({', '.join(CHANGES)})")

    def applied(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment with this change."""
        changed, there = dict(env), env.get(self.name)
        if self.how == "unset":
            changed.pop(self.name, None)
        elif self.how == "set" or not there:
            if self.how != "default" or there is None:
                changed[self.name] = self.value
        elif self.how == "prepend":
            changed[self.name] = f"{self.value}{self.separator}{there}"
        elif self.how == "append":
            changed[self.name] = f"{there}{self.separator}{self.value}"
        return changed


@dataclass(frozen=True, slots=True)
class Edits:
    """All that is added, in the order in which it is applied."""

    binds: tuple[Bind, ...] = ()
    env: tuple[EnvChange, ...] = ()
    devices: tuple[Device, ...] = ()

    def __add__(self, other: Edits) -> Edits:
        return Edits(self.binds + other.binds, self.env + other.env, self.devices + other.devices)

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment with all changes, in their order."""
        changed = dict(env)
        for change in self.env:
            changed = change.applied(changed)
        return changed


def together(edits: Iterable[Edits]) -> Edits:
    """All of these as one, in their order."""
    whole = Edits()
    for each in edits:
        whole = whole + each
    return whole
