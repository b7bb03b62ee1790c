"""The bytes of a plan's files, in the plan's order: each layer is read once more, from its start.

Invariant: memory is bounded by one piece, however large a file or its holes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from registryd.images.inflate import Readable
from registryd.images.layers.headers import Entry
from registryd.images.layers.plan import Named, Plan
from registryd.images.layers.reading import PIECE, Stretches

#: Gives the tar of a layer from its beginning.
Opener = Callable[[], Readable]

NOTHING: Final = bytes(PIECE)


def each_file(
    plan: Plan, openers: Sequence[Opener], where: str
) -> Iterator[tuple[Named, Iterator[bytes]]]:
    """Each file with its bytes, which may be left unread. Raises NotAnImage, PathUnusable."""
    for number, files in enumerate(plan.files):
        if not files:
            continue
        stretches = Stretches(openers[number](), f"{where}, layer {number + 1}")
        for named in files:
            stretches.skip(named.entry.offset - stretches.position)
            yield named, _pieces(stretches, named.entry)


def _pieces(stretches: Stretches, entry: Entry) -> Iterator[bytes]:
    if entry.holes is None:
        yield from stretches.pieces(entry.size)
        return
    at = 0
    for offset, count in entry.holes.stored:
        yield from _zeros(offset - at)
        yield from stretches.pieces(count)
        at = offset + count
    yield from _zeros(entry.holes.size - at)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield NOTHING[:count]
        count -= PIECE
