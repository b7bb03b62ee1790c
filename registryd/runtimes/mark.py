"""The first line of a file of ours: that it is, with a digest of the rest (pure).

Invariants:
- a text is ours only while the digest fits, so what a person changed is theirs from then on;
- the mark says how many folders were made for the file, so that undo can take them away again.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_MARK = re.compile(
    r"# Written by registryctl setup, removed by its --undo while unchanged:"
    r" sha256:(?P<hex>[0-9a-f]{64}) folders:(?P<folders>[0-9]{1,2})"
)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a mark says, and whether its file is as it was written."""

    folders: int
    unchanged: bool


def mark_line(content: str, folders: int) -> str:
    """The mark of this content."""
    return (
        "# Written by registryctl setup, removed by its --undo while unchanged:"
        f" sha256:{_hex(content)} folders:{folders}\n"
    )


def mark_of(text: str, beside: str | None = None) -> Mark | None:
    """The mark of a file with this text, in its first line or in the file beside it; or None."""
    if beside is not None:
        line, content = beside.rstrip("\n"), text
    else:
        line, _, content = text.partition("\n")
    match = _MARK.fullmatch(line)
    if match is None:
        return None
    return Mark(int(match["folders"]), match["hex"] == _hex(content))


def _hex(content: str) -> str:
    return hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()
