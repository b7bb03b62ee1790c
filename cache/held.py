"""Held: which blobs are here, and whoever wants to know when one comes or goes. No I/O.

Invariant: a watcher is told of each change exactly once, after it is so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from cache.content import Digest
from cache.errors import CacheError

#: Told that a blob of so many bytes has come, or (None) that it has gone.
Change = Callable[[Digest, int | None], None]


class Held:
    """The blobs of a store by digest, with their sizes in bytes, the oldest first."""

    def __init__(self) -> None:
        #: By the digits of their digests: making a hundred thousand of these takes a while.
        self._sizes: dict[str, int] = {}
        self._watchers: list[Change] = []
        #: Bytes of all blobs.
        self.total = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[Digest]:
        return map(Digest.of_hex, self._sizes)

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, Digest) and digest.hex in self._sizes

    def items(self) -> Iterable[tuple[Digest, int]]:
        """The blobs with their sizes."""
        return ((Digest.of_hex(digits), size) for digits, size in self._sizes.items())

    def size(self, digest: Digest) -> int | None:
        """The size of a blob; None when it is not here."""
        return self._sizes.get(digest.hex)

    def found(self, sizes: Mapping[str, int]) -> None:
        """Take in what was there when the store was opened, by digits; nobody is told of it."""
        self._sizes.update(sizes)
        self.total = sum(self._sizes.values())

    def add(self, digest: Digest, size: int) -> None:
        """A blob has come; that it is here already is no news."""
        if digest.hex not in self._sizes:
            self._sizes[digest.hex] = size
            self.total += size
            self._tell(digest, size)

    @contextmanager
    def coming(self, digest: Digest, size: int) -> Iterator[None]:
        """A blob has come, unless its record within the block fails.

        What the index does not know would be in no image, and nothing would let it go again.
        """
        new = digest not in self
        self.add(digest, size)
        try:
            yield
        except CacheError:
            if new:
                self.drop(digest)
            raise

    def drop(self, digest: Digest) -> None:
        """A blob has gone; that it was not here is no news."""
        size = self._sizes.pop(digest.hex, None)
        if size is not None:
            self.total -= size
            self._tell(digest, None)

    def watch(self, change: Change) -> None:
        """Tell this one of every change from now on."""
        self._watchers.append(change)

    def _tell(self, digest: Digest, size: int | None) -> None:
        for change in self._watchers:
            change(digest, size)
