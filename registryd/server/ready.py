"""/readyz: whether the daemon can do its work now, check by check.

Invariants:
- upstream is no part of it: what is held is served while registries are away;
- checks that touch the disk run in a thread, at most once a second however often they are asked
  for, and end by themselves: a disk that hangs is a disk that is not ready;
- the probe leaves nothing in the cache: its file has no name.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache import layout
from cache.content import Digest
from cache.errors import Fault
from registryd.operations import Node

#: Room (bytes) below which nothing sensible can be taken in: some hops, and the index's journal.
LEAST_ROOM = 16 << 20
PROBE = bytes(4096)
#: How long (seconds) an answer of the disk is good, and how long it may take.
KEEP, LIMIT = 1.0, 5.0
#: File systems without nameless files say so in one of these ways.
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
#: What the index is asked for: any digest will do.
_ANY = Digest.of(b"")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be well, and how it is."""

    name: str
    well: bool
    words: str

    @property
    def line(self) -> str:
        """For people: ``store ok``, ``disk full: ...``."""
        return f"{self.name} {self.words}"


class Readiness:
    """The checks of one daemon."""

    def __init__(self, node: Node, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._clock = clock
        self._asked = asyncio.Lock()
        self._known: tuple[float, Sequence[Check]] | None = None
        self._draining = False

    def drain(self) -> None:
        """From now on the daemon ends: it is ready no more."""
        self._draining = True

    async def checks(self) -> Sequence[Check]:
        """How everything is; the daemon is ready when all is well."""
        if self._draining:
            return [
                Check("draining", False, "(requests under way are finished, no new ones taken)")
            ]
        async with self._asked:
            if self._known is None or self._clock() - self._known[0] >= KEEP:
                found = [await self._disk(), await self._index(), await self._listeners()]
                self._known = (self._clock(), found)
            return self._known[1]

    async def _disk(self) -> Check:
        try:
            async with asyncio.timeout(LIMIT):
                free = await asyncio.to_thread(probe, self._node.store.root / layout.INGEST)
        except OSError as error:  # a TimeoutError is one, too
            words = error.strerror or f"no answer in {LIMIT:g} s"
            return Check("disk", False, f"unusable: {self._node.store.root}: {words}")
        if free < LEAST_ROOM:
            return Check("disk", False, f"full: {free >> 20} MiB free; make room")
        return Check("disk", True, "ok")

    async def _index(self) -> Check:
        try:
            async with asyncio.timeout(LIMIT):
                await self._node.store.expected_size(_ANY)
        except Fault as fault:
            return Check("index", False, f"unusable: {fault}")
        except TimeoutError:
            return Check("index", False, f"gave no answer in {LIMIT:g} s")
        return Check("index", True, "ok")

    async def _listeners(self) -> Check:
        names = self._node.listeners
        paths = [Path(name.removeprefix("unix:")) for name in names if name[:6] == "unix:/"]
        gone = [path for path in paths if not await asyncio.to_thread(_is_socket, path)]
        if gone:
            listed = ", ".join(map(str, gone))
            return Check("listeners", False, f"lost: {listed} is no socket any more; restart")
        return Check("listeners", True, "ok")


def probe(folder: Path) -> int:
    """Write to a folder, leave nothing in it; the bytes that are free there. Raises OSError."""
    free = os.statvfs(folder)
    room = free.f_bavail * free.f_frsize
    if room < LEAST_ROOM:
        return room
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_TMPFILE or not os.access(folder, os.W_OK | os.X_OK):
            raise
        return room
    try:
        os.write(fd, PROBE)
    finally:
        os.close(fd)
    return room


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
