"""The files of an image, looked at from outside without ever leaving it.

Invariants:
- a link is followed by us, one step at a time and inside the image's root: an absolute target
  begins at that root, ``..`` ends there. The kernel follows none;
- whatever is not there, cannot be read or turns in circles is simply not there.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Links in one path: as many as Linux follows.
LINKS_LIMIT: Final = 40
#: Names in one path, links and all.
STEPS_LIMIT: Final = 1000
#: Names in one folder that are looked at.
NAMES_LIMIT: Final = 20_000


class ImageTree:
    """The tree below one folder, which is the root of an image."""

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root).rstrip("/")

    def resolve(self, path: str) -> str | None:
        """The path without links of what ``path`` is in the image; None where there is nothing."""
        waiting = path.split("/")[::-1]
        done: list[str] = []
        links, steps = 0, 0
        while waiting:
            name = waiting.pop()
            steps += 1
            if steps > STEPS_LIMIT or "\0" in name:
                return None
            if name in ("", "."):
                continue
            if name == "..":
                done = done[:-1]
                continue
            here = self.outside("/".join(["", *done, name]))
            try:
                mode = os.lstat(here).st_mode
                if not stat.S_ISLNK(mode):
                    if any(each not in ("", ".") for each in waiting) and not stat.S_ISDIR(mode):
                        return None
                    done.append(name)
                    continue
                target = os.readlink(here)
            except (OSError, ValueError):
                return None
            links += 1
            if links > LINKS_LIMIT:
                return None
            done = [] if target.startswith("/") else done
            waiting += target.split("/")[::-1]
        return "/" + "/".join(done)

    def outside(self, resolved: str) -> str:
        """Where a path that ``resolve`` gave is on this machine."""
        return self._root + resolved

    def kind(self, path: str) -> str:
        """``file``, ``folder``, ``other`` or ``none``."""
        resolved = self.resolve(path)
        if resolved is None:
            return "none"
        try:
            mode = os.lstat(self.outside(resolved)).st_mode
        except OSError:
            return "none"
        if stat.S_ISDIR(mode):
            return "folder"
        return "file" if stat.S_ISREG(mode) else "other"

    def names(self, folder: str) -> tuple[str, ...]:
        """The names in a folder, sorted; none where there is no such folder."""
        resolved = self.resolve(folder)
        try:
            return () if resolved is None else self._listed(resolved)
        except OSError:
            return ()

    def _listed(self, resolved: str) -> tuple[str, ...]:
        with os.scandir(self.outside(resolved)) as entries:
            found = [each.name for _, each in zip(range(NAMES_LIMIT), entries, strict=False)]
        return tuple(sorted(found))

    def folders(self, pattern: str) -> tuple[str, ...]:
        """The folders that a path with ``*`` in single names means, sorted."""
        found = [""]
        for part in pattern.strip("/").split("/"):
            if "*" not in part:
                found = [f"{each}/{part}" for each in found]
                continue
            found = [
                f"{each}/{name}"
                for each in found
                for name in fnmatch.filter(self.names(each or "/"), part)
            ][:NAMES_LIMIT]
        return tuple(each for each in found if self.kind(each) == "folder")

    def read(self, path: str, limit: int) -> bytes | None:
        """The bytes of a regular file of at most ``limit``; None where there is none."""
        with self.opened(path) as descriptor:
            if descriptor is None or os.fstat(descriptor).st_size > limit:
                return None
            with os.fdopen(os.dup(descriptor), "rb") as file:
                found = file.read(limit + 1)
        return found if len(found) <= limit else None

    @contextmanager
    def opened(self, path: str) -> Iterator[int | None]:
        """The descriptor of a regular file, or None where there is none."""
        resolved = self.resolve(path)
        descriptor = None if resolved is None else _open(self.outside(resolved))
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _open(path: str) -> int | None:
    """A regular file; a pipe or a device of the image's is not touched."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
