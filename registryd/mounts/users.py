"""Who uses a mount: the processes that stand in it or have something of it open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROCESSES: Final = Path("/proc")
#: So many are named; more would be no line.
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class User:
    """A process, by its number and the name of its program."""

    pid: int
    name: str


def users_of(device: str) -> list[User]:
    """The processes that we may look at and that use a file system (MAJOR:MINOR)."""
    found = []
    for folder in _PROCESSES.iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                if _uses(folder, device):
                    name = (folder / "comm").read_text(errors="replace").strip()
                    found.append(User(int(folder.name), name))
    return sorted(found, key=lambda user: user.pid)


def told(users: list[User]) -> str:
    """Some of them, in words."""
    if not users:
        return "somebody whose processes we may not see"
    named = ", ".join(f"{user.name} (pid {user.pid})" for user in users[:_NAMED])
    more = len(users) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def _uses(process: Path, device: str) -> bool:
    for link in _links(process):
        with suppress(OSError):
            number = os.stat(link).st_dev
            if f"{os.major(number)}:{os.minor(number)}" == device:
                return True
    major, minor = (int(part) for part in device.split(":"))
    mapped = f" {major:02x}:{minor:02x} "
    return mapped in (process / "maps").read_text(errors="replace")


def _links(process: Path) -> Iterator[Path]:
    yield process / "cwd"
    yield process / "root"
    with suppress(OSError):
        yield from (process / "fd").iterdir()
