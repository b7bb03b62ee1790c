"""What is on its way to a node, as people read it: one row a fetch (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from registryd.cli import wording
from registryd.cli.tables import Column

Flight = Mapping[str, Any]

#: What every table of fetches begins with.
FIRST = (
    Column("FETCHING"),
    Column("REPOSITORY"),
    Column("SOURCE"),
    Column("THERE", right=True),
    Column("OF", right=True),
    Column("DONE", right=True),
)
COLUMNS = (*FIRST, Column("RATE", right=True), Column("READERS", right=True))


def first(flight: Flight) -> list[str]:
    """The cells of a fetch in the columns ``FIRST``."""
    offset, total = flight.get("offset") or 0, flight.get("total")
    return [
        wording.short(_text(flight, "digest")),
        _text(flight, "repository"),
        _text(flight, "source"),
        wording.size(offset),
        "-" if total is None else wording.size(total),
        wording.percent(offset, total or 0),
    ]


def nearest(flight: Flight) -> tuple[bool, float]:
    """By this, the fetch that is nearest to its end comes first."""
    total = flight.get("total")
    return total is None, (total or 0) - (flight.get("offset") or 0)


class Pace:
    """How fast each fetch goes: since the last look at it, or since it began."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def row(self, flight: Flight) -> list[str]:
        """The row of a fetch as it is now."""
        rate = self._rate(_text(flight, "digest"), flight)
        return [*first(flight), rate, str(flight.get("waiters") or 0)]

    def _rate(self, digest: str, flight: Flight) -> str:
        received, seconds = float(flight.get("received") or 0), float(flight.get("seconds") or 0)
        before = self._last.get(digest, (0.0, 0.0))
        self._last[digest] = (received, seconds)
        if before[0] > received or before[1] > seconds:  # another fetch of the same content
            before = (0.0, 0.0)
        return wording.rate(received - before[0], seconds - before[1])

    def rows(self, flights: Sequence[Flight]) -> list[list[str]]:
        """The rows of all, those that are nearest to their end first."""
        for gone in self._last.keys() - {_text(flight, "digest") for flight in flights}:
            del self._last[gone]
        return [self.row(flight) for flight in sorted(flights, key=nearest)]


def _text(flight: Flight, key: str) -> str:
    return str(flight.get(key) or "-")
