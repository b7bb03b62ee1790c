"""The directory beneath a store: make it, lock it, publish into it, sweep it.

Everything here blocks and runs in a worker thread. Invariants:
- a name under ``blobs/`` appears by one rename of a complete, fsynced file, and its folder is
  fsynced before the caller goes on; after the rename nothing can fail any more but that fsync;
- ``index.json`` is replaced, never written in place;
- OSError ends here: callers see CacheError with the path and what to do.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cache import layout
from cache.content import ALGORITHMS, Digest
from cache.errors import (
    BlobNotFound,
    CacheError,
    DigestInvalid,
    DiskFull,
    SizeMismatch,
    StoreLocked,
    StoreUnusable,
)

BLOB_MODE = 0o444
FOLDER_MODE = 0o700
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def os_errors(what: str) -> Iterator[None]:
    """Turn OSError into DiskFull or StoreUnusable, with ``what`` (usually a path) in the line."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(
                f"{what}: {error.strerror}; free space or give the cache more room"
            ) from error
        raise StoreUnusable(f"{what}: {error.strerror or error}") from error


def fsync_folder(folder: Path) -> None:
    """Make the names in this folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_file(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob in the store (whose folder is ``root``), and its size in bytes."""

    digest: Digest
    size: int
    root: Path

    @property
    def path(self) -> Path:
        """The file that holds exactly its bytes."""
        return layout.blob_path(self.root, self.digest)

    def check(self, found: int) -> None:
        """Raise SizeMismatch where its file has another size than it."""
        if found != self.size:
            raise SizeMismatch(
                f"{self.digest} is damaged: its file has {found} bytes of {self.size}"
                f" (remove {self.path} to have it fetched again)"
            )


@dataclass(frozen=True, slots=True)
class Leftover:
    """What came of a blob whose arrival was broken off: when last, and its bytes on the disk."""

    when: float
    digest: Digest
    bytes: int


class Files:
    """One cache root on disk. Raises StoreUnusable when it cannot be made or is not one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ingest = root / layout.INGEST
        self._lock_fd = -1

    def prepare(self) -> None:
        """Create what is missing of the layout and take the lock.

        Raises StoreLocked when another process has it, and StoreUnusable.
        """
        with os_errors(f"cache root {self.root}"):
            self.root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self._take_lock()
            for folder in (*layout.blob_folders(self.root), self.ingest):
                folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            if not (self.root / layout.LAYOUT_FILE).exists():
                self.replace(layout.LAYOUT_FILE, layout.LAYOUT_TEXT)

    def _take_lock(self) -> None:
        fd = os.open(self.root / layout.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise StoreLocked(
                f"cache root {self.root} is in use by process {holder};"
                " stop it, talk to it through its socket, or choose another root"
            ) from None
        self._lock_fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def replace(self, name: str, content: bytes) -> None:
        """Put a whole new file in the place of ``name`` in the root, in one step."""
        target = self.root / name
        temporary = self.ingest / f"{name}.new"
        with os_errors(str(target)):
            try:
                _write_file(temporary, content)
                temporary.rename(target)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            fsync_folder(self.root)

    def read_index(self) -> bytes:
        """``index.json`` as it is; nothing where it is missing."""
        path = self.root / layout.INDEX_FILE
        with os_errors(str(path)), suppress(FileNotFoundError):
            return path.read_bytes()
        return b""

    def publish(self, fd: int, source: Path, digest: Digest) -> None:
        """Make a complete and proven file the blob of ``digest``: fsync, rename, fsync the folder.

        ``fd`` is open on ``source``. Whatever is there already gives way: it may be what was found
        to be wrong and could not be put aside; who has it open reads on.
        """
        target = layout.blob_path(self.root, digest)
        with os_errors(str(target)):
            os.fchmod(fd, BLOB_MODE)
            os.fsync(fd)
            source.rename(target)
            fsync_folder(target.parent)

    def open_blob(self, digest: Digest) -> int:
        """A read-only file descriptor on a blob; the caller closes it. Raises BlobNotFound."""
        path = layout.blob_path(self.root, digest)
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BlobNotFound(f"{digest} is not in the cache") from None
        except OSError as error:
            raise StoreUnusable(f"{path}: {error.strerror or error}") from error

    def read_blob(self, digest: Digest) -> bytes:
        """All bytes of a blob. Raises BlobNotFound."""
        with os_errors(str(digest)), open(self.open_blob(digest), "rb") as file:
            return file.read()

    def remove_blobs(self, digests: Iterable[Digest]) -> None:
        """Drop blobs; readers that have one open read on. Already gone is a success.

        Where one cannot be dropped the others go all the same.
        """
        failure: CacheError | None = None
        for digest in digests:
            path = layout.blob_path(self.root, digest)
            try:
                with os_errors(str(path)):
                    path.unlink(missing_ok=True)
            except CacheError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def listed(self) -> set[str]:
        """The digits of every digest that has a name under ``blobs/``, whatever that is of."""
        found = set[str]()
        with os_errors(f"cache root {self.root}"):
            for folder in layout.blob_folders(self.root):
                length = ALGORITHMS[folder.name]
                found.update(name for name in os.listdir(folder) if len(name) == length)
        return found

    def sized(self, names: Iterable[str]) -> dict[Digest, int]:
        """Those of these digits that are blobs, with their sizes in bytes."""
        found = {}
        for name in names:
            with os_errors(str(self.root)), suppress(DigestInvalid, FileNotFoundError):
                digest = Digest.of_hex(name)
                status = layout.blob_path(self.root, digest).lstat()
                if stat.S_ISREG(status.st_mode):
                    found[digest] = status.st_size
        return found

    def sweep(self) -> None:
        """Remove from ``ingest/`` what no later start can use: uploads, temporary files, strays."""
        with os_errors(str(self.ingest)):
            for path in list(self.ingest.iterdir()):
                if not self._resumable(path) and not path.is_dir():
                    path.unlink()

    def _resumable(self, path: Path) -> bool:
        digest = layout.digest_of_key(path.stem)
        if digest is None or path.suffix not in (layout.DATA_SUFFIX, layout.RANGES_SUFFIX):
            return False
        if layout.blob_path(self.root, digest).exists():
            return False
        both = (path.with_suffix(layout.DATA_SUFFIX), path.with_suffix(layout.RANGES_SUFFIX))
        return all(p.exists() for p in both)

    def usage(self) -> dict[str, int]:
        """Bytes on disk of what is arriving and of what was put aside, and what is free."""
        return {
            "ingest": self._bytes_in(self.ingest),
            "quarantine": self._bytes_in(self.root / layout.QUARANTINE),
            "free": self.free_bytes(),
        }

    def leftovers(self) -> list[Leftover]:
        """What arrives or could be gone on with, by digest, the oldest first."""
        found = []
        with os_errors(str(self.ingest)), os.scandir(self.ingest) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                digest = layout.digest_of_key(stem)
                if digest is not None and suffix == layout.DATA_SUFFIX:
                    with suppress(FileNotFoundError):  # it has just been published
                        status = entry.stat(follow_symlinks=False)
                        found.append(Leftover(status.st_mtime, digest, status.st_blocks * 512))
        return sorted(found, key=lambda each: each.when)

    def _bytes_in(self, folder: Path) -> int:
        total = 0
        with os_errors(str(folder)), suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it has just been published
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
        return total

    def free_bytes(self) -> int:
        """Bytes that this process may still write to the file system."""
        with os_errors(f"cache root {self.root}"):
            status = os.statvfs(self.root)
            return status.f_bavail * status.f_frsize
