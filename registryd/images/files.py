"""Blobs as files of a folder: read whole, or written so that only proven ones get their name.

Invariants:
- every touch of the disk is made in a worker thread, about 1 MiB a hop, never on the loop;
- a cancelled call gives control back only when its thread is done, so that no thread can use a
  descriptor that was closed (or given to another file) meanwhile;
- a blob that is short, long or wrong leaves nothing: neither under its name nor beside it;
- what is a file that was proven already shares its blocks, where the file system can: then nothing
  is read, and only what one of the two changes takes room again. It is never the same file under
  one more name: whoever writes to theirs would write into the cache.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, ParamSpec, Protocol, TypeVar

from cache.content import Descriptor
from cache.errors import DigestMismatch, SizeMismatch
from registryd.images.errors import NotAnImage, path_faults
from registryd.oci.errors import BlobUnknown, ManifestInvalid
from registryd.oci.manifest import MANIFEST_LIMIT
from registryd.ports import Body, BodyOpener, Filed

#: How much one hop to a thread reads or writes: fewer, and the hops cost more than the work.
HOP: Final = 1 << 20
#: How the names of files that are being written begin.
PARTIAL: Final = ".partial-"
#: ioctl_ficlone(2).
_FICLONE: Final = 0x40049409

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def in_thread(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Do blocking work in a thread; a cancellation is passed on when the thread is done."""
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(None, lambda: work(*args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():  # a second cancellation must not cut the wait short either
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        if not future.cancelled():
            future.exception()  # nobody waits for it any more: asyncio would print it at the end
        raise


class FileBody:
    """An open file, or a stretch of it from ``base`` on, as a body (a ``ports.Body``)."""

    start = 0

    def __init__(self, file: int, path: Path, size: int, *, base: int = 0) -> None:
        self._file = file
        self._base = base
        self._offset = 0
        self.total: int | None = size
        self._size = size
        self.source = str(path)

    async def skip_to(self, start: int) -> bool:
        """Begin further on (``ports.Skipping``)."""
        self._offset = min(start, self._size)
        return True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._offset == self._size:
            raise StopAsyncIteration
        piece = await in_thread(self._read)
        self._offset += len(piece)
        return piece

    def _read(self) -> bytes:
        with path_faults(Path(self.source)):
            count = min(HOP, self._size - self._offset)
            piece = os.pread(self._file, count, self._base + self._offset)
        if not piece:
            raise SizeMismatch(f"{self.source} shrank to {self._offset} bytes while it was read")
        return piece


@asynccontextmanager
async def open_blob(path: Path, descriptor: Descriptor) -> AsyncIterator[Body]:
    """The blob in this file, whole. Raises BlobUnknown, SizeMismatch, NotAnImage, PathUnusable."""
    files = ExitStack()  # the thread itself registers what it opened: a cancellation loses nothing
    try:
        file = await in_thread(_open, files, path, descriptor)
        yield FileBody(file, path, descriptor.size)
    finally:
        await in_thread(files.close)


def read_document(path: Path, descriptor: Descriptor) -> bytes:
    """A manifest's bytes, not proven yet. Raises as open_blob does, and ManifestInvalid."""
    if descriptor.size > MANIFEST_LIMIT:
        raise ManifestInvalid(
            f"manifest {descriptor.digest}: {descriptor.size} bytes, {MANIFEST_LIMIT} are allowed"
        )
    with ExitStack() as files:
        file = _open(files, path, descriptor)
        with path_faults(path):
            return os.pread(file, descriptor.size, 0)


def read_small(path: Path, limit: int) -> bytes | None:
    """A file that a format prescribes; None where it is missing.

    Raises NotAnImage when it has more than ``limit`` bytes or is no file, and PathUnusable.
    """
    with ExitStack() as files:
        try:
            file, size = _open_regular(files, path)
        except FileNotFoundError:
            return None
        if size > limit:
            raise NotAnImage(f"{path} has {size} bytes, {limit} are allowed")
        with path_faults(path):
            return os.pread(file, limit, 0)


def holds(path: Path, size: int) -> bool:
    """Whether a regular file of this size is there. Raises PathUnusable."""
    with path_faults(path):
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def is_vacant(folder: Path) -> bool:
    """Whether this path is free for a new image: missing, or a folder that is empty.

    Files that are being written do not count: another task may be the first to write here.
    Raises PathUnusable.
    """
    with path_faults(folder):
        try:
            return all(name.startswith(PARTIAL) for name in os.listdir(folder))
        except FileNotFoundError:
            return True


async def write_blob(path: Path, descriptor: Descriptor, open_body: BodyOpener) -> None:
    """Write a body to this path, which exists only when the whole is proven and on disk.

    Raises SizeMismatch, DigestMismatch, DiskFull, PathUnusable, and what the body raises.
    """
    arriving = _Arriving(path, descriptor)
    try:
        await in_thread(arriving.open)
        async with open_body() as body:
            file = body.file if isinstance(body, Filed) else None
            if file is None or not await in_thread(arriving.share, file):
                await receive(arriving, body)
        await in_thread(arriving.commit)
    finally:
        await in_thread(arriving.close)


class Receiver(Protocol):
    """What takes the pieces of a body: ``admit`` on the loop, ``write`` in a thread."""

    def admit(self, count: int) -> None:
        """Refuse a body that is too long before the excess is written. Raises SizeMismatch."""

    def write(self, pieces: list[bytes]) -> None:
        """Take these pieces, the next in order."""


async def receive(arriving: Receiver, body: Body) -> None:
    """Give a whole body to a receiver. Raises SizeMismatch, and what both raise."""
    if body.start:
        raise SizeMismatch(f"{body.source} begins at byte {body.start} where the whole was asked")
    pending: list[bytes] = []
    waiting = 0
    async for piece in body:
        pending.append(piece)
        waiting += len(piece)
        arriving.admit(len(piece))
        if waiting >= HOP:
            await in_thread(arriving.write, pending)
            pending, waiting = [], 0
    await in_thread(arriving.write, pending)


class Proof:
    """Counts and hashes a blob on its way, and says in the end whether it is what was announced."""

    def __init__(self, expected: Descriptor) -> None:
        self._expected = expected
        self._hash = expected.digest.hasher()
        self._admitted = 0

    def admit(self, count: int) -> None:
        """Refuse a body that is too long before the excess is written. Raises SizeMismatch."""
        self._admitted += count
        if self._admitted > self._expected.size:
            raise SizeMismatch(self._line("at least"))

    def update(self, piece: bytes) -> None:
        """Take in the next bytes."""
        self._hash.update(piece)

    def check(self) -> None:
        """Raise SizeMismatch or DigestMismatch unless all of it came, and nothing else."""
        if self._admitted != self._expected.size:
            raise SizeMismatch(self._line("only"))
        actual = self._hash.hexdigest()
        if actual != self._expected.digest.hex:
            algorithm = self._expected.digest.algorithm
            raise DigestMismatch(
                f"content hashes to {algorithm}:{actual}, not to {self._expected.digest}"
            )

    def _line(self, how: str) -> str:
        announced = self._expected.size
        return f"{self._expected.digest}: {how} {self._admitted} bytes came, {announced} announced"


class _Arriving:
    """A file under a temporary name; its methods block, except ``admit``."""

    def __init__(self, path: Path, descriptor: Descriptor) -> None:
        self._path = path
        self._partial = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
        self._size = descriptor.size
        self._proof = Proof(descriptor)
        self._shares = False
        self._file = -1

    def open(self) -> None:
        with path_faults(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(self._partial, flags, 0o666)

    def admit(self, count: int) -> None:
        """Refuse a body that is too long before the excess is written."""
        self._proof.admit(count)

    def write(self, pieces: list[bytes]) -> None:
        with path_faults(self._path):
            for piece in pieces:
                self._proof.update(piece)
                write_all(self._file, piece)

    def share(self, file: int) -> bool:
        """Be all of an open file that was proven; whether that can be, and its size is right."""
        self._shares = os.fstat(file).st_size == self._size and cloned(file, self._file)
        return self._shares

    def commit(self) -> None:
        """Prove, then name: the folder is synced last, so that the name survives a crash too."""
        if not self._shares:
            self._proof.check()
        with path_faults(self._path):
            os.fsync(self._file)
            self._partial.replace(self._path)
            sync_folder(self._path.parent)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._partial.unlink(missing_ok=True)


def write_small(path: Path, content: bytes) -> None:
    """Replace a small file in one step, and sync it. Raises DiskFull, PathUnusable."""
    with path_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with placed(path) as target:
        write_all(target, content)


@contextmanager
def placed(path: Path, mode: int = 0o666) -> Iterator[int]:
    """A new file to write, which has this path when the block has ended, whole and on disk.

    A failure leaves nothing. Raises DiskFull, PathUnusable.
    """
    partial = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    with path_faults(path):
        target = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            yield target
            os.fsync(target)
            partial.replace(path)
        finally:
            os.close(target)
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)


def cloned(source: int, target: int) -> bool:
    """Let a new file share all blocks of another; False where the file system cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False  # whatever it is, a copy will say it
    return True


def write_all(file: int, content: bytes) -> None:
    """Write every byte, also where the system takes fewer at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, whatever modes its folders have. Raises OSError."""
    for above, names, _ in os.walk(folder):
        for name in names:
            inner = Path(above, name)
            if not inner.is_symlink():
                inner.chmod(stat.S_IRWXU)
    shutil.rmtree(folder)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a crash."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _open(files: ExitStack, path: Path, descriptor: Descriptor) -> int:
    try:
        file, size = _open_regular(files, path)
    except FileNotFoundError:
        raise BlobUnknown(f"{path} is missing: the image there is not complete") from None
    if size != descriptor.size:
        raise SizeMismatch(f"{path} has {size} bytes where {descriptor.size} were announced")
    return file


def _open_regular(files: ExitStack, path: Path) -> tuple[int, int]:
    """Open for reading; a pipe under a blob's name must not block us. Raises FileNotFoundError."""
    with path_faults(path):
        try:
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            file = -1
    if file < 0:
        raise FileNotFoundError(path)
    files.callback(os.close, file)
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise NotAnImage(f"{path} is not a regular file")
    return file, status.st_size
