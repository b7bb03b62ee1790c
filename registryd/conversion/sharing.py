"""What other nodes have made, brought here and kept as if it had been made here."""

from __future__ import annotations

import logging

from cache.errors import DiskFull, Fault, SizeMismatch
from cache.hops import to_its_end
from cache.store import BlobStore
from registryd.conversion.conversions import keep
from registryd.conversion.elsewhere import Elsewhere, Found
from registryd.conversion.run import Run
from registryd.oci.artifact import EMPTY_DESCRIPTOR
from registryd.oci.manifest import Manifest
from registryd.oci.reference import Reference
from registryd.ports import Remote
from registryd.transfer.flight import Flights
from registryd.transfer.intake import Want

_log = logging.getLogger(__name__)


class Sharing:
    """The ``Others`` of this node's conversions."""

    def __init__(self, elsewhere: Elsewhere, flights: Flights, store: BlobStore) -> None:
        self._elsewhere = elsewhere
        self._flights = flights
        self._store = store

    async def bring(self, remote: Remote | None, reference: Reference, run: Run) -> Manifest | None:
        """Have what another node makes here; None where this one must make it. Raises DiskFull."""
        manifest, recipe = run.manifest, run.recipe
        found = await self._elsewhere.made(
            remote, reference, manifest, recipe, run.reached, able=run.able
        )
        if found is None:
            return None
        try:
            await self._bring(reference, run, found)
        except DiskFull:
            raise
        except Fault as fault:
            _log.warning(
                "a conversion does not come: node=%s digest=%s cause=%s",
                found.node.name, manifest.digest, fault,
            )  # fmt: skip
            return None
        return found.document

    async def _bring(self, reference: Reference, run: Run, found: Found) -> None:
        document, blob = found.document, found.document.layers[0]
        async with self._store.lease() as lease:
            needed = (run.manifest, document, blob, EMPTY_DESCRIPTOR)
            await lease.hold(*(each.digest for each in needed))
            if self._store.find(blob.digest) is None:
                fetcher = self._elsewhere.fetcher(found)
                want = Want(fetcher, reference.bare(), blob.digest, blob.size, made=True)
                await self._flights.join(want).landed()
            here = self._store.find(blob.digest)
            if here is None or here.size != blob.size:
                raise SizeMismatch(f"{blob.digest} is not what {found.node.name} says of it")
            await to_its_end(keep(self._store, document))
