"""Who an image's program is: its USER, as the image's ``/etc/passwd`` and ``/etc/group`` say. Pure.

Image specification 1.1, property ``User``: ``user``, ``uid``, ``user:group``, ``uid:gid``, and the
other two.

Invariant: a number is itself, whether the files speak of it or not; a name that they do not have is
refused, and is never root.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from registryd.images.errors import NotMade

#: Largest number of a user or group that the kernel takes.
_ID_LIMIT: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class User:
    """The numbers of a process, and the folder that its user is at home in."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def find_user(wanted: str, passwd: bytes, group: bytes) -> User:
    """The user that a configuration names; root where it names none. Raises NotMade."""
    user, _, group_wanted = wanted.partition(":")
    user = user or "0"
    found = next(
        (row for row in _rows(passwd, 7) if user in (row[0], row[2]) and _number(row[2]) >= 0), None
    )
    uid, gid, home, name = _number(user), 0, "/", ""
    if found is not None:
        name, uid, gid, home = found[0], _number(found[2]), max(_number(found[3]), 0), found[5]
    if uid < 0:
        raise NotMade(f"the image's user {user[:60]!r} is not in its /etc/passwd")
    groups = list(_rows(group, 4))
    if group_wanted:
        return User(uid, _group(group_wanted, groups), (), home or "/")
    more = (_number(row[2]) for row in groups if name and name in row[3].split(","))
    others = sorted({each for each in more if each >= 0} - {gid})
    return User(uid, gid, tuple(others), home or "/")


def _group(wanted: str, groups: list[list[str]]) -> int:
    for row in groups:
        if wanted in (row[0], row[2]) and _number(row[2]) >= 0:
            return _number(row[2])
    if _number(wanted) < 0:
        raise NotMade(f"the image's group {wanted[:60]!r} is not in its /etc/group")
    return _number(wanted)


def _rows(content: bytes, fields: int) -> Iterator[list[str]]:
    """The lines of a file that have all their fields."""
    for line in content.decode("utf-8", "replace").splitlines():
        row = line.strip().split(":")
        if len(row) >= fields and not line.startswith("#"):
            yield row


def _number(text: str) -> int:
    """A number that the kernel takes; -1 for all else."""
    plain = text.isascii() and text.isdecimal() and len(text) <= len(str(_ID_LIMIT))
    value = int(text) if plain else -1
    return value if value <= _ID_LIMIT else -1
