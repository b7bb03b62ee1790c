"""What the layers of an image may have together: entries, names and contents.

Invariant: layers that are read at the same time share it, and the first that is refused stops them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from registryd.images.errors import NotAnImage

#: Most entries of all layers of an image: the largest real ones have half of it.
ENTRIES_LIMIT: Final = 1_000_000
#: Bytes of all names, links, attributes and maps of sparse files of an image: they are kept.
NAMES_LIMIT: Final = 256 << 20
_NO_LIMIT: Final = 2**63 - 1


@dataclass
class Allowance:
    """What is left of the limits that all layers of an image share, also while they are read."""

    entries: int = ENTRIES_LIMIT
    names: int = NAMES_LIMIT
    contents: int = _NO_LIMIT
    stopped: bool = False
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def take(self, where: str, entries: int, names: int, contents: int) -> None:
        """Count some entries. Raises NotAnImage where they are too much."""
        with self._lock:
            self.entries -= entries
            self.names -= names
            self.contents -= contents
        if self.entries < 0:
            raise NotAnImage(f"{where}: the image has more than {ENTRIES_LIMIT} entries")
        if self.names < 0:
            raise NotAnImage(f"{where}: the image has more than {NAMES_LIMIT} bytes of names")
        if self.contents < 0:
            raise NotAnImage(f"{where}: its files claim more bytes than a layer of its size holds")
        if self.stopped:
            raise NotAnImage(f"{where}: another layer was refused")
