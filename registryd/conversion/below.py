"""What lower stores say was made of an image, brought here and kept as if it had been made here.

Invariants:
- a lower store is believed in this as the cache itself is: who may write there decides what is
  mounted here, and the configuration names it;
- what does not come from there is asked of others, or made here: nothing is lost but time.
"""

from __future__ import annotations

import logging

from cache.errors import DiskFull, Fault, SizeMismatch
from cache.hops import to_its_end
from cache.store import BlobStore
from registryd.conversion.conversions import Others, keep
from registryd.conversion.recipe import RECIPE
from registryd.conversion.run import Run
from registryd.oci.artifact import EMPTY_DESCRIPTOR
from registryd.oci.manifest import Manifest
from registryd.oci.reference import Reference
from registryd.ports import Remote
from registryd.transfer.flight import Flights
from registryd.transfer.intake import Want

_log = logging.getLogger(__name__)


class Below:
    """The ``Others`` of this node's conversions: lower stores, then (if any) the other nodes."""

    def __init__(self, flights: Flights, store: BlobStore, others: Others | None = None) -> None:
        self._flights = flights
        self._store = store
        self._others = others

    async def bring(self, remote: Remote | None, reference: Reference, run: Run) -> Manifest | None:
        """Have what is made already here; None where this node must make it. Raises DiskFull."""
        if remote is None:  # what is the node's own is in no store
            return None if self._others is None else await self._others.bring(None, reference, run)
        for document in await self._flights.lowers.made_of(run.manifest.digest):
            same = document.annotations.get(RECIPE) == str(run.recipe)
            if not same or not isinstance(document, Manifest) or not document.layers:
                continue
            try:
                await self._bring(remote, reference, run, document)
            except DiskFull:
                raise
            except Fault as fault:
                _log.warning(
                    "a conversion does not come: digest=%s cause=%s", run.manifest.digest, fault
                )
                continue
            return document
        return None if self._others is None else await self._others.bring(remote, reference, run)

    async def _bring(
        self, remote: Remote, reference: Reference, run: Run, document: Manifest
    ) -> None:
        blob = document.layers[0]
        async with self._store.lease() as lease:
            needed = (run.manifest, document, blob, EMPTY_DESCRIPTOR)
            await lease.hold(*(each.digest for each in needed))
            if self._store.find(blob.digest) is None:
                want = Want(remote, reference.bare(), blob.digest, blob.size, made=True, lower=True)
                await self._flights.join(want).landed()
            here = self._store.find(blob.digest)
            if here is None or here.size != blob.size:
                raise SizeMismatch(f"{blob.digest} is not what the lower store says of it")
            await to_its_end(keep(self._store, document))
