"""Pull: an image made present in the cache, as far as its platforms ask for it.

Invariants:
- content first, the name last; what the pull needs is leased from the first manifest on;
- what is held is not fetched: it is only confirmed to belong to the repository;
- an index keeps its digest: the name means the index, with the wanted manifests present.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from cache.content import Descriptor
from cache.errors import DiskFull, SizeMismatch
from cache.lease import Lease
from cache.store import BlobStore
from registryd.oci.manifest import Document, Index
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.ports import Remote
from registryd.transfer import report as events
from registryd.transfer.cached import CachedSource
from registryd.transfer.copy import each, plan
from registryd.transfer.flight import Flight
from registryd.transfer.library import Found, Library
from registryd.transfer.report import Kind, ProgressLimit, Report


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be pulled: a reference, from whom, for which platforms.

    ``remote`` None is the node's own registry. No ``platforms`` and not ``everything`` means
    ``host``'s platform, of an image that offers several. Not ``fresh``: what is remembered of a tag
    is good enough, for as long as its policy says. Not ``kept``: what there is no room for is no
    failure, for its caller reads it past the cache. ``owner`` is whose quota it counts for.
    """

    reference: Reference
    remote: Remote | None
    host: Platform
    platforms: Sequence[Platform] = ()
    everything: bool = False
    jobs: int = 6
    fresh: bool = True
    kept: bool = True
    owner: str = ""


@dataclass(slots=True)
class Tally:
    """Bytes and blobs of a pull: fetched by it, or held already."""

    fetched: int = 0
    fetched_blobs: int = 0
    held: int = 0
    held_blobs: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    platforms: list[Platform] = field(default_factory=list)
    kept: bool = True


async def pull(
    library: Library,
    store: BlobStore,
    request: Request,
    report: Report,
    clock: Callable[[], float] = time.monotonic,
) -> Document:
    """Make an image present and name it; what it is. The last event is ``done``.

    What is held is good enough while its registry fails or is away, and said to be so.
    Raises what Library.find and Library.blob raise, PlatformUnknown, SizeMismatch; DiskFull before
    anything is fetched of what the cache has no room for.
    """
    began = clock()
    async with store.lease() as lease:
        found = await library.find(
            request.remote, request.reference, fresh=request.fresh, remember=False
        )
        root = found.document
        report(events.resolved(request.reference, root.descriptor))
        if found.verified is not None:
            report(events.verified(request.reference, root.digest, found.verified))
        if found.stale is not None:
            report(events.warning(found.stale))
        await lease.hold(root.digest)
        tally, progress = Tally(), ProgressLimit(report, clock)
        run = _Run(library, store, request, tally, report, progress)
        try:
            await run.bring(found, lease)
        except DiskFull:
            if request.kept:
                raise
            tally.kept = False
    report(
        events.pulled(
            request.reference,
            root.digest,
            tally.platforms,
            fetched=tally.fetched,
            fetched_blobs=tally.fetched_blobs,
            held=tally.held,
            held_blobs=tally.held_blobs,
            seconds=clock() - began,
            sources=tally.sources,
            kept=tally.kept,
        )
    )
    return root


async def _name(library: Library, store: BlobStore, request: Request, found: Found) -> None:
    """Let the reference mean what was brought."""
    name, root = request.reference, found.document
    exact = name.with_digest(root.digest) if name.digest else name
    confirmed = request.fresh or found.answered or await store.resolve(str(exact)) is None
    if found.stale is None and confirmed:  # what nobody has confirmed is as old as it was
        await store.tag(str(exact), name.name, root.descriptor)
    elif found.stale is not None and found.stale.lower and name.digest is None:
        await library.remember(name, found)


async def _blobs(
    library: Library, store: BlobStore, request: Request, root: Document, tally: Tally
) -> dict[Descriptor, Kind]:
    """The configs and layers to make present; their manifests are, when this returns."""
    exact = request.reference.with_digest(root.digest)
    source = CachedSource(library, store, exact, request.remote)
    wanted = list(dict.fromkeys(request.platforms))
    if isinstance(root, Index) and not wanted and not request.everything:
        wanted = [request.host]
    graphs = [await plan(source, [platform]) for platform in wanted] or [await plan(source, [])]
    for document in (root, *(found for graph in graphs for found in graph.documents)):
        if store.find(document.digest) is None:  # there was no room: now that is an error
            await library.keep(exact.name, document)
    tally.platforms = wanted
    if isinstance(root, Index) and not wanted:
        tally.platforms = [e.platform for e in root.entries if e.platform and e.platform.known]
    return {blob: kind for graph in graphs for blob, kind in graph.blobs.items()}


class _Run:
    """One pull under way."""

    def __init__(
        self,
        library: Library,
        store: BlobStore,
        request: Request,
        tally: Tally,
        report: Report,
        progress: ProgressLimit,
    ) -> None:
        self._library = library
        self._store = store
        self._request = request
        self._tally = tally
        self._report = report
        self._progress = progress

    async def bring(self, found: Found, lease: Lease) -> None:
        """Make all that the request asks for present, and name it."""
        store, request, root = self._store, self._request, found.document
        blobs = await _blobs(self._library, store, request, root, self._tally)
        await lease.hold(*(descriptor.digest for descriptor in blobs))
        # Blobs of no image may be here: of a pull that was broken off, or asked for one by one.
        found_here = not request.owner or await store.room.quotas.is_found(root.digest)
        missing = {d.digest for d in blobs if store.find(d.digest) is None}
        new = {d.digest: d.size for d in blobs if not found_here or d.digest in missing}
        async with store.room.quotas.coming(request.owner, new, missing=missing):
            await store.room.expect_all(blobs)
            for descriptor, kind in blobs.items():
                self._report(events.blob(descriptor, kind, "waiting"))
            await each(request.jobs, [self.present(*item) for item in blobs.items()])
            await _name(self._library, store, request, found)
            if new:
                await store.room.quotas.hold(request.owner, root.digest)

    def present(self, descriptor: Descriptor, kind: Kind) -> Callable[[], Awaitable[None]]:
        """A call that makes one blob present."""
        return lambda: self._present(descriptor, kind)

    async def _present(self, descriptor: Descriptor, kind: Kind) -> None:
        request = self._request
        flight = await self._library.blob(
            request.remote, request.reference, descriptor.digest, descriptor.size
        )
        if flight is not None:
            await self._watch(flight, descriptor, kind)
        self._check(descriptor)
        if flight is None:
            self._tally.held += descriptor.size
            self._tally.held_blobs += 1
            self._report(events.blob(descriptor, kind, "held"))
        else:
            self._tally.fetched += descriptor.size
            self._tally.fetched_blobs += 1
            self._tally.sources[flight.source] += 1
            self._report(events.blob(descriptor, kind, "done", source=flight.source))

    async def _watch(self, flight: Flight, descriptor: Descriptor, kind: Kind) -> None:
        source = flight.source
        self._report(events.blob(descriptor, kind, "fetching", source=source))
        ingest = await flight.seen()
        while ingest is not None and not ingest.ended:
            if flight.source != source:  # a mirror, another mirror, or where its registry sent us
                source = flight.source
                self._report(events.blob(descriptor, kind, "fetching", source=source))
            self._progress.advance(descriptor.digest, ingest.held.total, descriptor.size)
            await ingest.changed()
        await flight.landed()

    def _check(self, descriptor: Descriptor) -> None:
        blob = self._store.find(descriptor.digest)
        if blob is not None and blob.size != descriptor.size:
            raise SizeMismatch(
                f"{descriptor.digest} has {blob.size} bytes,"
                f" the manifest of {self._request.reference} says {descriptor.size}"
            )
