"""Writing a lower store: an image layout on a shared file system, read by many without a lock.

Invariants:
- a file gets its name when it is whole, proven and on disk, and is never written again: a temporary
  file beside it, fsync, rename, fsync of the folder; mode 0444;
- blobs first, then manifests, then index.json, which is replaced in one step: who reads it finds
  all that it names;
- writers of index.json take turns by a lock *file* (created with O_EXCL, which every network file
  system does at one place; locks of flock often mean one node alone). The turn of one that died
  ends after ``STALE`` seconds by the file system's own clock, so that no node's clock matters;
- what nothing names is taken away only when that is asked for, and only when nobody has written or
  counted on it for ``KEPT`` seconds: an export under way names its blobs last;
- and if two should ever write at once, each looks afterwards whether its names are there.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cache.content import Descriptor, Digest
from cache.errors import DigestInvalid, DigestMismatch, SizeMismatch
from cache.layout import blob_folders
from cache.lower_index import merged
from registryd.images.errors import path_faults
from registryd.images.files import (
    HOP,
    PARTIAL,
    placed,
    read_document,
    read_small,
    write_all,
    write_small,
)
from registryd.images.layout import (
    INDEX_LIMIT,
    LAYOUT_VERSION,
    blob_path,
    check_target,
    entries_of,
    parse_index,
)
from registryd.oci.errors import UsageError
from registryd.oci.manifest import parse
from registryd.oci.media_types import DOCUMENTS

LOCK: Final = "export.lock"
#: A turn takes well under a second; one that has lasted so long (seconds) is nobody's any more.
STALE: Final = 60.0
#: How long (seconds) a writer waits for its turn.
PATIENCE: Final = 180.0
#: How often (seconds) it looks.
LOOK: Final = 0.2
#: How long (seconds, by the file system's clock) a blob that nothing names is kept: longer than
#: any export takes.
KEPT: Final = 86400.0
#: How often names are entered anew that another writer has overwritten.
TRIES: Final = 5
_MODE: Final = 0o444


class SharedStore:
    """The store in a folder; its methods block. Raise UsageError, NotAnImage, PathUnusable."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make it a layout, unless it is one. Raises UsageError for a cache's own root."""
        check_target(self.root)
        if not (self.root / "oci-layout").exists():
            mark = json.dumps({"imageLayoutVersion": LAYOUT_VERSION}, separators=(",", ":"))
            write_small(self.root / "oci-layout", mark.encode())

    def has(self, descriptor: Descriptor, *, proven: bool = False) -> bool:
        """Whether the blob is there by name and size; with ``proven`` by all of its bytes.

        One that is not what it should be is taken away, to be written anew.
        """
        path = blob_path(self.root, descriptor.digest)
        with path_faults(path):
            try:
                file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                return False
            try:
                status = os.fstat(file)
                sound = stat.S_ISREG(status.st_mode) and status.st_size == descriptor.size
                if sound and proven:
                    sound = _hashes_to(file, descriptor)
            finally:
                os.close(file)
            if not sound:
                path.unlink(missing_ok=True)
            else:
                with suppress(OSError):  # somebody else's: they may not take it away now
                    os.utime(path)
        return sound

    def put(self, source: int, descriptor: Descriptor) -> None:
        """Take a blob from an open file. Raises DigestMismatch, SizeMismatch, DiskFull."""
        path = blob_path(self.root, descriptor.digest)
        with path_faults(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with placed(path, 0o644) as target:
            _copy(source, target, descriptor)
            os.fchmod(target, _MODE)

    def enter(self, entries: Sequence[dict[str, object]], gone: frozenset[str]) -> None:
        """Enter these in index.json, and take out the names that are gone; others stay."""
        for _ in range(TRIES):
            with self._turn():
                listing = self._listing()
                wanted = merged(listing, list(entries), gone)
                if wanted != listing:
                    content = json.dumps(wanted, separators=(",", ":")).encode()
                    write_small(self.root / "index.json", content)
            seen = self._listing()
            if merged(seen, list(entries), gone) == seen or _has(seen, entries, gone):
                return
        raise UsageError(f"{self.root}/index.json is written by others all the time; try again")

    def prune(self) -> tuple[int, int]:
        """Take away what no name leads to; how many blobs, and bytes. Raises NotAnImage.

        Raises UsageError where a link leads out of the store: what is there may be another's.
        """
        kept, blobs, size = self._reachable(), 0, 0
        now = self._now()
        for folder in blob_folders(self.root):
            _refuse_links(folder)
            with path_faults(folder):
                found = list(os.scandir(folder)) if folder.is_dir() else []
            for each in found:
                with path_faults(folder), suppress(FileNotFoundError):
                    status = each.stat(follow_symlinks=False)
                    ours = _is_ours(folder.name, each.name)
                    if not ours or each.path in kept or now - status.st_mtime < KEPT:
                        continue
                    os.unlink(each.path)
                    blobs, size = blobs + 1, size + status.st_size
        return blobs, size

    def _reachable(self) -> set[str]:
        """The files of all that index.json leads to."""
        left = [descriptor for descriptor, _ in entries_of(self._listing(), self.root)]
        kept: set[str] = set()
        while left:
            each = left.pop()
            path = blob_path(self.root, each.digest)
            if str(path) in kept:
                continue
            kept.add(str(path))
            if each.media_type in DOCUMENTS and path.exists():
                left += parse(read_document(path, each), None, each.digest).children
        return kept

    def _now(self) -> float:
        """The file system's own time."""
        probe = self.root / f"{PARTIAL}{secrets.token_hex(8)}"
        with path_faults(probe):
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            try:
                return probe.stat().st_mtime
            finally:
                probe.unlink(missing_ok=True)

    def _listing(self) -> dict[str, object]:
        raw = read_small(self.root / "index.json", INDEX_LIMIT)
        return {} if raw is None else parse_index(raw, self.root)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Within this block no other writer enters names."""
        path = self.root / LOCK
        until = time.monotonic() + PATIENCE
        while not _created(path):
            self._end_stale(path)
            if time.monotonic() > until:
                raise UsageError(f"{path} is held by {_holder(path)}; remove it if that is over")
            time.sleep(LOOK)
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()

    def _end_stale(self, path: Path) -> None:
        """End the turn of a writer that is no more."""
        probe = self.root / f"{PARTIAL}{secrets.token_hex(8)}"
        with path_faults(path):
            try:
                held = path.stat()
                os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                if probe.stat().st_mtime - held.st_mtime < STALE:
                    return
                # Whoever renames it ends it; what was renamed may be a new one by now.
                path.rename(probe)
                if probe.stat().st_ino != held.st_ino:
                    with suppress(FileExistsError):
                        os.link(probe, path)
            except FileNotFoundError:
                return
            finally:
                probe.unlink(missing_ok=True)


def _refuse_links(folder: Path) -> None:
    """Raise UsageError where the folder, or the one above it, is a link."""
    for each in (folder.parent, folder):
        if each.is_symlink():
            raise UsageError(f"{each} is a link: nothing is taken away by way of it")


def _is_ours(algorithm: str, name: str) -> bool:
    """Whether a file is one that a store has: a blob, or one that was broken off."""
    with suppress(DigestInvalid):
        Digest(algorithm, name)
        return True
    return name.startswith(PARTIAL)


def _created(path: Path) -> bool:
    with path_faults(path):
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            return False
        try:
            write_all(file, f"{platform.node()} {os.getpid()}\n".encode())
        finally:
            os.close(file)
    return True


def _holder(path: Path) -> str:
    with suppress(Exception):
        return (read_small(path, HOP) or b"").decode().strip()[:100] or "somebody"
    return "somebody"


def _has(seen: dict[str, object], entries: Sequence[object], gone: frozenset[str]) -> bool:
    there = seen.get("manifests")
    return isinstance(there, list) and all(entry in there for entry in entries) and not gone


def _hashes_to(file: int, descriptor: Descriptor) -> bool:
    seen, at = descriptor.digest.hasher(), 0
    while piece := os.pread(file, HOP, at):
        seen.update(piece)
        at += len(piece)
    return seen.hexdigest() == descriptor.digest.hex


def _copy(source: int, target: int, descriptor: Descriptor) -> None:
    seen, at = descriptor.digest.hasher(), 0
    while piece := os.pread(source, HOP, at):
        seen.update(piece)
        write_all(target, piece)
        at += len(piece)
    if at != descriptor.size:
        raise SizeMismatch(f"{descriptor.digest}: {at} bytes came, {descriptor.size} announced")
    if seen.hexdigest() != descriptor.digest.hex:
        raise DigestMismatch(f"{descriptor.digest} is wrong in the cache; run: cache verify")
