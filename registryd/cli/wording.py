"""Values as people read them in tables: sizes, spans of time, digests, platforms (pure).

Rounded and for the eye only; ``registryd.units`` has the exact forms that can be read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
SPANS = (
    (86400 * 365, "year"),
    (86400 * 30, "month"),
    (86400, "day"),
    (3600, "hour"),
    (60, "minute"),
)
#: Hex digits that tell two blobs apart for a person.
SHORT = 12
#: Platforms that a table names; of more it says how many there are.
NAMED_PLATFORMS = 2


def size(count: float) -> str:
    """``1.5 GiB``: three or four digits in IEC units."""
    unit = 0
    while count >= 1023.5 and unit < len(UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return (
        f"{count:.0f} {UNITS[unit]}"
        if unit == 0 or count >= 99.95
        else f"{count:.1f} {UNITS[unit]}"
    )


def rate(count: float, seconds: float) -> str:
    """``12.0 MiB/s``; of no time there is no rate."""
    return f"{size(count / seconds)}/s" if seconds > 0 else "-"


def span(seconds: float) -> str:
    """``3 hours``: the largest unit that fits, whole."""
    seconds = max(seconds, 0)  # clocks of two machines differ
    for length, name in SPANS:
        count = int(seconds // length)
        if count:
            return f"{count} {name}" + ("s" if count > 1 else "")
    whole = int(seconds)
    return f"{whole} second" + ("" if whole == 1 else "s")


def ago(moment: str, now: datetime) -> str:
    """How long before ``now`` a time of RFC 3339 was; what is not a time is given back."""
    try:
        then = datetime.fromisoformat(moment)
        return f"{span((now - then).total_seconds())} ago"
    except (TypeError, ValueError):
        return moment or "-"


def short(digest: str) -> str:
    """The first twelve hex digits of a digest."""
    return digest.partition(":")[2][:SHORT] or digest[:SHORT]


def some(platforms: Sequence[str]) -> str:
    """``linux/amd64,linux/arm64``, or the first and how many more."""
    if len(platforms) <= NAMED_PLATFORMS:
        return ",".join(platforms) or "-"
    return f"{platforms[0]} +{len(platforms) - 1}"


def counted(count: int, noun: str) -> str:
    """``1 blob``, ``3 blobs``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def percent(part: float, whole: float) -> str:
    """``42%``, and 100% only for all of it."""
    if not whole:
        return "-"
    return "100%" if part >= whole else f"{min(99, int(part * 100 / whole))}%"
