"""Proving: blobs of the cache read again; what is wrong is put aside, and told.

Invariant:
- only the owner of the daemon has all of its disk read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from cache.content import Digest
from cache.errors import BlobNotFound, DigestInvalid, NameNotFound
from cache.scrub import Bad
from cache.store import BlobStore
from registryd.oci.errors import Denied
from registryd.oci.reference import Reference
from registryd.transfer import report as events
from registryd.transfer.report import Event, ProgressLimit, Report


class Proving:
    """Blobs read again. Every method raises Faults only."""

    _store: BlobStore

    async def verify(
        self,
        *,
        targets: Sequence[str] = (),
        principal: str = "",
        report: Report = events.silent,
    ) -> None:
        """Read blobs of the cache again: those of images, those of digests, or (no target) all.

        Tells progress, ``corrupt`` of each that is put aside, and ``done`` in the end. Raises
        Denied, NameNotFound, BlobNotFound, ReferenceInvalid.
        """
        if principal:
            raise Denied("only the owner of the daemon has the whole cache read")
        began, held = time.monotonic(), self._store.held
        wanted = {d: None for target in targets for d in await self._targeted(target)}
        digests = [digest for digest in (wanted if targets else tuple(held)) if digest in held]
        total = sum(held.size(digest) or 0 for digest in digests)
        limit, bad = ProgressLimit(report, time.monotonic), list[Event]()

        def found(wrong: Bad) -> None:
            bad.append(_shown(wrong))
            report({"event": "corrupt", **_shown(wrong)})

        await self._store.scrub.prove_all(digests, limit.advance, found)
        await self._store.scrub.write()
        report(
            {
                "event": "done",
                "blobs": len(digests),
                "bytes": total,
                "corrupt": bad,
                "seconds": round(time.monotonic() - began, 3),
            }
        )

    async def _targeted(self, target: str) -> list[Digest]:
        """The blobs of an image, with what was made of it; or the one of a digest."""
        try:
            digest = Digest.parse(target)
        except DigestInvalid:
            name = Reference.parse(target)
            entry = await self._store.resolve(str(name))
            if entry is None:
                line = f"{name} is not in the cache (registryctl images lists what is)"
                raise NameNotFound(line) from None
            return list(await self._store.closure(entry.descriptor.digest, made=True))
        if self._store.find(digest) is None:
            raise BlobNotFound(f"{digest} is not in the cache")
        return [digest]


def _shown(bad: Bad) -> Event:
    return {
        "digest": str(bad.digest),
        "size": bad.size,
        "why": bad.why,
        "images": list(bad.names),
        "file": bad.path,
    }
