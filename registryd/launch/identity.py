"""Who a command is: users and groups, and what /etc/passwd and /etc/group say of them.

Invariants:
- nobody becomes more than they were: without root, the only ids are the caller's own, under
  whatever number they are seen;
- the image's own entries stay, but for those that would give the caller another name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from registryd.launch.errors import LaunchRefused

#: Largest number of a user or group (the largest of all means "none").
LARGEST_ID: Final = (1 << 32) - 2


@dataclass(frozen=True, slots=True)
class Person:
    """The caller: ids, the name, the home folder, and the names of the groups by number."""

    uid: int
    gid: int
    name: str
    home: str
    groups: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and group that a command runs as."""

    uid: int
    gid: int


def identity(user: str, person: Person, passwd: str, group: str) -> Identity:
    """Who ``--user USER[:GROUP]`` means, by number or the image's name. Raises LaunchRefused."""
    if not user:
        return Identity(person.uid, person.gid)
    name, _, of_group = user.partition(":")
    entry = _entry(passwd, name)
    if not name.isdecimal() and entry is None:
        raise LaunchRefused(f"--user {user}: the image knows no user {name!r} (write a number)")
    uid = int(name) if entry is None else int(entry[2])
    gid = 0 if entry is None else int(entry[3])
    if of_group:
        found = _entry(group, of_group)
        if not of_group.isdecimal() and found is None:
            raise LaunchRefused(
                f"--user {user}: the image knows no group {of_group!r} (write a number)"
            )
        gid = int(of_group) if found is None else int(found[2])
    if max(uid, gid) > LARGEST_ID:
        raise LaunchRefused(f"--user {user}: {max(uid, gid)} is no number of a user")
    return Identity(uid, gid)


def _entry(text: str, name: str) -> list[str] | None:
    """The line of a passwd or group file with this name, or with this number; whole ones only."""
    lines = [line.split(":") for line in text.splitlines()]
    whole = [line for line in lines if len(line) >= 4 and _numbers(line)]
    by_name = [line for line in whole if line[0] == name]
    by_number = [line for line in whole if line[2] == name]
    return next(iter(by_name + by_number), None)


def _numbers(line: Sequence[str]) -> bool:
    wanted = line[2:4] if len(line) > 4 else line[2:3]
    return all(part.isascii() and part.isdecimal() and len(part) < 11 for part in wanted)


def passwd_of(text: str, who: Identity, person: Person, home: str, shell: str) -> str:
    """The image's /etc/passwd, in which the caller has their own name and home."""
    there = _entry(text, str(who.uid))
    if who != Identity(person.uid, person.gid) or (who.uid == 0 and there is not None):
        if there is not None:
            return text
        return _with(text, f"user{who.uid}:x:{who.uid}:{who.gid}::{home}:{shell}")
    own = f"{person.name}:x:{who.uid}:{who.gid}:{person.name}:{home}:{shell}"
    return _with(text, own, taken=(person.name, str(who.uid)))


def group_of(text: str, who: Identity, person: Person) -> str:
    """The image's /etc/group, with the names of the caller's groups."""
    lines = text
    for gid, name in sorted(person.groups.items()):
        if _entry(lines, str(gid)) is None and _entry(lines, name) is None:
            lines = _with(lines, f"{name}:x:{gid}:")
    if _entry(lines, str(who.gid)) is None:
        lines = _with(lines, f"group{who.gid}:x:{who.gid}:")
    return lines


def _with(text: str, line: str, taken: Sequence[str] = ()) -> str:
    """The text with one more line, without lines whose name or number is taken."""
    kept = [each for each in text.splitlines() if not _takes(each.split(":"), taken)]
    return "\n".join([*kept, line, ""])


def _takes(parts: Sequence[str], taken: Sequence[str]) -> bool:
    return len(parts) > 2 and (parts[0] in taken[:1] or parts[2] in taken[1:])
