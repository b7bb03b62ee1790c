"""A plan as a folder: the root of a file system, made where nothing else can reach.

Invariants:
- everything is made by name in an open folder, which was opened without following a link: nothing
  is ever written outside the target, whatever the names are and whoever changes it meanwhile;
- what is made exists by its final name only, with nobody's rights but ours until it is whole;
- root keeps owners, devices and set-user-id bits; others own everything, and what they may not
  make is left out and counted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cache.marks import override
from registryd.images.errors import path_faults
from registryd.images.files import write_all
from registryd.images.layers.contents import NOTHING, Opener, each_file
from registryd.images.layers.headers import BLOCKS, CHARACTER, FIFO, FILE, SYMLINK, Entry
from registryd.images.layers.plan import Plan
from registryd.images.layers.stream import kept

_OURS: Final = os.O_CLOEXEC | os.O_NOFOLLOW
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | _OURS
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OURS
_SPECIAL: Final = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


@dataclass
class Skipped:
    """What could not be made, or not be kept, by its number."""

    devices: int = 0
    special: int = 0
    xattrs: int = 0

    @override
    def __str__(self) -> str:
        counted = (
            (self.devices, "device nodes"),
            (self.special, "set-user-id and set-group-id bits"),
            (self.xattrs, "extended attributes"),
        )
        return ", ".join(f"{count} {what}" for count, what in counted if count)


def extract(
    plan: Plan, openers: Sequence[Opener], where: str, target: Path, *, privileged: bool
) -> Skipped:
    """Make the files of a plan in an empty folder that is ours. What had to be left out.

    Raises NotAnImage, PathUnusable, DiskFull.
    """
    with path_faults(target):
        top = os.open(target, _FOLDER)
        making = _Making(top, privileged)
        try:
            making.all(plan, openers, where)
        finally:
            making.close()
            os.close(top)
    return making.skipped


@dataclass
class _Making:
    """A root on its way: ``open`` are the folders from the top to the one worked in."""

    top: int
    privileged: bool
    skipped: Skipped = field(default_factory=Skipped)
    open: list[tuple[bytes, int]] = field(default_factory=list)
    lost: set[bytes] = field(default_factory=set)

    def all(self, plan: Plan, openers: Sequence[Opener], where: str) -> None:
        for named in plan.folders[1:]:
            folder, name = self._folder_of(named.path)
            os.mkdir(name, 0o700, dir_fd=folder)
        for named in plan.others:
            self._other(named.path, named.entry)
        for named, content in plan.extras:
            self._file(named.path, named.entry, iter((content,)))
        for named, pieces in each_file(plan, openers, where):
            self._file(named.path, named.entry, pieces)
        for path, first in plan.links:
            self._link(path, first)
        for named in reversed(plan.folders):
            self._finish_folder(named.path, named.entry)

    def close(self) -> None:
        """Close the folders."""
        while self.open:
            os.close(self.open.pop()[1])

    def _folder_of(self, path: bytes) -> tuple[int, bytes]:
        """The open folder that a path is in, and its name there."""
        *above, name = path.split(b"/")
        common = 0
        while common < min(len(above), len(self.open)) and self.open[common][0] == above[common]:
            common += 1
        while len(self.open) > common:
            os.close(self.open.pop()[1])
        for part in above[common:]:
            inner = os.open(part, _FOLDER, dir_fd=self.open[-1][1] if self.open else self.top)
            self.open.append((part, inner))
        return self.open[-1][1] if self.open else self.top, name

    def _other(self, path: bytes, entry: Entry) -> None:
        folder, name = self._folder_of(path)
        if entry.kind == FILE:
            self._file(path, entry, iter(()))
        elif entry.kind == SYMLINK:
            os.symlink(entry.link, name, dir_fd=folder)
            self._own_name(folder, name, entry)
        elif self._node(folder, name, entry):
            self._own_name(folder, name, entry)
            # The name is ours alone and no link: nobody else can write here yet.
            os.chmod(name, self._mode(entry), dir_fd=folder)
        else:
            self.lost.add(path)

    def _node(self, folder: int, name: bytes, entry: Entry) -> bool:
        """Make a pipe or a device; whether we may."""
        if entry.kind == FIFO:
            os.mkfifo(name, 0o600, dir_fd=folder)
            return True
        kind = {CHARACTER: stat.S_IFCHR, BLOCKS: stat.S_IFBLK}[entry.kind]
        if self.privileged:
            with suppress(PermissionError):
                device = os.makedev(entry.major, entry.minor)
                os.mknod(name, 0o600 | kind, device, dir_fd=folder)
                return True
        self.skipped.devices += 1
        return False

    def _file(self, path: bytes, entry: Entry, pieces: Iterator[bytes]) -> None:
        folder, name = self._folder_of(path)
        file = os.open(name, _NEW, 0o600, dir_fd=folder)
        try:
            for piece in pieces:
                if entry.holes is not None and piece == NOTHING[: len(piece)]:
                    os.lseek(file, len(piece), os.SEEK_CUR)
                else:
                    write_all(file, piece)
            if entry.holes is not None:
                os.ftruncate(file, entry.size)
            self._finish(file, entry)
        finally:
            os.close(file)

    def _link(self, path: bytes, first: bytes) -> None:
        if first in self.lost:
            return
        above, name = self._folder_of(first)
        source = os.dup(above)
        try:
            folder, other = self._folder_of(path)
            os.link(name, other, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(source)

    def _finish_folder(self, path: bytes, entry: Entry) -> None:
        folder, name = self._folder_of(path) if path else (self.top, b".")
        file = os.open(name, _FOLDER, dir_fd=folder)
        try:
            self._finish(file, entry)
        finally:
            os.close(file)

    def _finish(self, file: int, entry: Entry) -> None:
        """Owner, mode, attributes and time: in this order, as each undoes one before it."""
        if self.privileged:
            os.fchown(file, entry.uid, entry.gid)
        os.fchmod(file, self._mode(entry))
        for key, value in kept(entry.xattrs):
            try:
                os.setxattr(file, key, value)
            except OSError:
                self.skipped.xattrs += 1
        os.utime(file, ns=(entry.mtime, entry.mtime))

    def _own_name(self, folder: int, name: bytes, entry: Entry) -> None:
        """Owner and time of what is not opened."""
        if self.privileged:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        times = (entry.mtime, entry.mtime)
        os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)

    def _mode(self, entry: Entry) -> int:
        if self.privileged or not entry.mode & (stat.S_ISUID | stat.S_ISGID):
            return entry.mode
        self.skipped.special += 1
        return entry.mode & ~_SPECIAL | entry.mode & stat.S_ISVTX
