"""Users of the machine by name and number, as its user database has them. All of it blocks."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterable

from registryd.gateway.record import LARGEST_ID
from registryd.oci.errors import ConfigInvalid, UsageError


def uid_of(name: str) -> int:
    """The number of a user, given by name or number. Raises UsageError."""
    return _number(name, "user", lambda: pwd.getpwnam(name).pw_uid)


def gid_of(name: str) -> int:
    """The number of a group, given by name or number. Raises UsageError."""
    return _number(name, "group", lambda: grp.getgrnam(name).gr_gid)


def uids_of(names: Iterable[str], where: str) -> frozenset[int]:
    """The numbers of users that the configuration names. Raises ConfigInvalid."""
    try:
        return frozenset(uid_of(name) for name in names)
    except UsageError as error:
        raise ConfigInvalid(f"{where}: {error}") from error


def name_of(uid: int) -> str:
    """What a user is called; the number where nobody is."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def groups_of(uid: int, gid: int) -> frozenset[int]:
    """The groups of a user; of one whom the database does not know, the one that was shown."""
    try:
        return frozenset(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:
        return frozenset({gid})


def _number(name: str, what: str, find: Callable[[], int]) -> int:
    if name.isascii() and name.isdecimal() and int(name) <= LARGEST_ID:
        return int(name)
    try:
        return find()
    except KeyError:
        raise UsageError(f"there is no {what} {name[:60]!r} here") from None
