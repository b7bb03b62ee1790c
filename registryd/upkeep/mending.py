"""Mending: blobs that were found to be wrong, fetched again by the daemon itself.

Invariants:
- content is asked only of the repositories that it was proven to belong to, with no login or this
  node's own: no user's is kept, so what needs one waits for that user's next pull;
- nobody may read more by it than before: whose the content is was never forgotten;
- one at a time, as nobody waits; what cannot be had for now is tried again for a day.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from typing import Final

from cache.content import Digest
from cache.errors import Fault
from cache.scrub import Bad
from cache.store import BlobStore
from registryd.oci.errors import RegistryError
from registryd.oci.reference import Reference
from registryd.ports import Remotes, TransportError, transient
from registryd.transfer.library import LOCALHOST, Library

#: Seconds until what could not be had is tried again, and how often: for a day.
RETRY: Final = 600.0
TRIES: Final = 144
#: Repositories that are asked for one blob; most blobs belong to one.
MOST_ASKED: Final = 8
#: Blobs that wait; a disk that has lost more than this is brought back by pulls.
MOST_WAITING: Final = 10_000

_log = logging.getLogger(__name__)


class Mending:
    """What is to be fetched again on one node."""

    def __init__(self, store: BlobStore, library: Library, remotes: Remotes) -> None:
        self._store = store
        self._library = library
        self._remotes = remotes
        self._wanted: deque[tuple[Digest, int]] = deque()
        self._later: list[tuple[Digest, int]] = []
        self._news = asyncio.Event()
        #: Blobs that were ``fetched`` again, and those that were ``left`` to the next pull.
        self.counts = Counter[str]()
        store.scrub.watch(self._found)

    def _found(self, bad: Bad) -> None:
        if len(self._wanted) + len(self._later) < MOST_WAITING:
            self._wanted.append((bad.digest, 0))
            self._news.set()

    async def run(self) -> None:
        """Fetch what is found; runs until it is cancelled."""
        while True:
            try:
                async with asyncio.timeout(RETRY if self._later else None):
                    await self._news.wait()
            except TimeoutError:
                self.again()
            self._news.clear()
            await self.work()

    def again(self) -> None:
        """Let what could not be had for now be tried once more."""
        self._wanted.extend(self._later)
        self._later.clear()

    async def work(self) -> None:
        """Try all that waits, once."""
        while self._wanted:
            digest, tries = self._wanted.popleft()
            cause = await self._bring(digest)
            if cause is None:
                continue
            if _passes(cause) and tries + 1 < TRIES:
                self._later.append((digest, tries + 1))
                continue
            self.counts["left"] += 1
            _log.warning("left to the next pull: blob=%s cause=%s", digest, cause)

    async def _bring(self, digest: Digest) -> Fault | None:
        """Have a blob here again; why that cannot be (None: it is, or nobody needs it)."""
        cause: Fault | None = None
        try:
            origin = await self._store.scrub.origin(digest)
            if not origin.needed or self._store.find(digest) is not None:
                return None
            for repository in origin.repositories[:MOST_ASKED]:
                reference = Reference.parse(f"{repository}@{digest}")
                failed = await self._fetch(reference, digest, manifest=origin.manifest)
                if failed is None:
                    self.counts["fetched"] += 1
                    _log.warning("fetched again: blob=%s from=%s", digest, repository)
                    return None
                cause = failed if cause is None or _passes(failed) else cause
        except Fault as fault:
            return fault
        return cause or RegistryError("no registry is known to have it")

    async def _fetch(self, reference: Reference, digest: Digest, *, manifest: bool) -> Fault | None:
        try:
            own = reference.registry == LOCALHOST
            remote = None if own else self._remotes.remote(reference.registry)
            if manifest:
                await self._library.document(remote, reference)
                return None
            flight = await self._library.blob(remote, reference.bare(), digest)
            if flight is not None:
                await flight.landed()
        except Fault as fault:
            return fault
        return None


def _passes(fault: Fault) -> bool:
    """Whether another try may find this gone."""
    return isinstance(fault, TransportError | RegistryError) and transient(fault)
