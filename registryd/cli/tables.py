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
    line = GAP.join(
        f"{{:{'>' if column.right else '<'}{width}}}"
        for column, width in zip(columns, widths, strict=True)
    )
    return [line.format(*row).rstrip() for row in cells]
