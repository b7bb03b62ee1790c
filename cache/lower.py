"""Lower: an image layout on a file system that many nodes share, read as a source of bytes.

Somebody else writes it, with no lock and no word to us; it may be away, slow or wrong. Invariants:
- files are opened by the path of their digest and read by a thread of our own: no folder is listed,
  nothing is mapped (a file that is cut under a map kills), nothing but a regular file is read;
- a read that the file system does not answer holds up nobody: whoever waits leaves after ``STALL``,
  the store is left alone for ``REST``, and at most ``HANDS`` threads are ever stuck in it;
- bytes are given as they are read; who takes them proves them. What was found wrong is said once,
  by its path, and not asked for again for ``REST``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cache import layout
from cache.content import Digest, verify
from cache.errors import DigestMismatch, SizeMismatch
from cache.lower_index import INDEX_LIMIT, LowerIndex, parse
from cache.lower_reader import WAITS, LowerAbsent, LowerFailed, Reader

#: Seconds for one read: NFS and Lustre answer in milliseconds, a server that fails over in minutes.
STALL: Final = 10.0
#: Seconds for which what failed is left alone.
REST: Final = 60.0
#: Threads that read from one store, and so all that can ever be stuck in it.
HANDS: Final = 8
#: For how long (seconds) the list of a store is believed before its file is looked at again.
FRESH: Final = 5.0
#: Digests that are remembered to be wrong.
REMEMBERED: Final = 10_000

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class LowerCounts:
    """What came of a store since the start."""

    blobs: int = 0
    bytes: int = 0
    errors: int = 0


class Lower:
    """One store. Its methods raise LowerFailed alone."""

    def __init__(
        self,
        root: Path,
        *,
        public: bool = False,
        clock: Callable[[], float] = time.monotonic,
        stall: float = STALL,
        counts: LowerCounts | None = None,
    ) -> None:
        """``public``: all of it may be given to everybody on this node."""
        self.root = root
        self.public = public
        self.counts = counts or LowerCounts()
        self._clock = clock
        self._stall = stall
        self._places = asyncio.Semaphore(HANDS)
        self._live: set[Reader] = set()
        self._rests_until: float | None = None
        self._why = ""
        self._wrong: dict[Digest, float] = {}
        self._index = LowerIndex()
        self._looked: float | None = None
        self._version: tuple[int, float] | None = None
        self._looking = asyncio.Lock()

    @property
    def away(self) -> str:
        """Why the store is left alone now; empty when it is not."""
        if self._all_stuck():
            return f"{HANDS} reads do not end"
        return self._why if self._rests else ""

    @property
    def _rests(self) -> bool:
        return self._rests_until is not None and self._clock() < self._rests_until

    @property
    def unusable(self) -> str:
        """Why its list could not be read when that was last tried; empty when it could."""
        return self.away or self._why

    @property
    def names(self) -> int:
        """How many names it had when it was last looked at."""
        return len(self._index.names)

    def path(self, digest: Digest) -> Path:
        """Where it keeps this digest."""
        return layout.blob_path(self.root, digest)

    def wrong(self, digest: Digest, why: str) -> None:
        """What it has under a digest is of no use: say so once, and leave it alone for a while."""
        self.counts.errors += 1
        while len(self._wrong) >= REMEMBERED:
            del self._wrong[next(iter(self._wrong))]
        self._wrong[digest] = self._clock() + REST
        _log.warning("lower store is wrong, going on without: file=%s cause=%s",
                     self.path(digest), why)  # fmt: skip

    def gave(self, count: int) -> None:
        """So many bytes of it were proven."""
        self.counts.blobs += 1
        self.counts.bytes += count

    def shuns(self, digest: Digest) -> bool:
        """Whether it is not asked for this now."""
        return bool(self.unusable) or self._wrong.get(digest, 0.0) > self._clock()

    @asynccontextmanager
    async def reading(
        self, digest: Digest, *, expected: bool
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """A blob's size as its file has it, and its bytes, unproven.

        ``expected``: it is known to be there, so that its absence may be a view that is late.
        """
        async with self._opened(self.path(digest), expected=expected) as (size, _, pieces):
            yield size, pieces

    async def read(self, digest: Digest, *, limit: int, expected: bool) -> bytes | None:
        """A small blob, proven; None where it is not to be had, which was said if it is odd."""
        if self.shuns(digest):
            return None
        try:
            content = await self._whole(self.path(digest), limit=limit, expected=expected)
            verify(content, digest, len(content))
        except LowerAbsent as error:
            if expected:
                self.wrong(digest, str(error))
            return None
        except (LowerFailed, DigestMismatch, SizeMismatch) as error:
            if not self.away:
                self.wrong(digest, str(error))
            return None
        return content

    async def index(self) -> LowerIndex:
        """What index.json says, at most ``FRESH`` seconds old; the last one where it fails now."""
        async with self._looking:
            now = self._clock()
            if self.away or (self._looked is not None and now - self._looked < FRESH):
                return self._index
            self._looked = now
            before = self._why
            try:
                self._index = await self._list()
                self._why = ""
            except LowerFailed as error:
                self._why = str(error)
                if self._why not in (before, self.away):
                    self.counts.errors += 1
                    _log.warning("lower store cannot be read: store=%s cause=%s", self.root, error)
            return self._index

    async def _list(self) -> LowerIndex:
        path = self.root / layout.INDEX_FILE
        version = await self._version_of(path)
        if version == self._version:
            return self._index
        for wait in (*WAITS, 0.0):
            content, modified = await self._content(path, limit=INDEX_LIMIT, expected=True)
            read = await asyncio.to_thread(parse, content, modified)
            if read is not None:
                self._version = version
                return read
            await asyncio.sleep(wait)  # somebody writes it in place: soon it is whole
        raise LowerFailed(f"{path} is no image index")

    async def _version_of(self, path: Path) -> tuple[int, float]:
        async with self._hand(path, Reader.look) as reader:
            return await self._first(reader)

    async def _whole(self, path: Path, *, limit: int, expected: bool) -> bytes:
        return (await self._content(path, limit=limit, expected=expected))[0]

    async def _content(self, path: Path, *, limit: int, expected: bool) -> tuple[bytes, float]:
        opening = self._opened(path, limit=limit, expected=expected)
        async with opening as (_, modified, pieces):
            return b"".join([piece async for piece in pieces]), modified

    @asynccontextmanager
    async def _opened(
        self, path: Path, *, limit: int | None = None, expected: bool
    ) -> AsyncIterator[tuple[int, float, AsyncIterator[bytes]]]:
        async with self._hand(path, Reader.read, limit=limit, expected=expected) as reader:
            size, modified = await self._first(reader)
            yield size, modified, self._pieces(reader)

    async def _first(self, reader: Reader) -> tuple[int, float]:
        said = await self._heard(reader)
        assert isinstance(said, tuple)  # noqa: S101 (whatever is read begins so)
        return said

    async def _pieces(self, reader: Reader) -> AsyncIterator[bytes]:
        while True:
            piece = await self._heard(reader)
            if not isinstance(piece, bytes):
                return
            reader.taken()
            yield piece

    async def _heard(self, reader: Reader) -> tuple[int, float] | bytes | None:
        try:
            async with asyncio.timeout(self._stall):
                said = await reader.said.get()
        except TimeoutError:
            self._rest(f"does not answer within {self._stall:g} seconds")
            raise LowerFailed(self._why) from None
        if isinstance(said, LowerFailed):
            raise said
        return said

    def _rest(self, why: str) -> None:
        self.counts.errors += 1
        if not self._rests:
            _log.warning("lower store is left alone for %g seconds: store=%s cause=%s",
                         REST, self.root, why)  # fmt: skip
        self._why, self._rests_until = why, self._clock() + REST

    @asynccontextmanager
    async def _hand(
        self,
        path: Path,
        act: Callable[[Reader], None],
        *,
        limit: int | None = None,
        expected: bool = True,
    ) -> AsyncIterator[Reader]:
        await self._place()
        loop = asyncio.get_running_loop()
        reader = Reader(path, limit=limit, expected=expected)
        self._live.add(reader)

        def give_back() -> None:
            self._live.discard(reader)
            self._places.release()

        def work() -> None:
            reader.run(act)
            with suppress(RuntimeError):  # the loop has ended while we were stuck
                loop.call_soon_threadsafe(give_back)

        # A daemon thread: one that is stuck in the kernel must not hold up the program's end.
        try:
            threading.Thread(target=work, name=f"lower {self.root}", daemon=True).start()
        except RuntimeError as error:  # as many as there may be are running
            give_back()
            raise LowerFailed(str(error)) from error
        try:
            yield reader
        finally:
            reader.leave()

    async def _place(self) -> None:
        """Wait for a thread that may read; who works slowly is waited for, who is stuck is not."""
        while not self.away:
            try:
                async with asyncio.timeout(self._stall):
                    await self._places.acquire()
                    return
            except TimeoutError:
                continue
        raise LowerFailed(self.away)

    def _all_stuck(self) -> bool:
        since = time.monotonic() - self._stall
        asking = [reader.asking for reader in self._live]
        return len(asking) >= HANDS and all(each is not None and each < since for each in asking)
