"""The mounts of a process's namespace, as the kernel lists them (proc(5), mountinfo)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TABLE: Final = Path("/proc/self/mountinfo")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Line:
    """One mount: where it is, of which device (MAJOR:MINOR), which kind, from what, and how."""

    target: str
    device: str
    kind: str
    source: str
    options: str = ""


def lines(table: str) -> Iterator[Line]:
    """The mounts in a table; what is no line of one is left out."""
    for text in table.splitlines():
        words, _, rest = text.partition(" - ")
        left, right = words.split(" "), rest.split(" ")
        if len(left) >= 6 and len(right) >= 2:
            target, kind, source = (_plain(word) for word in (left[4], right[0], right[1]))
            yield Line(target, left[2], kind, source, right[2] if len(right) > 2 else "")


def on(folder: Path) -> Line | None:
    """What is mounted on a folder (the last of several); the folder itself is not touched."""
    here = str(folder)
    text = TABLE.read_bytes().decode(errors="surrogateescape")
    return next((line for line in reversed(list(lines(text))) if line.target == here), None)


def _plain(word: str) -> str:
    """A word without its escapes: blanks, line ends and backslashes come as octal numbers."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), word)
