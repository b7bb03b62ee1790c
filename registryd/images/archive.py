"""A tar archive as a set of named contents, read where they lie: nothing is ever unpacked.

Invariants:
- what can be read at any offset is read in place; what cannot (a pipe, a compressed archive) is
  first brought into a file without a name, which goes with the process;
- that file ends at a limit of ratio and before the disk is full;
- the archive is opened once: what is renamed over it, or removed, changes nothing.
"""

from __future__ import annotations

import os
import select
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from cache.errors import DiskFull
from registryd.images.errors import NotAnImage, path_faults
from registryd.images.files import HOP, FileBody, in_thread, write_all
from registryd.images.inflate import MAGIC_LENGTH, Inflated, Readable, compression
from registryd.images.tar_scan import Member, resolve, scan
from registryd.images.words import STREAM
from registryd.oci.errors import UsageError

#: What a compressed archive may hold without more questions, and then how many times its own size:
#: real ones reach 10; 1 MB that holds 1 GB is there to fill a disk.
PLAIN_FREE: Final = 256 << 20
RATIO_LIMIT: Final = 100
#: What is left free on the disk to which an archive is brought: others live there too.
DISK_KEPT: Final = 128 << 20
#: How long a read of a pipe waits before it looks whether anybody still wants it.
_WAIT_MS: Final = 200


class TarArchive:
    """An open archive; its methods block, except ``body``."""

    def __init__(self, file: int, path: Path) -> None:
        self._file = file
        self.path = path
        with path_faults(path):
            size = os.fstat(file).st_size
        if not size:
            raise NotAnImage(f"{path} is empty")
        self._members = scan(self._read_at, size, str(path))

    def has(self, name: str) -> bool:
        """Whether there is a file of this name. Raises NotAnImage."""
        return self.find(name) is not None

    def find(self, name: str) -> Member | None:
        """The file that a name means; None where it is missing. Raises NotAnImage."""
        return resolve(self._members, name, str(self.path))

    def read(self, name: str, limit: int) -> bytes | None:
        """A small file; None where it is missing. Raises NotAnImage, PathUnusable."""
        member = self.find(name)
        if member is None:
            return None
        if member.size > limit:
            raise NotAnImage(f"{self.path}: {name} has {member.size} bytes, {limit} are allowed")
        return self._read_at(member.offset, member.size)

    def body(self, member: Member) -> FileBody:
        """A file's bytes as a body."""
        return FileBody(self._file, self.path, member.size, base=member.offset)

    def stretch(self, member: Member) -> Readable:
        """A file's bytes to be read in order."""
        return _Stretch(self._file, self.path, member)

    def _read_at(self, offset: int, count: int) -> bytes:
        with path_faults(self.path):
            return os.pread(self._file, count, offset)


class _Stretch:
    """A part of a file, as a file to be read in order; its offset is its own."""

    def __init__(self, file: int, path: Path, member: Member) -> None:
        self._file = file
        self._path = path
        self._offset = member.offset
        self._end = member.offset + member.size

    def read(self, count: int) -> bytes:
        """Up to so many bytes; none at the end. Raises PathUnusable."""
        with path_faults(self._path):
            piece = os.pread(self._file, max(0, min(count, self._end - self._offset)), self._offset)
        self._offset += len(piece)
        return piece


@asynccontextmanager
async def open_archive(
    path: Path, *, spool: Path, free: int = PLAIN_FREE
) -> AsyncIterator[TarArchive]:
    """The archive in a file, or ``-`` on stdin; ``spool`` is where one is brought to if need be.

    A compressed one may hold ``free`` bytes, or RATIO_LIMIT times its size.
    Raises NotAnImage, PathUnusable, DiskFull, UsageError.
    """
    files = ExitStack()
    shown = Path("stdin") if str(path) == STREAM else path
    try:
        file = await in_thread(_open, files, path)
        if not await in_thread(_lies_still, file):
            file = await _brought(files, shown, spool, _Pipe(file), _Guard(shown, spool))
        kind = compression(await in_thread(os.pread, file, MAGIC_LENGTH, 0))
        if kind is not None:
            whole = Member(0, await in_thread(_size, file))
            guard = _Guard(shown, spool, max(free, RATIO_LIMIT * whole.size))
            plain = Inflated(_Stretch(file, shown, whole), kind, str(shown))
            file = await _brought(files, shown, spool, plain, guard)
        yield await in_thread(TarArchive, file, shown)
    finally:
        await in_thread(files.close)


def _open(files: ExitStack, path: Path) -> int:
    with path_faults(path):
        if str(path) == STREAM:
            file = os.dup(0)
        else:
            # A named pipe without a writer must not hold up the thread: reads are polled for.
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        files.callback(os.close, file)
        if os.isatty(file):
            raise UsageError(
                "an archive is not read from a terminal (write: registryctl ... < FILE)"
            )
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise NotAnImage(f"{path} is a folder, not an archive (want oci:DIR or dir:DIR)")
    return file


def _lies_still(file: int) -> bool:
    """Whether it can be read at any offset, and from its beginning."""
    return stat.S_ISREG(os.fstat(file).st_mode)


def _size(file: int) -> int:
    return os.fstat(file).st_size


class _Pipe:
    """What comes from a pipe; a read that would wait gives None after a while."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN | select.POLLHUP | select.POLLERR)

    def read(self, count: int) -> bytes | None:
        """Up to so many bytes; none at the end."""
        try:
            return os.read(self._file, count) if self._poll.poll(_WAIT_MS) else None
        except BlockingIOError:
            return None


class _Guard:
    """Says when what is brought has become too much."""

    def __init__(self, path: Path, spool: Path, limit: int | None = None) -> None:
        self._path = path
        self._spool = spool
        self._limit = limit
        self._count = 0

    def admit(self, file: int, count: int) -> None:
        """Raise NotAnImage or DiskFull where so many bytes more must not be written."""
        self._count += count
        if self._limit is not None and self._count > self._limit:
            raise NotAnImage(
                f"{self._path} holds more than {RATIO_LIMIT} times its own size, as no image does"
            )
        if not has_room(file):
            raise DiskFull(
                f"{self._spool}: no room for what is in {self._path} after {self._count} bytes"
                " (TMPDIR names another folder)"
            )


async def _brought(
    files: ExitStack, path: Path, spool: Path, source: Readable | _Pipe, guard: _Guard
) -> int:
    """A file without a name that holds all of a source."""
    file = await in_thread(unnamed, files, spool)
    more = True
    while more:
        more = await in_thread(_bring, path, spool, source, file, guard)
    return file


def _bring(path: Path, spool: Path, source: Readable | _Pipe, file: int, guard: _Guard) -> bool:
    """Bring the next piece; whether there may be more."""
    with path_faults(path):
        piece = source.read(HOP)
    if piece:
        with path_faults(spool):
            guard.admit(file, len(piece))
            write_all(file, piece)
    return piece is None or bool(piece)


def has_room(file: int, kept: int = DISK_KEPT) -> bool:
    """Whether the disk of an open file has more left than what is kept of it. Raises OSError."""
    disk = os.fstatvfs(file)
    return disk.f_bavail * disk.f_frsize >= kept


def unnamed(files: ExitStack, folder: Path) -> int:
    """A new file without a name in a folder, closed with the stack. Raises PathUnusable."""
    with path_faults(folder):
        return files.enter_context(tempfile.TemporaryFile(dir=folder)).fileno()
