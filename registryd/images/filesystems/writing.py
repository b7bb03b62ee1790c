"""Bytes written at their places in a file, which is zeros where nothing was written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from registryd.images.errors import path_faults


class At:
    """An open file that is written at any offset."""

    def __init__(self, file: int) -> None:
        self._file = file

    def resize(self, size: int) -> None:
        """Have this length. Raises OSError."""
        os.ftruncate(self._file, size)

    def put(self, offset: int, content: bytes) -> None:
        """Write these bytes there. Raises OSError."""
        view = memoryview(content)
        while view:
            count = os.pwrite(self._file, view, offset)
            offset += count
            view = view[count:]


@contextmanager
def opened(path: Path) -> Iterator[At]:
    """A file that is there, to be written. Raises DiskFull, PathUnusable."""
    with path_faults(path):
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            yield At(file)
        finally:
            os.close(file)


def file_into(out: At, pieces: Iterable[bytes], runs: Sequence[tuple[int, int, int]]) -> None:
    """Write a file to its places: each run is where it begins in the file, its length, and where
    it lies.

    What is between runs are zeros, which are not written. Raises OSError, and what the pieces do.
    """
    at, number = 0, 0
    for piece in pieces:
        end = at + len(piece)
        while number < len(runs):
            begins, count, place = runs[number]
            if begins >= end:
                break
            start, stop = max(at, begins), min(end, begins + count)
            if start < stop:
                out.put(place + start - begins, piece[start - at : stop - at])
            if begins + count > end:
                break
            number += 1
        at = end
