"""Plain tables: values under headings, aligned, two spaces apart (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registryd.cli.errors import printable

GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and the side on which the values stand."""

    heading: str
    right: bool = False


def layout(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, headings first; no line ends with blanks."""
    cells = [[column.heading for column in columns]]
    cells += [[printable(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [_line(columns, row, widths) for row in cells]


def _line(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        value.rjust(width) if column.right else value.ljust(width)
        for column, value, width in zip(columns, row, widths, strict=True)
    )
    return GAP.join(padded).rstrip()
