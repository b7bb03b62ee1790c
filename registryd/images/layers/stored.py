"""Layers in files, read as often as is needed, and the plan of an image that has them.

Image specification 1.1, "Layer DiffID". Invariants:
- what a layer holds is bounded by RATIO_LIMIT times its size, or PLAIN_FREE bytes;
- a layer that has to unpack to a digest is refused before anything is made of it where it does not;
- each layer's bytes are read once for a plan, however often the image has it;
- several are read at once, and all are read to their end or refused.

A layer is inflated twice: for the plan, and for the files. To keep what it holds in a file between
the two would save a tenth of the processor's time (1.4 GB of gzip: 2 s of 20), and cost its room on
a disk, which on many nodes is memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch
from registryd.images.archive import PLAIN_FREE, RATIO_LIMIT
from registryd.images.errors import NotAnImage, path_faults
from registryd.images.inflate import MAGIC_LENGTH, Inflated, Readable, compression
from registryd.images.layers.allowance import Allowance
from registryd.images.layers.headers import Entry, read_entries
from registryd.images.layers.plan import Plan, flatten
from registryd.images.layers.reading import PIECE
from registryd.oci.media_types import (
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    FOREIGN_LAYERS,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
)

LAYERS: Final = FOREIGN_LAYERS | {
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
}
#: How many layers are read at once: inflating lets go of the interpreter, reading headers does not.
#: Each may take the window of its compression, 128 MB at most.
SCANS_LIMIT: Final = 4


def _nobody(count: int) -> None:
    """Told of what is read from a file, where nobody wants to know."""


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer in its file; ``told`` of the bytes that are read there.

    ``diff_id`` is what it has to unpack to; None where nobody has said it.
    """

    file: int
    descriptor: Descriptor
    diff_id: Digest | None = None
    told: Callable[[int], None] = _nobody

    @property
    def limit(self) -> int:
        """How many bytes it may hold."""
        return max(PLAIN_FREE, RATIO_LIMIT * self.descriptor.size)

    def opened(self) -> Readable:
        """Its tar from the beginning. Raises PathUnusable."""
        where = str(self.descriptor.digest)
        file = _Reading(self.file, self.told, where)
        kind = compression(file.beginning())
        return file if kind is None else _Bounded(Inflated(file, kind, where), self.limit, where)


def planned(layers: Sequence[StoredLayer], where: str) -> Plan:
    """The plan of an image with these layers, lowest first. Raises NotAnImage, DigestMismatch."""
    allowance = Allowance(contents=sum({each.descriptor: each.limit for each in layers}.values()))
    first: dict[Digest, int] = {}
    for number, layer in enumerate(layers):
        other = layers[first.setdefault(layer.descriptor.digest, number)]
        if other.diff_id != layer.diff_id:
            raise DigestMismatch(
                f"{where}, layer {number + 1} cannot unpack to {layer.diff_id} and {other.diff_id}"
            )

    def read(number: int) -> list[Entry]:
        return _entries(layers[number], f"{where}, layer {number + 1}", number, allowance)

    with ThreadPoolExecutor(min(SCANS_LIMIT, len(os.sched_getaffinity(0)))) as threads:
        scans = [threads.submit(read, number) for number in first.values()]
        try:
            entries = dict(zip(first, [scan.result() for scan in scans], strict=True))
        except BaseException:
            allowance.stopped = True
            raise
    return flatten([entries[layer.descriptor.digest] for layer in layers], where)


def _entries(layer: StoredLayer, where: str, number: int, allowance: Allowance) -> list[Entry]:
    if layer.diff_id is None:
        return read_entries(layer.opened(), where, number, allowance)
    proving = _Proving(layer.opened(), layer.diff_id)
    found = read_entries(proving, where, number, allowance)
    actual = proving.ended()
    if actual != layer.diff_id:
        raise DigestMismatch(
            f"{where} unpacks to {actual}, but its configuration says {layer.diff_id}"
        )
    return found


class _Reading:
    """A file read from its beginning, at a place of its own."""

    def __init__(self, file: int, told: Callable[[int], None], where: str) -> None:
        self._file = file
        self._told = told
        self._where = Path(where)
        self._offset = 0

    def beginning(self) -> bytes:
        """What says how it is compressed. Raises PathUnusable."""
        with path_faults(self._where):
            return os.pread(self._file, MAGIC_LENGTH, 0)

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none at the end. Raises PathUnusable, and what ``told`` does."""
        with path_faults(self._where):
            piece = os.pread(self._file, count, self._offset)
        self._offset += len(piece)
        self._told(len(piece))
        return piece


class _Bounded:
    """What is read until it is too much."""

    def __init__(self, file: Readable, limit: int, where: str) -> None:
        self._file = file
        self._left = limit
        self._where = where

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none at the end. Raises NotAnImage."""
        piece = self._file.read(count)
        self._left -= len(piece)
        if self._left < 0:
            raise NotAnImage(
                f"{self._where} holds more than {RATIO_LIMIT} times its own size, as no layer does"
            )
        return piece


class _Proving:
    """What is read, and hashed on the way."""

    def __init__(self, file: Readable, expected: Digest) -> None:
        self._file = file
        self._hash = expected.hasher()
        self._algorithm = expected.algorithm

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none at the end."""
        piece = self._file.read(count)
        self._hash.update(piece)
        return piece

    def ended(self) -> Digest:
        """The digest of the whole, the rest of which is read now."""
        while self.read(PIECE):
            pass
        return Digest(self._algorithm, self._hash.hexdigest())
