"""The ``[cache]`` section: where the cache lives, its room, its scrub, and what lies below it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cache.bounds import Bounds
from cache.errors import PatternInvalid
from cache.patterns import checked
from registryd.cluster_config import FASTEST
from registryd.oci.errors import ConfigInvalid, UsageError
from registryd.tables import (
    absolute,
    duration,
    flag,
    list_of,
    rate,
    read_table,
    size,
    table_of,
    text,
    whole,
)

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,255}\$?")
#: No disk is larger: what is, is a mistake.
LARGEST = 2**60
DAY = 86400.0
#: More stores than this on one node are a mistake: each is asked for what is not here.
MOST_LOWER = 16


@dataclass(frozen=True, slots=True)
class LowerConfig:
    """A shared store; ``public``: all of it may be given to everybody on this node."""

    path: Annotated[Path, absolute]
    public: Annotated[bool, flag] = False


def _lower(raw: object) -> LowerConfig:
    """A store by its path alone, or by a table."""
    return LowerConfig(absolute(raw)) if isinstance(raw, str) else read_table(LowerConfig, raw)


def _pattern(raw: str) -> str:
    try:
        return checked(raw)
    except PatternInvalid as error:
        raise UsageError(str(error)) from error


def _user(raw: str) -> str:
    if not _USER.fullmatch(raw):
        raise UsageError("is no user (a name or a number)")
    return raw


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """``max_size`` and quotas of 0 are no bound; the marks are percent of the first.

    Every blob is read again in ``scrub`` seconds (0: none is), at no more than ``scrub_rate`` bytes
    a second (0: no limit). A month is what disks and file systems are usually given, and this rate
    leaves the slowest disk most of itself.
    ``quotas`` are of users by name or number, in place of ``user_quota``. Raises ConfigInvalid.
    """

    root: Annotated[Path, absolute]
    max_size: Annotated[int, size(0, LARGEST)] = 0
    high_water: Annotated[int, whole(1, 100)] = 90
    low_water: Annotated[int, whole(1, 100)] = 80
    min_free: Annotated[int, size(0, LARGEST)] = 0
    scrub: Annotated[float, duration(0, 3650 * DAY)] = 30 * DAY
    scrub_rate: Annotated[int, rate(0, FASTEST)] = 20 << 20
    lower: Annotated[tuple[LowerConfig, ...], list_of(_lower, "shared stores")] = ()
    user_quota: Annotated[int, size(0, LARGEST)] = 0
    quotas: Annotated[Mapping[str, int], table_of(_user, size(0, LARGEST))] = field(
        default_factory=dict
    )
    pins: Annotated[tuple[str, ...], list_of(text(_pattern), "patterns")] = ()

    def __post_init__(self) -> None:
        if self.low_water > self.high_water:
            raise ConfigInvalid("low_water is above high_water: content goes from high to low")
        paths = [each.path for each in self.lower]
        if self.root in paths:
            raise ConfigInvalid(f"lower: {self.root} is the cache itself")
        if len(set(paths)) < len(paths) or len(paths) > MOST_LOWER:
            raise ConfigInvalid(f"lower: name each store once, and {MOST_LOWER} at most")

    @property
    def bounds(self) -> Bounds:
        """The bounds of the store."""
        return Bounds(self.max_size, self.high_water, self.low_water, self.min_free)
