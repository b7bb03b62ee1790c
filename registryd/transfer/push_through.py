"""Pushing to another registry's name: kept here, and uploaded there before it counts.

Invariants:
- a blob is proven here, then uploaded from its file, and becomes a member of the repository only
  when its registry has taken it; until then a lease keeps it, and nobody can read it by that name;
- what its registry does not take goes from here too, unless another repository has it; after a
  process that was ended in between it is room to be collected, and still nobody's;
- a mount there makes nothing here a member: a registry's word is not bytes;
- whether a caller may push is asked before there are bytes to lose, and not for each layer anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from cache.content import Descriptor, Digest
from cache.ingest import Ingest
from cache.lease import Lease
from cache.store import BlobStore
from registryd.oci.manifest import Document
from registryd.oci.media_types import OCTET_STREAM
from registryd.oci.reference import Reference
from registryd.ports import Body, Remote
from registryd.transfer.cached import open_held
from registryd.transfer.coalesce import Coalesce

#: Seconds for which "you may push" is believed: about as long as the layers of one image begin.
LET_IN = 60.0
#: Rights that are remembered; beyond it all are asked for anew.
KEPT = 1024


class PushRights:
    """Who was lately let push where; a Remote stands for a registry and a login."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, kept: int = KEPT) -> None:
        self._clock = clock
        self._kept = kept
        self._until: dict[tuple[Remote, str], float] = {}
        self._asking: Coalesce[None] = Coalesce()

    async def prove(self, remote: Remote, repository: Reference) -> None:
        """Prove that the Remote's login may push to a repository. Raises as ``ask_push`` does."""
        key = (remote, repository.name)
        if self._clock() < self._until.get(key, 0.0):
            return
        await self._asking.once(key, lambda: remote.ask_push(repository))
        if len(self._until) >= self._kept:
            self._until.clear()
        self._until[key] = self._clock() + LET_IN

    def forget(self, remote: Remote, repository: Reference) -> None:
        """Ask anew next time: a push was refused."""
        self._until.pop((remote, repository.name), None)


async def push_blob(
    store: BlobStore, remote: Remote, repository: Reference, ingest: Ingest, digest: Digest
) -> None:
    """Prove what has arrived, upload it, and make it a member of the repository.

    The arrival is ended in any case. Raises as ``BlobStore.commit`` and ``Pusher.push_blob`` do.
    """
    try:
        async with store.lease() as lease:
            await lease.hold(digest)
            await store.commit(ingest, digest)
            descriptor = Descriptor(OCTET_STREAM, digest, ingest.size or 0)
            await remote.push_blob(
                repository.bare(), descriptor, lambda: _open_again(store, lease, descriptor)
            )
            await store.add_member(repository.name, digest)
    except BaseException as error:
        await asyncio.shield(_let_go(store, ingest, digest, error))
        raise


@asynccontextmanager
async def _open_again(
    store: BlobStore, lease: Lease, descriptor: Descriptor
) -> AsyncIterator[Body]:
    await lease.hold(descriptor.digest)  # each try may take as long as the first
    async with open_held(store, descriptor) as body:
        yield body


async def _let_go(store: BlobStore, ingest: Ingest, digest: Digest, cause: BaseException) -> None:
    await store.abort(ingest, cause, discard=True)
    if not await store.repositories.is_member_below("", digest):
        await store.remove([digest])


async def push_manifest(
    remote: Remote, reference: Reference, document: Document, tags: Sequence[str] = ()
) -> bool:
    """Put a manifest under the reference, then under each of these tags.

    Whether its registry lists it with the referrers of its subject. Raises as
    ``Pusher.push_manifest`` does; what was put before that stays put.
    """
    listed = await remote.push_manifest(reference, document)
    for tag in tags:
        await remote.push_manifest(reference.bare().with_tag(tag), document)
    return listed
