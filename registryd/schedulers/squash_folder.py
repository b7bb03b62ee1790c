"""A user's folder of squashfs files for steps that run: each image once, a link for each step.

Invariants:
- the folder is its user's alone: one that is another's, or that others may enter, is refused;
- a file is there from when a step has its link until the last step's link goes, or was forgotten;
- what changes links does so under one lock, and only for moments: copying needs none.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache.content import Digest
from cache.errors import os_faults
from registryd.schedulers.errors import FolderUnusable

_SUFFIX = ".sqsh"
_IMAGE = "image-"
#: A step's file, or an image's: what else is in a folder that a site has named is not ours.
_OURS = re.compile(r"(?:[0-9]{1,10}\.[0-9]{1,10}|image-[0-9a-f]{64,128})\.sqsh")


class SquashFolder:
    """The folder, made if it is not there. Every method raises FolderUnusable and DiskFull."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with os_faults(path, FolderUnusable):
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
            seen = path.lstat()
        private = stat.S_ISDIR(seen.st_mode) and not seen.st_mode & 0o077
        if not private or seen.st_uid != os.geteuid():
            raise FolderUnusable(f"{path} is not a folder of yours that nobody else can enter")

    def link(self, step: str, digest: Digest) -> Path | None:
        """Give a step the file that another step has; None where none has."""
        target = self.path / step
        with self._lock():
            target.unlink(missing_ok=True)
            try:
                os.link(self._image(digest), target)
            except FileNotFoundError:
                return None
        return target

    def share(self, step: str, digest: Digest) -> None:
        """Let other steps have the file of this step."""
        with self._lock(), suppress(FileExistsError):
            os.link(self.path / step, self._image(digest))

    def drop(self, step: str) -> None:
        """Take a step's file away, and what no step has any more."""
        with self._lock():
            (self.path / step).unlink(missing_ok=True)
            for image in self.path.glob(f"{_IMAGE}*{_SUFFIX}"):
                if image.lstat().st_nlink == 1:
                    image.unlink(missing_ok=True)

    def sweep(self, before: float) -> None:
        """Take away what no step has taken or left since then: who did not release it is gone.

        A step that still runs has the file open, and needs no name for it.
        """
        with self._lock():
            for left in self.path.iterdir():
                if _OURS.fullmatch(left.name) and left.lstat().st_ctime < before:
                    left.unlink(missing_ok=True)

    def _image(self, digest: Digest) -> Path:
        return self.path / f"{_IMAGE}{digest.hex}{_SUFFIX}"

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with os_faults(self.path, FolderUnusable):
            lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)
