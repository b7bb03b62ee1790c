"""What ``cache df`` shows: a row and a bar for each image, and where the room goes in all (pure).

Invariants:
- a bar is as long as its image is large beside the largest; its first part is the image's own;
- on a terminal no row is wider than the terminal, if that has room for the numbers at all: names
  lose their beginning first, for the end tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from registryd.cli import wording
from registryd.cli.tables import GAP, Column, layout

NAME = "IMAGE"
NUMBERS = ("SIZE", "UNIQUE", "SHARED")
#: A bar is at least as wide as its heading; one beyond this shows nothing more.
LONGEST_BAR = 40
#: What of a name is shown however narrow the terminal is.
SHORTEST_NAME = 12


@dataclass(frozen=True, slots=True)
class Look:
    """How it may look: columns of the terminal (0: there is none), and whether it has blocks."""

    width: int = 0
    blocks: bool = False

    @property
    def marks(self) -> tuple[str, str, str]:
        """What stands for a cell of the image's own, for a shared one, and for a name's rest."""
        return ("\N{FULL BLOCK}", "\N{LIGHT SHADE}", "…") if self.blocks else ("#", "-", "...")


def table(images: Sequence[dict[str, Any]], look: Look) -> list[str]:
    """The lines of images, an image with several names once."""
    rows = _rows(images)
    own, shared, rest = look.marks
    legend = f"{own} {NUMBERS[1]} {shared} {NUMBERS[2]}"
    taken = sum(
        len(GAP) + max(len(heading), *(len(row[1][at]) for row in rows))
        for at, heading in enumerate(NUMBERS)
    ) + len(GAP)
    longest = max(len(NAME), *(len(row[0]) for row in rows))
    left = look.width - taken - len(legend)
    most = max(left, SHORTEST_NAME) if look.width else longest
    bar = min(max(len(legend), left + len(legend) - longest), LONGEST_BAR)
    largest = max(size for _, _, size, _ in rows)
    columns = (Column(NAME), *(Column(each, right=True) for each in NUMBERS), Column(legend))
    return layout(
        columns,
        [
            (_cut(name, most, rest), *numbers, _bar(size, mine, largest, bar, (own, shared)))
            for name, numbers, size, mine in rows
        ],
    )


def _rows(images: Sequence[dict[str, Any]]) -> list[tuple[str, tuple[str, ...], int, int]]:
    """By image: its name (and how many more it has), the numbers as texts, size, own size."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for image in images:
        alike.setdefault(str(image.get("digest") or image.get("reference")), []).append(image)
    rows = []
    for first, *others in alike.values():
        sizes = [int(first.get(key) or 0) for key in ("size", "own_size", "shared_size")]
        name = str(first.get("reference") or "-") + (f" +{len(others)}" if others else "")
        rows.append((name, tuple(map(wording.size, sizes)), sizes[0], sizes[1]))
    return rows


def _cut(name: str, most: int, rest: str) -> str:
    return name if len(name) <= most else rest + name[len(name) - most + len(rest) :]


def _bar(size: int, own: int, largest: int, width: int, marks: tuple[str, str]) -> str:
    if not size or not largest:
        return ""
    cells = max(1, round(width * size / largest))
    mine = round(cells * own / size)
    return marks[0] * mine + marks[1] * (cells - mine)


def facts(df: dict[str, Any]) -> list[tuple[str, str]]:
    """Where the room goes in all; what a daemon does not tell is left out."""
    size = df.get("size") or 0
    return [
        ("cache", str(df.get("root", "-"))),
        ("blobs", f"{df.get('blobs', '-')}, {wording.size(size)}"),
        *_sizes(df, ("of one image alone", "unique_size"), ("shared by images", "shared_size")),
        *_sizes(df, ("used by no image", "unreferenced")),
        *([("other", wording.size(df["other_size"]))] if df.get("other_size") else []),
        *_saved(df),
        *_sizes(df, ("made here", "made_size"), ("may go when needed", "reclaimable")),
        *_sizes(df, ("arriving", "ingest"), ("put aside", "quarantine")),
        *_bound(df),
        *_sizes(df, ("free on the disk", "free")),
    ]


def _sizes(df: dict[str, Any], *wanted: tuple[str, str]) -> list[tuple[str, str]]:
    return [(words, wording.size(df[key])) for words, key in wanted if df.get(key) is not None]


def _saved(df: dict[str, Any]) -> list[tuple[str, str]]:
    """What sharing saves, of what the images would take with nothing in common."""
    saved = df.get("saved")
    if saved is None:
        return []
    alone = saved + (df.get("unique_size") or 0) + (df.get("shared_size") or 0)
    percent = f" of {wording.size(alone)} ({100 * saved / alone:.0f} %)" if alone else ""
    return [("saved by sharing", f"{wording.size(saved)}{percent}")]


def _bound(df: dict[str, Any]) -> list[tuple[str, str]]:
    bounds = []
    if df.get("max_size"):
        marks = f"{df.get('high_water')} % to {df.get('low_water')} %"
        bounds.append(f"at most {wording.size(df['max_size'])} (images go from {marks})")
    if df.get("min_free"):
        bounds.append(f"{wording.size(df['min_free'])} stay free")
    return [("bounds", ", ".join(bounds))] if bounds else []
