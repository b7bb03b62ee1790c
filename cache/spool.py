"""Spool: the file of one blob on its way in, its journal and its running hash.

Everything here blocks and runs in worker threads. Invariants:
- a range enters the journal after its bytes are in the file, so a process killed at any instant
  finds at the next start at most what it really wrote (a torn last line is ignored, and what is
  not believed at the start is struck out, so that it cannot come true later);
- before the first range of a process the journal says whose the bytes are and of how many;
- the journal promises nothing across a power cut; the digest at commit does;
- bytes that may yet turn out wrong are neither hashed nor promised;
- the hash always covers exactly the first ``hashed`` bytes of the file, whoever wrote them.
"""

from __future__ import annotations

import os
import secrets
import select
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cache.chunks import ChunkMap
from cache.content import Digest, Hash, new_hash
from cache.files import Files, os_errors
from cache.layout import DATA_SUFFIX, PUT_PREFIX, RANGES_SUFFIX

#: How much is read back at a time where the hash has to catch up (one hop, one system call).
READ_BACK = 1 << 20
#: Buffers one pwritev takes (Linux IOV_MAX).
_IOV_MAX = 1024
_MODE = 0o600
#: The lines of the journal: start and stop of a range that is in the file, the size of the whole,
#: and where bytes come from.
_LINE = b"%d %d\n"
_SIZE = b"size %d\n"
_ORIGIN = b"from %s\n"
#: How long (milliseconds) a thread waits on a socket before it is given back.
PATIENCE = 10
#: How long (seconds) a hop goes on while bytes come: followers see them after each.
LAP = 0.02
#: One buffer a thread, for what comes from sockets.
_local = threading.local()


def _buffer() -> memoryview:
    if not hasattr(_local, "view"):
        _local.view = memoryview(bytearray(READ_BACK))
    view: memoryview = _local.view
    return view


class Spool:
    """One arriving file. Raises StoreUnusable or DiskFull from every method that touches it."""

    def __init__(self, folder: Path, key: str, algorithm: str) -> None:
        self.path = folder / f"{key}{DATA_SUFFIX}"
        self._journal_path = folder / f"{key}{RANGES_SUFFIX}"
        self.fd = -1
        self._journal_fd = -1
        self.hashed = 0
        self.size: int | None = None
        self.origins: set[str] = set()
        self._words: list[bytes] = []
        self._algorithm = algorithm
        self._hash: Hash = new_hash(algorithm)
        self._hash_lock = threading.Lock()
        self._journal_lock = threading.Lock()

    def open(self) -> ChunkMap:
        """Open or create the file; gives the ranges that an earlier process left in it.

        What the journal says of the whole is in ``size`` and ``origins`` then.
        """
        with os_errors(str(self.path)):
            with suppress(FileNotFoundError):
                self.path.chmod(_MODE)  # read-only, if the end came while it was being published
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
            try:
                journal = self._journal_path.read_bytes()
            except FileNotFoundError:
                return ChunkMap()
            held = _read_journal(journal, os.fstat(self.fd).st_size)
            if held.ranges:
                size, self.origins = _read_words(journal)
                self.size = None if size is not None and size < held.ranges[-1][1] else size
            believed = b"".join([*self._told(), *(_LINE % span for span in held.ranges)])
            if believed != journal:
                self._journal_path.write_bytes(believed)
            return held

    def _told(self) -> list[bytes]:
        origins = [_ORIGIN % name.encode() for name in sorted(self.origins)]
        return origins if self.size is None else [*origins, _SIZE % self.size]

    def note_size(self, size: int) -> None:
        """Let the journal say how many bytes the whole has, once it has a range."""
        self.size = size
        self._words.append(_SIZE % size)

    def note_origin(self, name: str) -> None:
        """Let the journal say where bytes come from, once it has a range."""
        self.origins.add(name)
        self._words.append(_ORIGIN % name.encode())

    def write(
        self,
        parts: Sequence[tuple[int, Sequence[bytes]]],
        *,
        journal: bool = True,
        follow: bool = True,
    ) -> None:
        """Put bytes at their offsets; with ``follow`` hash those that are the next to be hashed."""
        try:
            for offset, pieces in parts:
                with os_errors(str(self.path)):
                    stop = self._write_all(offset, pieces)
                    if journal:
                        self._note(offset, stop)
                if follow:
                    self._hash_if_next(offset, stop, pieces)
        except BaseException:
            self._rewind()  # a part before the one that failed may come again, and differ
            raise

    def _rewind(self) -> None:
        with self._hash_lock:
            self._hash, self.hashed = new_hash(self._algorithm), 0

    def _hash_if_next(self, offset: int, stop: int, pieces: Sequence[bytes]) -> None:
        if self._hash_lock.acquire(blocking=False):
            try:
                if self.hashed == offset:
                    for piece in pieces:
                        self._hash.update(piece)
                    self.hashed = stop
            finally:
                self._hash_lock.release()

    def receive(self, sock: int, offset: int, limit: int) -> int:
        """Put what comes on a socket at ``offset``, at most ``limit`` bytes; how many came.

        Returns when nothing comes for a moment: 0 if nothing came at all. The hash is left behind,
        to follow on another core. Raises ConnectionError, and EOFError when the socket has ended.
        """
        view, ready = _buffer(), select.poll()
        ready.register(sock, select.POLLIN)
        at = noted = offset
        until = time.monotonic() + LAP
        try:
            while at < offset + limit and (time.monotonic() < until or at == offset):
                count = self._read_some(sock, view[: min(len(view), offset + limit - at)], ready)
                if not count:
                    break
                with os_errors(str(self.path)):
                    at = self._write_all(at, [view[:count]])
                    if at - noted >= READ_BACK:
                        self._note(noted, at)
                        noted = at
        except (ConnectionError, EOFError):
            if at == offset:
                raise  # else what came counts, and the next hop meets the error again
        finally:
            if at > noted:
                with os_errors(str(self.path)):
                    self._note(noted, at)
        return at - offset

    def _read_some(self, sock: int, view: memoryview, ready: select.poll) -> int:
        """What comes on a socket now or in a moment, 0 for nothing. Raises EOFError at its end."""
        for _ in range(2):
            try:
                count = os.readv(sock, [view])
            except BlockingIOError:
                if not ready.poll(PATIENCE):
                    return 0
                continue
            except ConnectionError:
                raise
            except OSError as error:  # the line died of another cause: a time-out, no route
                raise ConnectionError(error.errno, error.strerror) from error
            if not count:
                raise EOFError("the connection ended")
            return count
        return 0

    def _write_all(self, offset: int, pieces: Sequence[bytes | memoryview]) -> int:
        views = [memoryview(piece) for piece in pieces if piece]
        while views:
            written = os.pwritev(self.fd, views[:_IOV_MAX], offset)
            offset += written
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if views and written:
                views[0] = views[0][written:]
        return offset

    def _note(self, start: int, stop: int) -> None:
        with self._journal_lock:
            if self._journal_fd < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._journal_fd = os.open(self._journal_path, flags, _MODE)
            words, self._words = self._words, []
            try:
                os.write(self._journal_fd, b"".join([*words, _LINE % (start, stop)]))
            except OSError:
                self._words = [*words, *self._words]
                raise

    def promise(self, spans: Sequence[tuple[int, int]]) -> None:
        """Let the journal say that these ranges, which are in the file, are what they should be."""
        with os_errors(str(self.path)):
            for start, stop in spans:
                self._note(start, stop)

    def part_digest(self, start: int, stop: int) -> Digest:
        """The sha256 of a range that is in the file."""
        seen = new_hash("sha256")
        with os_errors(str(self.path)):
            while start < stop:
                piece = os.pread(self.fd, min(READ_BACK, stop - start), start)
                if not piece:
                    raise OSError(0, f"the file ends at {start}, {stop} were written")
                seen.update(piece)
                start += len(piece)
        return Digest("sha256", seen.hexdigest())

    def hash_to(self, stop: int) -> None:
        """Let the hash catch up to ``stop`` by reading the file back."""
        with self._hash_lock, os_errors(str(self.path)):
            while self.hashed < stop:
                piece = os.pread(self.fd, min(READ_BACK, stop - self.hashed), self.hashed)
                if not piece:
                    raise OSError(0, f"the file ends at {self.hashed}, {stop} were written")
                self._hash.update(piece)
                self.hashed += len(piece)

    def digest(self, size: int, algorithm: str) -> Digest:
        """The digest of the first ``size`` bytes; hashes anew when the algorithm is another."""
        if algorithm != self._algorithm:
            self._algorithm = algorithm
            self._rewind()
        self.hash_to(size)
        return Digest(algorithm, self._hash.hexdigest())

    def flush(self) -> None:
        """Wait until the disk has what was written so far."""
        with os_errors(str(self.path)):
            os.fdatasync(self.fd)

    def truncate(self, size: int) -> None:
        """Cut the file to its true length, should an earlier process have written beyond it."""
        with os_errors(str(self.path)):
            if os.fstat(self.fd).st_size > size:
                os.ftruncate(self.fd, size)

    def forget_journal(self) -> None:
        """Remove the journal, once the blob it speaks of is published."""
        with suppress(OSError):  # the commit is done whatever comes; the next start sweeps it
            self._journal_path.unlink()

    def discard(self) -> None:
        """Remove everything that arrived. Already gone is a success."""
        with os_errors(str(self.path)):
            for path in (self._journal_path, self.path):
                with suppress(FileNotFoundError):
                    path.unlink()

    def close(self) -> None:
        """Give the file descriptors back; what arrived stays on disk."""
        for fd in (self.fd, self._journal_fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self._journal_fd = -1


def put_whole(files: Files, content: bytes, digest: Digest) -> None:
    """Store small content that has been proven, in one go. Raises DiskFull and StoreUnusable."""
    spool = Spool(files.ingest, f"{PUT_PREFIX}{secrets.token_hex(8)}", digest.algorithm)
    try:
        spool.open()
        spool.write([(0, [content])], journal=False)
        files.publish(spool.fd, spool.path, digest)
    except BaseException:
        spool.discard()
        raise
    finally:
        spool.close()


def cut(pieces: Sequence[bytes], start: int, stop: int) -> Sequence[bytes]:
    """The bytes ``[start, stop)`` of these pieces taken as one text; copies only at the ends."""
    if start == 0 and stop == sum(map(len, pieces)):
        return pieces
    return [b"".join(pieces)[start:stop]]


def _read_journal(journal: bytes, length: int) -> ChunkMap:
    """The ranges a journal speaks of, as far as the file reaches; what cannot be read is left."""
    held = ChunkMap()
    for line in journal[: journal.rfind(b"\n") + 1].splitlines():
        with suppress(ValueError):
            start, stop = (int(word) for word in line.split())
            if start < stop <= length:
                held.add(start, stop)
    return held


def _read_words(journal: bytes) -> tuple[int | None, set[str]]:
    """The size of the whole and where its bytes came from, as far as a journal says it."""
    size, origins = None, set()
    for line in journal[: journal.rfind(b"\n") + 1].splitlines():
        word, _, rest = line.partition(b" ")
        with suppress(ValueError):
            if word == b"from":
                origins.add(rest.decode("ascii"))
            elif word == b"size":
                size = int(rest)
    return size, origins
