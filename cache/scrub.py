"""Scrub: blobs read again from the disk, and proven anew.

Invariants:
- what is found to be wrong is given to nobody any more from that moment on, nor sent to its end to
  whoever is being sent it;
- a verdict is read twice: a bit that flipped on its way from the disk condemns nothing, and that
  this process cannot open files now says nothing of them;
- it is put aside, not removed: a bad file tells of its disk;
- what is known of it stays (who needs it, whose it is), so that it is fetched again like any other.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cache.content import Digest
from cache.errors import BlobNotFound, DigestMismatch, DiskFull, Fault, StoreUnusable
from cache.files import Files
from cache.hops import Acts, RowHop
from cache.index import Index
from cache.listing import Listing
from cache.passages import Passages
from cache.proof_rows import Origin
from cache.quarantine import put_aside
from cache.reading import HOP, Reading, groups, right_of
from cache.repair import Repair

if TYPE_CHECKING:
    from cache.store import BlobStore

#: Proofs remembered, and bytes read for them, before they are written to the index: a process that
#: is killed has no more than these read again.
PROVEN_BATCH, PROVEN_BYTES = 256, 1 << 30
#: What the system says when the disk does not give what it was given. Anything else (no descriptors
#: or no memory left, no permission) is no verdict on the content.
_BAD_DISK = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENXIO, errno.ENODATA})

_log = logging.getLogger(__name__)

#: Told how many bytes of a blob were read, and how many it has.
Moved = Callable[[int, int], None]
#: Returns when so many bytes may be read.
Pace = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Bad:
    """A blob that was put aside: why, the names of the images that need it, and its file now."""

    digest: Digest
    size: int
    why: str
    names: tuple[str, ...]
    path: str


class Scrub:
    """Re-reads the blobs of a store. Every method raises StoreUnusable and DiskFull."""

    def __init__(
        self,
        store: BlobStore,
        files: Files,
        index: Index,
        io: RowHop,
        db: RowHop,
        change: RowHop,
        listing: Listing,
        passages: Passages,
        acts: Acts,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._files = files
        self._index = index
        self._io = io
        self._db = db
        self._change = change
        self._listing = listing
        self._passages = passages
        self._acts = acts
        self.clock = clock
        #: ``blobs`` and ``bytes`` that were read, and ``bad`` ones, since the cache was opened.
        self.counts = Counter[str]()
        self._proven: dict[Digest, float] = {}
        self._read = 0
        self._lost = Counter[Digest]()
        self._watchers: list[Callable[[Bad], None]] = []
        self.repair = Repair(store, files, index, io, change, listing, passages)

    def watch(self, found: Callable[[Bad], None]) -> None:
        """Tell this one of every blob that is put aside from now on."""
        self._watchers.append(found)

    def still_good(self, digest: Digest) -> Callable[[], None]:
        """What a reader asks now and then; raises DigestMismatch once its file was found wrong."""
        before = self._lost[digest]

        def check() -> None:
            if self._lost[digest] != before:
                raise DigestMismatch(f"{digest} was found to be damaged while it was read")

        return check

    async def prove_all(
        self,
        digests: Iterable[Digest],
        moved: Callable[[Digest, int, int], None],
        found: Callable[[Bad], None],
        *,
        unable: Callable[[Digest, Fault], None] | None = None,
        io: RowHop | None = None,
        hop: int = HOP,
        pace: Pace | None = None,
    ) -> None:
        """Read blobs again, the small ones together; tells of each as ``prove`` does.

        What cannot be judged is told to ``unable``, or else raised.
        """
        known = ((digest, self._store.held.size(digest)) for digest in digests)
        held = [(digest, size) for digest, size in known if size is not None]
        for group in groups(held, hop):
            right = await self._prove_together(group, moved, io or self._io, pace)
            for digest, _ in group:
                if digest in right:
                    continue
                try:
                    told = partial(moved, digest)
                    bad = await self.prove(digest, told, io=io, hop=hop, pace=pace)
                except Fault as fault:
                    if unable is None:
                        raise
                    unable(digest, fault)
                else:
                    if bad is not None:
                        found(bad)

    async def _prove_together(
        self,
        group: list[tuple[Digest, int]],
        moved: Callable[[Digest, int, int], None],
        io: RowHop,
        pace: Pace | None,
    ) -> frozenset[Digest]:
        """Those of several small blobs that are right; one alone is not looked at."""
        if len(group) == 1:
            return frozenset()
        if pace is not None:
            await pace(max(1, sum(size for _, size in group)))
        right = frozenset(await io(right_of, self._files, group))
        for digest, size in group:
            if digest in right:
                self.counts.update(blobs=1, bytes=size)
                moved(digest, size, size)
                await self._remember(digest, size)
        return right

    async def prove(
        self,
        digest: Digest,
        moved: Moved,
        *,
        io: RowHop | None = None,
        hop: int = HOP,
        pace: Pace | None = None,
    ) -> Bad | None:
        """Read a blob again; what was wrong with it, and it is put aside then.

        A blob that goes meanwhile is not wrong. ``io`` reads, ``hop`` bytes at a time, when
        ``pace`` lets it.
        """
        size = self._store.held.size(digest)
        if size is None:
            return None
        why = ""
        for _ in range(2):
            reading = Reading(self._files, digest, size)
            why = await self._wrong(reading, digest, size, moved, io or self._io, hop, pace)
            self.counts.update(blobs=1, bytes=reading.at)
            if digest not in self._store.held:
                return None
            if not why:
                await self._remember(digest, size)
                return None
            _log.warning("read as wrong: blob=%s why=%s", digest, why)
        return await self._acts.run(self._put_aside(digest, size, why))

    async def _wrong(
        self, reading: Reading, digest: Digest, size: int, moved: Moved, io: RowHop, hop: int,
        pace: Pace | None,
    ) -> str:  # fmt: skip
        """What is wrong with the file of a blob ("": nothing)."""
        more = True
        try:
            while more:
                if pace is not None:
                    await pace(max(1, min(hop, size - reading.at)))
                more = await io(reading.step, hop)
                moved(min(reading.at, size), size)
        except BlobNotFound as error:
            return str(error)
        except (StoreUnusable, OSError) as error:
            cause = error.__cause__ if isinstance(error, StoreUnusable) else error
            if not isinstance(cause, OSError) or cause.errno not in _BAD_DISK:
                raise StoreUnusable(f"{digest}: {error}") from error
            return f"it cannot be read: {cause.strerror}"
        except BaseException:
            io(reading.drop).add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        if reading.at != size:
            return f"it has {reading.at} bytes, not {size}"
        found = reading.hex
        return "" if found == digest.hex else f"it hashes to {digest.algorithm}:{found}"

    async def _put_aside(self, digest: Digest, size: int, why: str) -> Bad | None:
        async with self._passages.leaving([digest]) as leaving:
            if digest not in leaving:  # it comes anew in this instant
                return None
            self._store.held.drop(digest)
            self._lost[digest] += 1
            path = await self._io(put_aside, self._files.root, digest)
            names = await self._change(self._index.lose, digest)
        self.counts["bad"] += 1
        _log.error("quarantined: blob=%s file=%s why=%s images=%s", digest, path, why, names)
        bad = Bad(digest, size, why, tuple(names), path)
        for found in self._watchers:
            found(bad)
        with suppress(DiskFull):  # the next one that writes it tells of this too
            await self._listing.publish()
        return bad

    # what is known of proofs

    async def _remember(self, digest: Digest, size: int) -> None:
        self._proven[digest] = self.clock()
        self._read += size
        if len(self._proven) >= PROVEN_BATCH or self._read >= PROVEN_BYTES:
            await self.write()

    async def write(self) -> None:
        """Write down what was proven; where that cannot be done it is proven again."""
        proven, self._proven, self._read = self._proven, {}, 0
        try:
            await self._db(self._index.proofs.proven, proven)
        except (DiskFull, StoreUnusable) as fault:
            _log.warning("what was proven could not be written down: %s", fault)

    async def due(self, age: float, limit: int) -> list[Digest]:
        """Blobs that were last proven so many seconds ago, or more, the longest ago first."""
        await self.write()
        now = self.clock()
        return await self._db(self._index.proofs.due, now - age, now, limit)

    async def since(self) -> float | None:
        """Since when every blob has been proven, Unix seconds (0: not all are); None: no blobs."""
        return await self._db(self._index.proofs.since)

    async def origin(self, digest: Digest) -> Origin:
        """Where content can be had that is not here any more."""
        return await self._db(self._index.proofs.origin, digest, self.clock())
