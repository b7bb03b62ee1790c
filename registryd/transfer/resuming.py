"""What an earlier flight left of a blob, and for whom a new one may go on with it.

Invariants:
- kept bytes are not proven, so they are given on only under the registry that they came from: they
  are as good as its word;
- another repository of that registry gets them once the registry has said that it has the blob;
- what nobody vouches for is given up, and fetched anew.
"""

from __future__ import annotations

import asyncio
import logging

from cache.errors import IngestAborted, SizeMismatch
from cache.ingest import Ingest
from cache.store import BlobStore
from registryd.transfer.intake import Want

_log = logging.getLogger(__name__)


async def resume(store: BlobStore, want: Want) -> Ingest:
    """The ingest of a blob with what this repository may have of it.

    Raises SizeMismatch when what is kept contradicts the size that is wanted, DiskFull when the
    cache has no room for it, and what the Fetcher raises.
    """
    ingest = await store.ingest(want.digest)
    try:
        if ingest.held.total and not await _may_have(want, ingest.origins):
            raise IngestAborted("what was kept of it came from elsewhere")
        ingest.note_origin(want.repository.name)
        if want.size is not None:
            ingest.announce(want.size)
        await store.room.let_in(ingest, ingest.size)
    except BaseException as error:
        foreign = isinstance(error, IngestAborted)
        spoilt = foreign or isinstance(error, SizeMismatch)
        await asyncio.shield(store.abort(ingest, error, discard=spoilt))
        if not foreign:
            raise
    else:
        return ingest
    _log.warning("kept bytes came from elsewhere, fetching anew: digest=%s", want.digest)
    return await resume(store, want)


async def _may_have(want: Want, origins: frozenset[str]) -> bool:
    registry = f"{want.repository.registry}/"
    if not origins or not all(name.startswith(registry) for name in origins):
        return False
    if want.repository.name in origins:
        return True
    return await want.fetcher.blob_size(want.repository, want.digest) is not None
