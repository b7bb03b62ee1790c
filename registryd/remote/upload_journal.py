"""Uploads under way, on disk: so that a push that was killed goes on where it was.

Invariants:
- a session's URL may hold signed state: files are the owner's alone, and it is a Secret;
- an upload belongs to one process at a time, by a lock that ends with the process: two that push
  the same blob do not write into one session;
- what is older than a day is forgotten, as registries forget sessions;
- a journal that cannot be written (or read) makes no push fail: that push is not continued, is all.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cache.content import Digest
from registryd.secrets import Secret

log = logging.getLogger(__name__)

#: The folder beside a cache's ``ingest/``.
UPLOADS: Final = "uploads"
#: Smaller blobs are sent anew: that costs less than asking.
JOURNALED_FROM: Final = 8 * 2**20
#: Seconds for which a session is believed to be there (registries purge them after a week, others
#: after an hour; their answer tells).
LIFETIME: Final = 24 * 3600.0
#: A URL with its state, and a few numbers.
RECORD_LIMIT: Final = 64 * 1024
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """A session: where it goes on, its smallest chunk, how far the registry said that it is."""

    url: Secret
    least: int
    reached: int


class Entry:
    """The record of one upload, for this process alone as long as it is open.

    ``kept`` is what an earlier process has left. Without a file it keeps nothing.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        file: int = -1,
        path: Path | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.kept = kept
        self._wall = wall
        self._file = file
        self._path = path

    @property
    def lasting(self) -> bool:
        """Whether what is kept outlives this process."""
        return self._path is not None

    async def keep(self, session: Kept) -> None:
        """Write down where the upload is."""
        if self._path is not None:
            await asyncio.to_thread(self._write, session)

    async def forget(self) -> None:
        """There is nothing to go on with."""
        self.kept = None
        if self._path is not None:
            await asyncio.to_thread(self._empty)

    def close(self) -> None:
        """Let go of the lock; a record without content goes. Blocks."""
        if self._path is None:
            return
        with _unimportant("cannot be closed"):
            if not os.fstat(self._file).st_size:
                self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _write(self, session: Kept) -> None:
        members = {
            "version": VERSION,
            "url": session.url.reveal(),
            "least": session.least,
            "reached": session.reached,
            "written": self._wall(),
        }
        with _unimportant("cannot be written"):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(members).encode(), 0)

    def _empty(self) -> None:
        with _unimportant("cannot be written"):
            os.ftruncate(self._file, 0)


class UploadJournal:
    """The records in one folder."""

    def __init__(self, folder: Path, wall: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._wall = wall
        self._swept = False

    @asynccontextmanager
    async def entry(self, registry: str, repository: str, digest: Digest) -> AsyncIterator[Entry]:
        """The record of this blob's upload; one that keeps nothing where another process has it."""
        name = hashlib.sha256(f"{registry}/{repository}@{digest}".encode()).hexdigest()
        path = self._folder / f"{name[:40]}.json"
        entry = await asyncio.to_thread(self._open, path)
        try:
            yield entry
        finally:
            await asyncio.shield(asyncio.to_thread(entry.close))

    def _open(self, path: Path) -> Entry:
        with _unimportant("cannot be used"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._swept:
                self._swept = True
                self._sweep()
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            file = os.open(path, flags, 0o600)
            if not _locked(file, path):
                os.close(file)
                return Entry()
            return Entry(self._wall, file, path, self._read(file))
        return Entry()

    def _read(self, file: int) -> Kept | None:
        try:
            members: dict[str, Any] = json.loads(os.pread(file, RECORD_LIMIT, 0))
            age = self._wall() - float(members["written"])
            if members["version"] != VERSION or not 0 <= age <= LIFETIME:
                return None
            return Kept(Secret(members["url"]), int(members["least"]), int(members["reached"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None  # empty, or cut off while it was written

    def _sweep(self) -> None:
        """Remove records that nobody can go on with."""
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError):
                if self._wall() - path.stat().st_mtime > LIFETIME:
                    path.unlink()


def _locked(file: int, path: Path) -> bool:
    """Take the lock of a record; False when another has it, or has just removed the file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False


@contextlib.contextmanager
def _unimportant(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("the journal of uploads %s: %s", what, error.strerror)
