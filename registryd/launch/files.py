"""Files of a machine or of an image, looked at and never changed; links are seen, not followed.

Invariant: a path given here is one below the root, and each name in it is taken as it is: who asks
has resolved the links. Only a text is found through links, and those of an image stay in it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, Literal

from registryd.launch.image_tree import ImageTree

Kind = Literal["folder", "file", "link", "none"]

#: Largest file of an image that is read (its /etc/passwd).
READ_LIMIT: Final = 1 << 20


class Files:
    """The files below a root: an image's, or the machine's own."""

    def __init__(self, root: str = "") -> None:
        self.root = root.rstrip("/")

    def kind(self, path: str) -> Kind:
        """What stands there; whatever is neither folder nor link counts as a file."""
        try:
            mode = os.lstat(self.root + path).st_mode
        except (OSError, ValueError):
            return "none"
        if stat.S_ISLNK(mode):
            return "link"
        return "folder" if stat.S_ISDIR(mode) else "file"

    def link(self, path: str) -> str:
        """Where a link points; nothing when it is none."""
        try:
            return os.readlink(self.root + path)
        except OSError:
            return ""

    def names(self, path: str) -> tuple[str, ...]:
        """The names in a folder, sorted; none when it cannot be listed."""
        try:
            return tuple(sorted(os.listdir(self.root + path)))
        except OSError:
            return ()

    def text(self, path: str) -> str:
        """A small text; nothing when there is none. Its links end inside of the root."""
        with ImageTree(Path(self.root or "/")).opened(path) as file:
            found = b"" if file is None else os.pread(file, READ_LIMIT, 0)
        return found.decode(errors="surrogateescape")


class Machine(Files):
    """The machine's own files: here links are followed, as its kernel does."""

    def there(self, path: str) -> Kind:
        """What a path leads to."""
        try:
            return "folder" if stat.S_ISDIR(os.stat(path).st_mode) else "file"
        except (OSError, ValueError):
            return "none"

    def real(self, path: str) -> str:
        """The path without links."""
        return os.path.realpath(path)
