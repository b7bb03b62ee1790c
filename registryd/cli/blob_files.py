"""Blobs and manifests between files (or stdin and stdout) and this process.

Invariants:
- a file gets its name only when its content is proven: nothing is left of one that is wrong;
- of what goes to stdout the last piece is held back until the whole is proven;
- disk and pipes are read and written in threads, about 1 MiB a hop.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cache.content import Digest
from cache.errors import DigestMismatch
from registryd.cli.console import Console
from registryd.images.errors import path_faults
from registryd.images.files import PARTIAL, in_thread
from registryd.oci.errors import UsageError
from registryd.ports import Body

HOP = 1 << 20
STDIO = "-"
Moved = Callable[[int], None]


def read_small_file(name: str, console: Console, limit: int) -> bytes:
    """A file, or stdin for ``-``; of what is longer the first ``limit`` bytes.

    Raises PathUnusable.
    """
    if name == STDIO:
        return console.typed_bytes(limit)
    with path_faults(Path(name)), open(name, "rb") as file:
        return file.read(limit)


def write_small_file(name: str, content: bytes) -> None:
    """Replace a file in one step. Raises PathUnusable, DiskFull."""
    arriving = _Arriving(Path(name))
    try:
        arriving.open()
        _write_all(arriving.write, content)
        arriving.commit()
    finally:
        arriving.close()


class _Arriving:
    """A file beside ``path`` that takes its name when it is committed, and is gone otherwise."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
        self._file = -1

    def open(self) -> None:
        with path_faults(self._path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(self._partial, flags, 0o666)

    def write(self, piece: bytes) -> int:
        with path_faults(self._path):
            return os.write(self._file, piece)

    def commit(self) -> None:
        with path_faults(self._path):
            os.fsync(self._file)
            self._partial.replace(self._path)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._partial.unlink(missing_ok=True)


async def save(body: Body, digest: Digest, name: str, moved: Moved) -> int:
    """Write a body to a file, proven; its size. Raises DigestMismatch, PathUnusable, DiskFull."""
    arriving = _Arriving(Path(name))
    try:
        await in_thread(arriving.open)
        size = await _receive(body, digest, arriving.write, moved)
        await in_thread(arriving.commit)
    finally:
        await in_thread(arriving.close)
    return size


async def show(body: Body, digest: Digest, console: Console, moved: Moved) -> int:
    """Write a body to stdout, the last piece once it is proven; its size. Raises DigestMismatch."""
    return await _receive(body, digest, console.raw, moved)


async def _receive(
    body: Body, digest: Digest, write: Callable[[bytes], object], moved: Moved
) -> int:
    """Hash and write hop by hop; the last hop is written when the whole is proven."""
    hasher, size, held = digest.hasher(), 0, b""

    def hop(piece: bytes) -> None:
        hasher.update(piece)
        if held:
            _write_all(write, held)

    async for piece in _hops(body):
        await in_thread(hop, piece)
        held = piece
        size += len(piece)
        moved(size)
    if hasher.hexdigest() != digest.hex:
        found = f"{digest.algorithm}:{hasher.hexdigest()}"
        raise DigestMismatch(f"{body.source} sent {found} instead of {digest}")
    await in_thread(_write_all, write, held)
    return size


def _write_all(write: Callable[[bytes], object], content: bytes) -> None:
    """Write every byte; a raw file may take fewer at a time, a console takes all."""
    rest = memoryview(content)
    while rest:
        taken = write(bytes(rest))
        rest = rest[taken if isinstance(taken, int) else len(rest) :]


async def _hops(body: Body) -> AsyncIterator[bytes]:
    """The body in pieces of about 1 MiB."""
    parts: list[bytes] = []
    gathered = 0
    async for piece in body:
        parts.append(piece)
        gathered += len(piece)
        if gathered >= HOP:
            yield b"".join(parts)
            parts, gathered = [], 0
    if parts:
        yield b"".join(parts)


@dataclass(frozen=True, slots=True)
class Hashed:
    """Content that was read once: where to read it again, its digest and size."""

    file: IO[bytes]
    name: str
    digest: Digest
    size: int


@contextmanager
def hashed(name: str, console: Console, algorithm: str) -> Iterator[Hashed]:
    """A file, or stdin for ``-`` (which is kept in a temporary file meanwhile).

    Raises PathUnusable, UsageError, DiskFull.
    """
    with ExitStack() as files:
        kept: IO[bytes] | None = None
        with path_faults(Path(name)):
            if name == STDIO:
                source = console.typed_file()
                kept = files.enter_context(tempfile.TemporaryFile())
            else:
                source = files.enter_context(open(name, "rb"))
            digest, size = _read_through(source, kept, algorithm)
        yield Hashed(kept or source, name, digest, size)


def _read_through(
    source: IO[bytes], target: IO[bytes] | None, algorithm: str
) -> tuple[Digest, int]:
    empty = Digest.of(b"", algorithm)
    hasher, size = empty.hasher(), 0
    while piece := source.read(HOP):
        hasher.update(piece)
        size += len(piece)
        if target is not None:
            target.write(piece)
    if target is not None:
        target.flush()
    return Digest(algorithm, hasher.hexdigest()), size


class HashedBody:
    """Such content as a body, from its first byte (a ``ports.Body``); may be made again."""

    start = 0

    def __init__(self, content: Hashed, moved: Moved) -> None:
        self.total: int | None = content.size
        self.source = content.name
        self._content = content
        self._moved = moved

    async def __aiter__(self) -> AsyncIterator[bytes]:
        offset, number = 0, self._content.file.fileno()
        while offset < self._content.size:
            piece = await asyncio.to_thread(os.pread, number, HOP, offset)
            if not piece:
                raise UsageError(f"{self.source} shrank while it was sent")
            offset += len(piece)
            yield piece
            self._moved(offset)
