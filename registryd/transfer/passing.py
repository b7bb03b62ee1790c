"""Passing: a blob on its way past the cache to one reader, where the cache has no room for it.

Invariants:
- nothing of it is written here; of each stream about two pieces are in memory, however slowly its
  reader takes them;
- the last ``HELD_BACK`` bytes are given only when size and digest are proven: a wrong blob is never
  given out whole. A bounded part, which nobody can take for the blob, is given as it comes;
- each reader has a stream of its own, which ends with them: what is not kept cannot be shared;
- a stream is as slow as its reader, so streams have half of a registry's connections at most: what
  is kept never waits for all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch, DiskFull, QuotaExceeded, SizeMismatch
from cache.ingest import HELD_BACK
from registryd.config import TransferConfig
from registryd.counts import Counts
from registryd.oci.errors import BadAnswer
from registryd.oci.media_types import OCTET_STREAM
from registryd.oci.reference import Reference
from registryd.ports import Body, Remote, Skipping
from registryd.rates import Pace, Rates
from registryd.transfer.endpoints import RegistrySource
from registryd.transfer.lanes import Lanes

#: Seconds between two lines that say so: with no room there is one for each blob that is asked for.
SAID_EVERY = 60.0
#: Pieces larger than this are hashed in a thread.
INLINE = 128 << 10

_log = logging.getLogger(__name__)


class Passed:
    """One blob that passes; ``size`` is the whole's, as its registry says."""

    def __init__(
        self, body: Body, digest: Digest, size: int, registry: str, pace: Pace, counts: Counts
    ) -> None:
        self.size = size
        self._registry = registry
        self._body = body
        self._digest = digest
        self._pace = pace
        self._counts = counts

    async def pieces(self, start: int, stop: int, *, proven: bool) -> AsyncGenerator[bytes]:
        """The bytes ``[start, stop)``; with ``proven`` all are fetched, and the end only comes when
        they are what they should be. Iterated once.

        Raises DigestMismatch, SizeMismatch, and what the registry's body raises.
        """
        at = 0
        if start and not proven and isinstance(self._body, Skipping):
            at = start if await self._body.skip_to(start) else 0
        async with aclosing(self._proven() if proven else self._coming()) as coming:
            async for piece in coming:
                fresh = piece[max(0, start - at) : max(0, stop - at)]
                at += len(piece)
                if fresh:
                    self._counts.streamed["bytes"] += len(fresh)
                    yield fresh
                if at >= stop and not proven:
                    return

    @property
    def source(self) -> str:
        """Who sends the bytes."""
        return self._body.source

    async def _proven(self) -> AsyncGenerator[bytes]:
        """All bytes, the last ones when the whole is proven."""
        seen, at, limit = self._digest.hasher(), 0, max(0, self.size - HELD_BACK)
        kept: list[bytes] = []
        async with aclosing(self._coming()) as coming:
            async for piece in coming:
                if len(piece) > INLINE:
                    await asyncio.to_thread(seen.update, piece)
                else:
                    seen.update(piece)
                cut = max(0, limit - at)
                at += len(piece)
                if at > self.size:
                    raise SizeMismatch(
                        f"{self._digest}: more came than the {self.size} bytes of it"
                    )
                if piece[:cut]:
                    yield piece[:cut]
                kept.append(piece[cut:])
        if at != self.size or seen.hexdigest() != self._digest.hex:
            raise DigestMismatch(
                f"{self.source} sent {at} bytes that hash to {seen.hexdigest()},"
                f" not {self.size} of {self._digest}"
            )
        yield b"".join(kept)

    async def _coming(self) -> AsyncGenerator[bytes]:
        async for piece in self._body:
            self._counts.fetched[self._counts.name(self._registry)] += len(piece)
            yield piece
            await self._pace.room(len(piece))
            self._pace.passed(len(piece))


class Passing:
    """The streams past the cache of one node."""

    def __init__(
        self, settings: TransferConfig, counts: Counts, rates: Rates, lanes: Lanes
    ) -> None:
        self._settings = settings
        self._counts = counts
        self._rates = rates
        self._lanes = lanes
        self._half = lanes.of_half()
        self._said: float | None = None

    @asynccontextmanager
    async def opened(
        self, remote: Remote, repository: Reference, digest: Digest, why: DiskFull
    ) -> AsyncIterator[Passed]:
        """One blob of a repository, for a reader that may have it; ``why`` it cannot be kept.

        Raises BadAnswer where its registry does not say how large it is, and what that raises.
        """
        size = await remote.blob_size(repository, digest)
        if size is None:
            raise BadAnswer(f"{repository.registry} does not say how large {digest} is")
        descriptor, registry = Descriptor(OCTET_STREAM, digest, size), repository.registry
        self._say(repository, digest, why)
        # A small blob too: its reader may be as slow as another's.
        half = self._half.lane(registry, object(), None, lambda: None, new=True)
        lane = self._lanes.lane(registry, object(), size, lambda: None, new=True)
        source = RegistrySource(remote, repository, self._settings)
        async with half, lane, source.blob(descriptor) as body:
            with self._rates.from_registry(registry, object()) as pace:
                yield Passed(body, digest, size, registry, pace, self._counts)

    @asynccontextmanager
    async def body(
        self, remote: Remote, repository: Reference, descriptor: Descriptor, why: DiskFull
    ) -> AsyncIterator[Body]:
        """The same for a place that proves what it takes."""
        self._say(repository, descriptor.digest, why)
        async with RegistrySource(remote, repository, self._settings).blob(descriptor) as body:
            yield body
            self._counts.streamed["bytes"] += descriptor.size

    def _say(self, repository: Reference, digest: Digest, why: DiskFull) -> None:
        """Count it, and let an administrator see that there is no room, though not at each blob."""
        self._counts.streamed["blobs"] += 1
        now = asyncio.get_running_loop().time()
        if self._said is not None and now - self._said < SAID_EVERY:
            return
        self._said = now
        _log.warning(
            "%s has no room, giving without keeping: blob=%s repository=%s cause=%s",
            "a user's quota" if isinstance(why, QuotaExceeded) else "the cache",
            digest,
            repository.name,
            why,
        )
