"""Ingest: the life of one blob from its first byte to its commit, and those who read meanwhile.

Invariants:
- bytes may arrive in any order and from several writers; the first to bring a byte wins, and a
  byte that is in the file is not written again: what was hashed and given out stays so;
- bytes of a doubtful source are seen by nobody who would believe them, hashed or kept over a
  restart before they were checked; those that were wrong may be brought again;
- followers see what is written at once, except the last ``HELD_BACK`` bytes, which they get only
  after the whole has been proven: a wrong blob is never given out whole. Who reads a part that
  nobody can take for the whole may have them before;
- what is kept to be resumed says where its bytes came from, for they are not proven;
- commit proves size and digest, then publishes; a mismatch leaves nothing on disk;
- from the beginning of a commit on nothing is written any more, and there is no second one;
- a writer that is cancelled in the middle of a write does not lose what its thread wrote;
- after the end (committed or aborted) every waiting follower is told, exactly once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import Any

from cache.chunks import ChunkMap
from cache.content import Digest
from cache.errors import CacheError, DigestMismatch, DiskFull, IngestAborted, SizeMismatch
from cache.files import Files
from cache.follower import Follower, Span
from cache.hops import P, T, hop, taken
from cache.spool import Spool, cut

#: Bytes kept from followers until the digest is proven. Any number above zero keeps the promise;
#: 64 KiB also keeps a resumed read (Range from the break on) from being a handful of bytes.
HELD_BACK = 64 << 10
#: How far the hash may fall behind the finished prefix before a hop is spent on catching up.
HASH_STEP = 8 << 20
#: Bytes after which the disk is asked to take what has come, while more comes: the fsync of a
#: commit then has little left to wait for.
FLUSH_STEP = 64 << 20


class Ingest:
    """One arriving blob; made by ``BlobStore.ingest`` and ``BlobStore.upload``."""

    def __init__(self, key: str, files: Files, workers: Executor, *, expected: Digest | None):
        self.key = key
        self.expected = expected
        self.size: int | None = None
        self.committed = False
        self.error: BaseException | None = None
        self.held = ChunkMap()
        self.followers = 0
        #: Whether hash and disk keep up with what comes; not worth it for a part of a blob.
        self.keeps_up = True
        self._claimed = ChunkMap()  # held, and on its way to the file
        self._doubtful = ChunkMap()  # to be checked before anybody believes it
        self._writing: dict[asyncio.Future[Any], Sequence[Span]] = {}
        self._files = files
        self._workers = workers
        self._spool = Spool(files.ingest, key, expected.algorithm if expected else "sha256")
        self._news = asyncio.Event()
        self._hops: set[asyncio.Future[Any]] = set()
        self._chores: set[str] = set()
        self._flushed = 0
        self._committing = False
        self._ended = False
        self._ending: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Find what an earlier process left of this blob, or begin anew."""
        self.held = await asyncio.shield(self._hop(self._spool.open))
        self.size = self._spool.size
        self._claimed = ChunkMap(self.held.ranges)

    @property
    def origins(self) -> frozenset[str]:
        """Where the bytes came from, as ``note_origin`` was told, before a restart too."""
        return frozenset(self._spool.origins)

    def note_origin(self, name: str) -> None:
        """Say where bytes come from, before they come."""
        if name not in self._spool.origins:
            self._spool.note_origin(name)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen here."""
        return self.committed or self.error is not None

    def announce(self, size: int) -> None:
        """Say how large the whole is. Raises SizeMismatch when that contradicts what is known."""
        if self.size is None:
            arrived = self.held.ranges[-1][1] if self.held.ranges else 0
            if size < arrived:
                raise SizeMismatch(f"{self.key}: {size} bytes announced, {arrived} are here")
            self.size = size
            self._spool.note_size(size)
            self._tell()
        elif size != self.size:
            raise SizeMismatch(f"{self.key}: {size} bytes announced where {self.size} are expected")

    async def known_size(self) -> int:
        """The size of the whole, once somebody has announced it. Raises IngestAborted."""
        while self.size is None:
            self._raise_if_aborted()
            await self._news.wait()
        return self.size

    def write(
        self, offset: int, pieces: Sequence[bytes], *, checked: bool = True
    ) -> asyncio.Future[None]:
        """Take in bytes at ``offset``: one thread hop writes and (mostly) hashes them.

        With ``checked`` False they wait for ``check`` before they are believed. The hop starts at
        once; the future tells when the bytes are in the file, so that the caller can receive the
        next ones meanwhile. Cancelling the future loses nothing.
        Raises SizeMismatch when the bytes go beyond the announced size, and IngestAborted when the
        ingest has ended; the future raises DiskFull and StoreUnusable.
        """
        self._raise_if_ended()
        stop = offset + sum(map(len, pieces))
        if self.size is not None and stop > self.size:
            raise SizeMismatch(f"{self.key}: more bytes came than the {self.size} announced")
        gaps = self._claimed.missing(offset, stop)
        self._claimed.add(offset, stop)
        parts = [(start, cut(pieces, start - offset, end - offset)) for start, end in gaps]
        for gap in gaps:
            (self._doubtful.remove if checked else self._doubtful.add)(*gap)
        journal = checked and not (offset == 0 and stop == self.size)
        writing = self._hop(self._spool.write, parts, journal=journal, follow=checked)
        self._writing[writing] = gaps
        writing.add_done_callback(self._written)
        return asyncio.shield(writing)

    def receive(self, offset: int, sock: int, limit: int) -> asyncio.Future[int]:
        """Take in what comes on a socket, in one thread hop; how many bytes came, 0 for none yet.

        At most ``limit`` bytes, none of which may be here. ``sock`` must stay open until the hop
        has ended, also when its caller is cancelled. Raises as ``write`` does; the future also
        raises ConnectionError, and EOFError when the socket has ended.
        """
        self._raise_if_ended()
        stop = offset + limit
        if self.size is not None and stop > self.size:
            raise SizeMismatch(f"{self.key}: more bytes come than the {self.size} announced")
        if self._claimed.missing(offset, stop) != [(offset, stop)]:
            raise ValueError(f"{self.key}: bytes of [{offset}, {stop}) are here already")
        self._claimed.add(offset, stop)
        self._doubtful.remove(offset, stop)
        receiving = self._hop(self._spool.receive, sock, offset, limit)
        self._writing[receiving] = [(offset, stop)]
        receiving.add_done_callback(lambda done: self._received(done, offset))
        return asyncio.shield(receiving)

    def check(self, start: int, stop: int) -> None:
        """Believe the bytes of ``[start, stop)``, all of which are here."""
        spans = self._doubtful.common(start, stop)
        self._doubtful.remove(start, stop)
        if spans and not self._ended:
            # A journal that cannot be written costs a later process these bytes, and no more.
            noting = self._hop(self._spool.promise, spans)
            noting.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._progressed()

    def forget(self, start: int, stop: int) -> None:
        """Give up bytes that were found to be wrong, to be brought again; not what is believed."""
        for span in self._doubtful.common(start, stop):
            self.held.remove(*span)
        self._claim_anew()

    def is_checked(self, start: int, stop: int) -> bool:
        """Whether all of ``[start, stop)`` is here and believed."""
        return self.available(start, proven=False) >= stop

    def part_digest(self, start: int, stop: int) -> asyncio.Future[Digest]:
        """The sha256 of bytes that are here. Raises IngestAborted; the future StoreUnusable."""
        self._raise_if_ended()
        return self._hop(self._spool.part_digest, start, stop)

    def room(self, start: int, stop: int) -> int:
        """How far from ``start`` on, up to ``stop``, no byte is here or on its way to the file."""
        gaps = self._claimed.missing(start, stop)
        return gaps[0][1] if gaps and gaps[0][0] == start else start

    def _received(self, done: asyncio.Future[int], offset: int) -> None:
        failed = done.cancelled() or done.exception() is not None
        self._writing.pop(done)
        count = 0 if failed else done.result()
        if count:
            self.held.add(offset, offset + count)
        self._claim_anew()
        self._follow_up()

    def _written(self, done: asyncio.Future[None]) -> None:
        gaps = self._writing.pop(done)
        if done.cancelled() or done.exception() is not None:
            self._claim_anew()
            return
        for start, stop in gaps:
            self.held.add(start, stop)
        self._progressed()

    def _claim_anew(self) -> None:
        # Nobody has the bytes that did not come, so somebody may bring them again.
        under_way = (span for spans in self._writing.values() for span in spans)
        self._claimed = ChunkMap((*self.held.ranges, *under_way))
        self._tell()

    def _progressed(self) -> None:
        self._tell()
        self._follow_up()

    def _follow_up(self) -> None:
        if not self.keeps_up:
            return
        reach = self._believed(self._spool.hashed)
        if reach - self._spool.hashed >= HASH_STEP:
            self._chore("hash", self._spool.hash_to, reach)
        if self.held.total - self._flushed >= FLUSH_STEP and "flush" not in self._chores:
            self._flushed = self.held.total
            self._chore("flush", self._spool.flush)

    def _chore(self, name: str, act: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Work beside the writes, one of a name at a time; its failure shows again at commit."""
        if name in self._chores or self._ended:
            return
        self._chores.add(name)

        def ended(done: asyncio.Future[None]) -> None:
            self._chores.discard(name)
            if not done.cancelled() and done.exception() is None:
                self._follow_up()  # at once: more has come meanwhile

        self._hop(act, *args, **kwargs).add_done_callback(ended)

    def goal(self, digest: Digest | None = None) -> Digest:
        """What this is to be committed as. Raises ValueError for none, and for another."""
        expected = digest or self.expected
        if expected is None or self.expected not in (None, expected):
            raise ValueError(f"{self.key} cannot be committed as {expected}")
        return expected

    async def commit(
        self, digest: Digest | None = None, *, proven: Callable[[], Awaitable[object]] | None = None
    ) -> Digest:
        """Prove the whole and publish it under its digest; ends the ingest whatever happens.

        ``proven`` is awaited in between: what has to be known by the time that the blob is there.
        Raises SizeMismatch, DigestMismatch (both leave nothing behind), DiskFull, StoreUnusable.
        """
        expected = self.goal(digest)
        self._raise_if_ended()
        self._committing = True
        try:
            await self._settle()
            if self._ended:
                raise IngestAborted(f"{self.key} was given up while it was committed")
            size = self._complete_size()
            if proven is not None:
                await asyncio.shield(self._hop(self._prove, size, expected))
                await proven()
            publishing = self._hop(self._publish, size, expected)
            publishing.add_done_callback(lambda done: self._published(done, expected, size))
            await asyncio.shield(publishing)
        except BaseException as error:
            spoilt = isinstance(error, SizeMismatch | DigestMismatch | DiskFull)
            await self.abort(error, discard=spoilt)
            raise
        return expected

    def _published(self, done: asyncio.Future[None], expected: Digest, size: int) -> None:
        # A callback, so that a commit whose caller was cancelled is still a commit.
        if done.cancelled() or done.exception() is not None:
            return
        self.expected, self.size = expected, size
        self._ended = self.committed = True
        self._spool.close()
        self._tell()

    def _complete_size(self) -> int:
        reach = self.held.reach(0)
        size = reach if self.size is None else self.size
        if reach != size or self.held.total != size:
            raise SizeMismatch(f"{self.key}: {self.held.total} bytes came, {size} were expected")
        return size

    def _prove(self, size: int, expected: Digest) -> None:
        actual = self._spool.digest(size, expected.algorithm)
        if actual != expected:
            raise DigestMismatch(f"content hashes to {actual}, not to {expected}")

    def _publish(self, size: int, expected: Digest) -> None:
        self._prove(size, expected)
        self._spool.truncate(size)
        self._files.publish(self._spool.fd, self._spool.path, expected)
        self._spool.forget_journal()

    async def abort(self, cause: BaseException, *, discard: bool = False) -> None:
        """Give up; with ``discard`` what arrived is removed, else it is kept to be resumed.

        Where nothing arrived nothing is kept: who asks for what is not there leaves no file.
        The files are gone before the first follower is told. A second end changes nothing, but
        waits for the first; one that is being published is waited for, and stays published.
        """
        if not self._ended:
            self._ended = True
            self._ending = asyncio.ensure_future(self._give_up(cause, discard=discard))
            await asyncio.shield(self._ending)
        elif self._ending is not None:
            await asyncio.wait([self._ending])

    async def _give_up(self, cause: BaseException, *, discard: bool) -> None:
        await self._settle()
        if self.committed:
            return
        try:
            if discard or not self.held.ranges:
                await self._hop(self._spool.discard)
        finally:
            self._spool.close()
            self.error = cause
            self._tell()

    async def _settle(self) -> None:
        while self._hops:
            await asyncio.wait(set(self._hops))

    @asynccontextmanager
    async def follow(
        self, start: int = 0, stop: int | None = None, *, proven: bool = True, checked: bool = True
    ) -> AsyncIterator[Follower]:
        """Read along: gives a Follower over ``[start, stop)`` (None: to the end of the blob).

        ``proven`` False: a part of the blob, whose last bytes need not wait for the proof.
        ``checked`` False: for who checks for themselves what they read.
        Raises IngestAborted when the ingest has been given up.
        """
        size = await self.known_size()
        self._raise_if_aborted()
        if self.committed and self.expected is not None:
            opening = hop(self._workers, self._files.open_blob, self.expected)
            fd = await taken(opening, os.close)
        else:
            fd = os.dup(self._spool.fd)  # on the loop: between the test and this nothing may close
        self.followers += 1
        try:
            end = size if stop is None else min(stop, size)
            yield Follower(self, fd, start, end, proven=proven, checked=checked)
        finally:
            self.followers -= 1
            os.close(fd)

    async def changed(self) -> None:
        """Wait until something has happened since the caller last looked (no await between)."""
        await self._news.wait()

    def available(self, start: int, *, proven: bool = True, checked: bool = True) -> int:
        """How far a follower at ``start`` may read now, by the rule of ``follow``.

        Raises IngestAborted.
        """
        self._raise_if_aborted()
        size = self.size or 0
        if self.committed:
            return max(start, size)
        limit = max(0, size - HELD_BACK) if proven else size
        reach = self._believed(start) if checked else self.held.reach(start)
        return max(start, min(reach, limit))

    def _believed(self, start: int) -> int:
        """How far from ``start`` on everything is here and not doubtful."""
        reach = self.held.reach(start)
        doubtful = self._doubtful.common(start, reach)
        return doubtful[0][0] if doubtful else reach

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _raise_if_aborted(self) -> None:
        if self.error is not None:
            if isinstance(self.error, CacheError):
                raise self.error
            cause = str(self.error) or type(self.error).__name__
            raise IngestAborted(f"{self.key}: {cause}") from self.error

    def _raise_if_ended(self) -> None:
        self._raise_if_aborted()
        if self._ended or self._committing:
            raise IngestAborted(f"{self.key} has ended")

    def _hop(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """A hop on the file of this ingest, which is not closed before the hop has ended."""
        made = hop(self._workers, act, *args, **kwargs)
        self._hops.add(made)
        made.add_done_callback(self._hops.discard)
        return made
