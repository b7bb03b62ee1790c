"""Whose quota is how large, by what the configuration says of users."""

from __future__ import annotations

import logging
import pwd
from collections.abc import Callable

from registryd.cache_config import CacheConfig

_log = logging.getLogger(__name__)

#: How the principal of a user of this machine begins.
UID = "uid:"


def quotas_of(config: CacheConfig) -> Callable[[str], int]:
    """The bytes that a principal may hold, 0: as many as they like; only users have a quota."""
    own = {f"{UID}{_uid(user)}": size for user, size in config.quotas.items()}
    return lambda owner: own.get(owner, config.user_quota) if owner.startswith(UID) else 0


def charged(principal: str) -> str:
    """Whom what a principal brings counts for: a user of this machine, "" is nobody."""
    return principal if principal.startswith(UID) else ""


def _uid(user: str) -> str:
    if user.isdecimal():
        return user
    try:
        return str(pwd.getpwnam(user).pw_uid)
    except KeyError:
        _log.warning("cache.quotas: there is no user %s here: what it says of them is left", user)
        return "-"


def user_of(owner: str) -> str:
    """What a principal is called: the user's name, where they have one."""
    try:
        return pwd.getpwuid(int(owner.removeprefix(UID))).pw_name
    except (KeyError, ValueError, OverflowError):
        return owner
