"""Library: the cache seen through repositories, with what upstream can add to it.

Invariants:
- content is given through a repository only after it was proven to belong there: fetched from it,
  pushed to it, or confirmed by its registry. That a manifest names a digest proves nothing;
- what a tag means is for ``tags`` to say; where it has to do without its registry's word, that is
  passed on with what is given;
- a manifest that has to be signed is given to nobody before ``admission`` has admitted it, were it
  held for ever so long;
- ``localhost`` has no upstream: what is not held there is unknown;
- that there is no room to keep what upstream gives, or what was proven, is no reason to refuse it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch, DiskFull, Fault
from cache.index import Links, Rule
from cache.repositories import Referrer
from cache.store import BlobStore
from registryd.cluster_ports import Neighbours
from registryd.oci.errors import BlobUnknown, ManifestUnknown, RegistryError
from registryd.oci.manifest import MANIFEST_LIMIT, Document, Index, parse
from registryd.oci.media_types import DOCUMENTS
from registryd.oci.reference import Reference
from registryd.ports import Remote, TransportError, transient
from registryd.transfer.admission import Admission
from registryd.transfer.coalesce import Coalesce
from registryd.transfer.flight import Flight, Flights
from registryd.transfer.intake import Want
from registryd.transfer.tag_policy import TagPolicy
from registryd.transfer.tags import Meaning, Stale, Tags

#: The node's own registry: it has no upstream.
LOCALHOST = "localhost"
#: Parsed manifests kept in memory; at the usual 2 kB each this is a few hundred kB.
KEPT_DOCUMENTS = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest; ``stale`` where it is given without its registry's word.

    ``answered`` says that its registry has said or sent something for it just now; ``way`` is how
    the manifest came: it was here (``hit``), was fetched (``miss``) or on its way (``wait``).
    ``verified`` is the key file whose signature admitted it, None where none is wanted.
    """

    document: Document
    stale: Stale | None = None
    answered: bool = False
    way: str = "hit"
    verified: Path | None = None


class Library:
    """What this node has and can get; ``remote`` None means the node's own registry."""

    def __init__(
        self,
        store: BlobStore,
        flights: Flights,
        *,
        policy: TagPolicy,
        clock: Callable[[], float],
        neighbours: Neighbours | None = None,
        admission: Admission | None = None,
    ) -> None:
        """``admission`` says what is given to anybody; by default everything is."""
        self._store = store
        self.admission = admission or Admission({}, clock=clock)
        self._flights = flights
        self._neighbours = neighbours
        self.lowers = flights.lowers
        #: Streams of what there is no room for.
        self.past = flights.past
        #: What the names mean.
        self.tags = Tags(store, policy, clock=clock, lowers=flights.lowers)
        self._documents: OrderedDict[Digest, Document] = OrderedDict()
        self._fetching: Coalesce[tuple[Document, bool]] = Coalesce()
        self._proving: Coalesce[None] = Coalesce()

    async def resolve(
        self, remote: Remote | None, reference: Reference, *, fresh: bool = False
    ) -> Descriptor:
        """What a reference means now; ``fresh`` asks upstream whatever is remembered.

        Raises ManifestUnknown, and what the Remote raises where nothing may be given in its place.
        """
        return (await self.tags.resolve(remote, reference, fresh=fresh)).descriptor

    async def document(
        self,
        remote: Remote | None,
        reference: Reference,
        *,
        fresh: bool = False,
        remember: bool = True,
    ) -> Document:
        """The manifest or index of a reference, as ``find`` finds it. Raises as it does."""
        return (await self.find(remote, reference, fresh=fresh, remember=remember)).document

    async def find(
        self,
        remote: Remote | None,
        reference: Reference,
        *,
        fresh: bool = False,
        remember: bool = True,
    ) -> Found:
        """The manifest or index of a reference, stored here and linked to what it points to.

        A tag is remembered with it (unless the caller does that, once the content is here); it
        shows among the images when all it needs is here.
        Raises as resolve does, and DigestMismatch, ManifestInvalid, SignatureInvalid.
        """
        known = self.tags.digest(reference) if remote is not None else reference.digest
        if known is not None:
            document, way = await self._document(remote, reference, known)
            found = Found(document, answered=way != "hit", way=way)
        else:
            meaning = await self.tags.resolve(remote, reference, fresh=fresh)
            found = await self._meant(remote, reference, meaning, fresh)
        verified = await self.admission.admit(remote, reference, found.document)
        if verified is not None:
            found = replace(found, verified=verified)
        if remember and reference.digest is None and (found.stale is None or found.stale.lower):
            await self.remember(reference, found)
        return found

    async def _meant(
        self, remote: Remote | None, reference: Reference, meaning: Meaning, fresh: bool
    ) -> Found:
        digest = meaning.descriptor.digest
        try:
            document, way = await self._document(remote, reference, digest)
        except (TransportError, RegistryError) as error:
            if remote is None or meaning.stale:
                raise
            # The tag has moved on to what cannot be had: what it meant before is better than none.
            meaning = await self.tags.instead(reference, error, fresh=fresh)
            digest = meaning.descriptor.digest
            document, way = await self._document(remote, reference, digest)
        answered = meaning.answered or way != "hit"
        return Found(document, meaning.stale, answered=answered, way=way)

    async def _document(
        self, remote: Remote | None, reference: Reference, digest: Digest
    ) -> tuple[Document, str]:
        """A manifest, and the way it came."""
        document = await self._at_hand(reference.name, digest)
        if document is not None:
            return document, "hit"
        exact = reference.with_digest(digest)
        key = (id(remote), str(exact))
        shares = self._fetching.runs(key)
        try:
            document, fetched = await self._fetching.once(
                key, lambda: self._obtain(remote, exact, digest)
            )
        except (TransportError, RegistryError) as error:
            # It may be us alone whom the registry makes wait. Not within ``once``: nodes that wait
            # for it with one another would wait in a circle.
            if remote is None or not transient(error):
                raise
            found = await self._shared(remote, exact, digest, refused=True)
            if found is None:
                raise
            with suppress(DiskFull):
                await self.keep(exact.name, found)
            return found, "miss"
        return document, ("wait" if shares else "miss") if fetched else "hit"

    async def _at_hand(self, repository: str, digest: Digest) -> Document | None:
        """A parsed manifest that the repository has: the hot path stands in no queue."""
        if digest not in self._documents or self._store.find(digest) is None:
            return None
        return await self.held(digest) if await self._store.is_member(repository, digest) else None

    async def _obtain(
        self, remote: Remote | None, exact: Reference, digest: Digest
    ) -> tuple[Document, bool]:
        if self._store.find(digest) and await self._store.is_member(exact.name, digest):
            return await self.held(digest), False
        if remote is None:
            raise ManifestUnknown(f"{exact} is not in this registry", status=404)
        document = await self.lowers.document(exact.name, digest)
        if document is None:
            document = await self._shared(remote, exact, digest)
        if document is None:
            document = await remote.fetch_manifest(exact)
        with suppress(DiskFull):
            await self.keep(exact.name, document)
        return document, True

    async def _shared(
        self, remote: Remote, exact: Reference, digest: Digest, *, refused: bool = False
    ) -> Document | None:
        """A manifest from the node that answers for it, so that its registry is asked once."""
        if self._neighbours is None or not self._neighbours.others:
            return None
        with suppress(Fault):  # whatever is wrong there, the registry is asked next
            token = await remote.pull_token(exact)
            found = await self._neighbours.manifest(exact, token, refused=refused)
            return None if found is None else parse(found[0], found[1] or None, digest)
        return None

    async def keep(self, repository: str, document: Document) -> None:
        """Store a proven manifest as a member of a repository, with its links and its subject."""
        rule: Rule = "any" if isinstance(document, Index) else "all"
        links = Links(document.media_type, document.children, rule)
        await self._store.put(document.raw, document.descriptor, repository=repository, links=links)
        if document.subject is not None:
            referrer = Referrer(
                document.descriptor, document.referrer_type, dict(document.annotations)
            )
            await self._store.repositories.refer(repository, document.subject.digest, referrer)
        self._cache(document)

    async def restore(self, *, own: bool) -> None:
        """Put back the names and links of an index that was lost, as far as they are held.

        Whose the layers are is put back for ``localhost``, and for a cache that is one user's
        ``own``. In a shared one the registries have to prove it again: a manifest proves nothing.
        """
        lost, self._store.lost_names = self._store.lost_names, []
        for name, descriptor in lost:
            with suppress(Fault):
                reference = Reference.parse(name, default_tag=None)
                await self._restore(
                    reference, descriptor.digest, own or reference.registry == LOCALHOST
                )
                if await self._store.is_complete(descriptor):
                    await self._store.tag(name, reference.name, descriptor)
        if lost or self._store.made.lost:
            await self._restore_made()
            await self._store.restored()
        if lost:
            _log.warning("the index had lost names, they were put back: names=%d", len(lost))

    async def _restore_made(self) -> None:
        """Let what was made here be kept with what it was made of again."""
        lost, self._store.made.lost = self._store.made.lost, []
        for subject, descriptor in lost:
            with suppress(Fault):
                raw = await self._store.read(descriptor.digest, limit=MANIFEST_LIMIT)
                document = parse(raw, None, descriptor.digest)
                links = Links(document.media_type, document.children, "all")
                await self._store.put(raw, document.descriptor, links=links)
                await self._store.made.record(subject, document.descriptor)

    async def _restore(self, reference: Reference, digest: Digest, known: bool) -> None:
        if self._store.find(digest) is None:
            return
        document = parse(await self._store.read(digest, limit=MANIFEST_LIMIT), None, digest)
        await self.keep(reference.name, document)
        held = [child for child in document.children if self._store.find(child.digest)]
        if known:
            await self._store.add_member(reference.name, *(child.digest for child in held))
        for child in held:
            if child.media_type in DOCUMENTS:
                await self._restore(reference, child.digest, known)

    async def held(self, digest: Digest, *, use: bool = True) -> Document:
        """A stored manifest, parsed; the caller has seen that it may be shown."""
        document = self._documents.get(digest)
        if document is None:
            raw = await self._store.read(digest, limit=MANIFEST_LIMIT, use=use)
            media_type = await self._store.media_type(digest)
            document = parse(raw, media_type or None, digest)
            self._cache(document)
        elif use:
            self._documents.move_to_end(digest)
            await self._store.touch(digest)
        return document

    def _cache(self, document: Document) -> None:
        self._documents[document.digest] = document
        if len(self._documents) > KEPT_DOCUMENTS:
            self._documents.popitem(last=False)

    async def remember(self, reference: Reference, found: Found) -> None:
        """Let a tag mean this from now on; what nobody has confirmed is as old as it was."""
        known, descriptor = await self._store.resolve(str(reference)), found.document.descriptor
        if self._store.find(descriptor.digest) is None:
            return  # there was no room for it
        if known is None or known.descriptor.digest != descriptor.digest:
            at = found.stale.checked if found.stale else 0.0
            with suppress(DiskFull):
                await self._store.tag(str(reference), reference.name, descriptor, at)

    async def blob(
        self,
        remote: Remote | None,
        repository: Reference,
        digest: Digest,
        size: int | None = None,
        *,
        whole: bool = True,
    ) -> Flight | None:
        """Make a blob present: None when it is here and may be given, else its flight.

        With ``whole`` False the flight brings only what is demanded of it; its caller enters its
        ``reading`` before anything else. A flight of another registry becomes whole: its bytes may
        be given to us only once they are proven.
        Raises BlobUnknown when the repository does not have it, and what the Remote raises.
        """
        name = repository.name
        if self._store.find(digest):
            if not await self._store.is_member(name, digest):
                await self._prove(remote, repository, digest)
            return None
        if remote is None:
            raise BlobUnknown(f"{name} has no blob {digest}", status=404)
        guess = await self._store.expected_size(digest) if size is None else None
        want = Want(remote, repository.bare(), digest, size, guess)
        # From here to the join no await: a flight that began meanwhile proves nothing to us.
        under_way = self._flights.find(digest)
        ours = under_way is None or under_way.want.repository.name == name
        if not ours or self._store.find(digest):
            await self._prove(remote, repository, digest)
        if self._store.find(digest):
            return None
        under_way = self._flights.find(digest)
        near = under_way is None or under_way.is_of(repository.registry)
        return self._flights.join(want, whole=whole or not near)

    async def _prove(self, remote: Remote | None, repository: Reference, digest: Digest) -> None:
        if remote is None:
            raise BlobUnknown(f"{repository.name} has no blob {digest}", status=404)
        if await self.lowers.vouch(repository.name, digest):
            await self._store.add_member(repository.name, digest)
            return
        key = (id(remote), repository.name, digest)
        await self._proving.once(key, lambda: self._ask_for(remote, repository, digest))
        with suppress(DiskFull):
            await self._store.add_member(repository.name, digest)

    async def _ask_for(self, remote: Remote, repository: Reference, digest: Digest) -> None:
        """Prove that a repository has a blob which is here, or on its way, through another.

        A registry's word (HEAD) counts for what came from that registry. For anything else it has
        to give the bytes: whoever knows a digest could put up a registry that says yes to it.
        """
        under_way = self._flights.find(digest)
        near = under_way is not None and under_way.want.repository.registry == repository.registry
        near = near or await self._store.is_member(f"{repository.registry}/", digest)
        if near and await remote.blob_size(repository, digest) is not None:
            return
        seen = digest.hasher()
        async with remote.fetch_blob(repository, digest) as body:
            async for piece in body:
                seen.update(piece)
        if seen.hexdigest() != digest.hex:
            raise DigestMismatch(f"{repository.name} gives other bytes as {digest}")
