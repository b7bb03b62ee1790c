"""The files of the gateway: images that are ready, work in hand, and the site's image folder.

    <cache>/gateway/images/<id>.squashfs     <cache>/gateway/work/...
    <image_dir>/<id>.squashfs, <id>.meta     where the configuration names a folder for udiRoot

Invariants:
- the folders are their owner's alone: whoever may read an image is given it, and finds no path;
- an image that the cache has as a blob is the same file under another name, and costs no room;
- an image has its name when it is whole and on disk; in the site's folder its ``.meta`` comes last
  and goes first;
- after a start nothing is left of work that was cut off, but files that were handed in.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path
from typing import Final

from cache.errors import DiskFull
from registryd.gateway.meta import meta_of
from registryd.gateway.record import Image
from registryd.images.archive import DISK_KEPT, has_room
from registryd.images.clone import copy_out
from registryd.images.errors import NotAnImage, path_faults
from registryd.images.files import PARTIAL, remove_folder, sync_folder

FOLDER: Final = "gateway"
#: What is in the site's folder is read by udiRoot, which is root.
_MODE: Final = 0o600
#: The beginning of a squashfs 4.0: magic, version at 28, bytes used at 40.
_SUPERBLOCK: Final = struct.Struct("<4s24xHH8xQ")
_MAGIC: Final = b"hsqs"
#: Bytes of a whole superblock.
_LEAST: Final = 96


class Shelf:
    """The files. All of it blocks, and raises DiskFull and PathUnusable."""

    def __init__(self, root: Path, image_dir: Path | None) -> None:
        self._images = root / FOLDER / "images"
        #: Where work in hand lies.
        self.work = root / FOLDER / "work"
        self._site = image_dir
        #: Bytes of the disk that the cache wants to stay free, whose images would go for them.
        self.min_free: Callable[[], int] = lambda: 0

    def prepare(self, kept: Iterable[str], images: Iterable[str]) -> None:
        """Make the folders, and sweep the work that was cut off; files ``kept`` are needed yet.

        Of the images only these are known: another's file was made, and never published.
        """
        needed, known = set(kept), {self.path(id) for id in images}
        for folder in (self._images.parent, self._images, self.work):
            with path_faults(folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path_faults(self.work):
            for each in self.work.iterdir():
                if each.name not in needed:
                    _remove(each)
        with path_faults(self._images):
            for each in self._images.iterdir():
                if each not in known:
                    _remove(each)
        for folder in (self._images, *([self._site] if self._site else ())):
            with path_faults(folder):
                for left in folder.glob(f"{PARTIAL}*"):
                    left.unlink(missing_ok=True)

    # work

    def new_file(self) -> Path:
        """A name for a file that is to come into the work."""
        return self.work / secrets.token_hex(12)

    def file(self, name: str) -> Path:
        """A file of the work by its name."""
        return self.work / name

    def check_room(self, file: int) -> None:
        """Raise DiskFull where no more may be written into this open file of the work."""
        if not has_room(file, max(DISK_KEPT, self.min_free())):
            raise DiskFull(f"{self.work}: no room for what is imported")

    def new_folder(self) -> Path:
        """An empty folder in the work, with a name of its own."""
        folder = self.work / secrets.token_hex(12)
        with path_faults(folder):
            folder.mkdir(mode=0o700)
        return folder

    def link(self, file: Path, target: Path) -> None:
        """Give a file of the work one more name, so that it stays when that one is taken in."""
        with path_faults(target):
            os.link(file, target)

    def clear(self, path: Path) -> None:
        """Remove a file or folder of the work, whatever modes it has."""
        with path_faults(path):
            _remove(path)

    # images

    def path(self, id: str) -> Path:
        """Where an image lies."""
        return self._images / f"{id}.squashfs"

    def has(self, id: str) -> bool:
        """Whether an image is here."""
        return self.path(id).exists()

    def take(self, made: Path, id: str, proven: str = "") -> tuple[str, int]:
        """Take in an image that was made in the work; its whole digest (hex), and its size.

        ``proven`` is its digest where that is known. Raises NotAnImage where the file is no whole
        squashfs.
        """
        with path_faults(made):
            with made.open("rb") as file:
                check_squashfs(file.fileno(), "what was made")
                content = proven or hash_file(file)
                size = os.fstat(file.fileno()).st_size
                os.fsync(file.fileno())
            made.replace(self.path(id))
            sync_folder(self._images)
        return content, size

    def transfer(self, image: Image) -> None:
        """Put an image where udiRoot looks for it, the lines on it last."""
        if self._site is None:
            return
        target, meta = self._site_files(image.id)
        with path_faults(self._site):
            if not target.exists() or target.stat().st_size != image.size:
                with self.path(image.id).open("rb") as made:
                    copy_out(made.fileno(), target, mode=_MODE)
            _write_text(meta, meta_of(image))

    def drop(self, id: str) -> None:
        """Take an image away."""
        if self._site is not None:
            target, meta = self._site_files(id)
            with path_faults(self._site):
                meta.unlink(missing_ok=True)
                target.unlink(missing_ok=True)
        with path_faults(self.path(id)):
            self.path(id).unlink(missing_ok=True)

    def _site_files(self, id: str) -> tuple[Path, Path]:
        assert self._site is not None  # noqa: S101 (the caller has looked)
        return self._site / f"{id}.squashfs", self._site / f"{id}.meta"


def check_squashfs(file: int, where: str) -> None:
    """Raise NotAnImage unless this is a whole squashfs 4.0."""
    head = os.pread(file, _SUPERBLOCK.size, 0).ljust(_SUPERBLOCK.size, b"\0")
    magic, major, _, used = _SUPERBLOCK.unpack(head)
    if magic != _MAGIC or major != 4 or used < _LEAST:
        raise NotAnImage(f"{where} is no squashfs")
    size = os.fstat(file).st_size
    if used > size:
        raise NotAnImage(f"{where} is a squashfs of {used} bytes, of which {size} are here")


def hash_file(file: BufferedReader) -> str:
    """The sha256 (hex) of all of a file, which has not been read yet."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def _write_text(target: Path, text: str) -> None:
    """Write a file under another name beside it, and name it when it is on disk."""
    partial = target.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    try:
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        sync_folder(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)
