"""The paths of a plan, and where a name leads in the image: links are followed inside it.

Invariant: a name leads nowhere but to a path of the image, whatever its links say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from registryd.images.layers.headers import (
    DEPTH_LIMIT,
    FILE,
    FOLDER,
    PART_LIMIT,
    PATH_LIMIT,
    SYMLINK,
    Entry,
    way_of,
)
from registryd.images.layers.plan import Plan

#: How many links are followed on the way to one file, as in Linux.
_LINKS_LIMIT: Final = 40


class Names:
    """Every path of a plan, and what it is."""

    def __init__(self, plan: Plan) -> None:
        known = {named.path: named.entry for named in (*plan.folders, *plan.others)}
        for layer in plan.files:
            known.update(layer)
        known.update((path, known[first]) for path, first in plan.links if first in known)
        known.update(named for named, _ in plan.extras)
        self.known = known

    def forget(self, paths: Sequence[bytes]) -> None:
        """Leave these out, and what is below them."""
        below = tuple(each + b"/" for each in paths)
        left = self.known.items()
        self.known = {
            path: entry for path, entry in left if path not in paths and not path.startswith(below)
        }

    def file(self, path: str) -> bytes | None:
        """Where the file of this name is, links followed; None where there is none."""
        found = self.end(way_of(path.encode()))
        there = self.known.get(found) if found is not None else None
        return found if there is not None and there.kind == FILE else None

    def end(
        self, way: Sequence[bytes], make: Callable[[bytes], Entry] | None = None
    ) -> bytes | None:
        """The path that a name means once all links are followed, the last one too.

        There may be nothing; None where it can be no path. ``make`` as in ``place``.
        """
        for _ in range(_LINKS_LIMIT):
            found = self.place(way, make)
            there = self.known.get(found) if found is not None else None
            if found is None or there is None or there.kind != SYMLINK:
                return found
            above = [] if there.link.startswith(b"/") else found.split(b"/")[:-1]
            way = [*above, *(part for part in there.link.split(b"/") if part not in (b"", b"."))]
            if not way or way[-1] == b"..":
                return None
        return None

    def place(
        self, way: Sequence[bytes], make: Callable[[bytes], Entry] | None = None
    ) -> bytes | None:
        """The path of a name, links on the way to it followed; None where the way is none.

        ``make`` is given the path of a folder that is missing.
        """
        *above, name = way
        passed: list[bytes] = []
        left = list(reversed(above))
        links = 0
        while left:
            part = left.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                del passed[-1:]
                continue
            path = b"/".join((*passed, part))
            there = self.known.get(path)
            if there is not None and there.kind == SYMLINK:
                links += 1
                if links > _LINKS_LIMIT:
                    return None
                if there.link.startswith(b"/"):
                    passed = []
                left += reversed(there.link.split(b"/"))
                continue
            if there is None and make is not None and _fits((*passed, part)):
                there = self.known[path] = make(path)
            if there is None or there.kind != FOLDER:
                return None
            passed.append(part)
        return b"/".join((*passed, name)) if _fits((*passed, name)) else None


def _fits(way: Sequence[bytes]) -> bool:
    """Whether a file system takes a way to which links led."""
    if len(way) > DEPTH_LIMIT or sum(map(len, way)) + len(way) > PATH_LIMIT:
        return False
    return all(len(part) <= PART_LIMIT for part in way)
