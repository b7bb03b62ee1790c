"""Admission: an image that must be signed is given to nobody before a signature was verified.

Invariants:
- a repository that no section of the configuration speaks of is not touched by any of this;
- where a section does, whatever stands in the way of a verdict is a no: a missing or wrong
  signature, a key that cannot be read, a registry that does not answer;
- a verdict is about a digest, never about a name: a tag that moves is judged anew;
- signatures themselves are given to who asks for them by their tag, and otherwise only when each
  of them is one by the configured keys: a layer that is called a payload may be anything;
- what an index lists is admitted by a signature of the index, or by its own;
- the signatures that admitted something are kept, so that it stays verifiable without a registry;
  a verdict is remembered for ``FRESH`` seconds, so that a key that was taken away counts soon.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from cache.content import Digest
from cache.errors import CacheError
from cache.index import Links
from cache.repositories import Referrer
from cache.store import BlobStore
from registryd.oci.errors import ManifestUnknown, NameUnknown, RegistryError, SignatureInvalid
from registryd.oci.manifest import MANIFEST_LIMIT, Document, Manifest, parse
from registryd.oci.reference import Reference
from registryd.ports import Remote, TransportError
from registryd.signature_config import SignatureConfig
from registryd.signatures.keys import KeyUnusable, PublicKey, read_keys
from registryd.signatures.rules import Rule, rule_for
from registryd.signatures.simple_signing import (
    ARTIFACT_TYPE,
    PAYLOAD_LIMIT,
    SIGNATURES_LIMIT,
    Candidate,
    author,
    candidates,
    is_signature,
    is_signature_tag,
    signer,
    tag_of,
)
from registryd.transfer.coalesce import Coalesce

#: Seconds for which a verdict is remembered.
FRESH = 60.0
#: Verdicts remembered; the oldest is forgotten first.
KEPT = 4096
#: Indexes that are looked at for one that lists a manifest: one is usual, tags share a few.
INDEXES_LIMIT = 16
#: Bytes of annotations that are read with a list of what is attached.
ROOM = 2**20


class Admission:
    """Who was admitted; with a store, by what is held too. ``store`` None: by registries alone."""

    def __init__(
        self,
        sections: Mapping[str, SignatureConfig],
        store: BlobStore | None = None,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._sections = sections
        self._store = store
        self._clock = clock
        self._verdicts: OrderedDict[tuple[Rule, str, Digest], tuple[Path, float]] = OrderedDict()
        self._judging: Coalesce[Path] = Coalesce()

    def take_over(self, sections: Mapping[str, SignatureConfig]) -> None:
        """Go on with these, and with no verdict of before."""
        self._sections = sections
        self._verdicts.clear()

    async def admit(
        self, remote: Remote | None, reference: Reference, document: Document
    ) -> Path | None:
        """The key file by which what a reference means is admitted; None where none is wanted.

        Raises SignatureInvalid.
        """
        rule = rule_for(reference.name, self._sections)
        by_tag = reference.digest is None and is_signature_tag(reference.tag)
        if rule is None or (by_tag and is_signature(document)):
            return None
        key = (rule, reference.name, document.digest)
        path, until = self._verdicts.get(key, (None, 0.0))
        if path is not None and self._clock() < until:
            return path
        path = await self._judging.once(
            (id(remote), *key), lambda: self._judge(rule, remote, reference.bare(), document)
        )
        self._verdicts.pop(key, None)
        self._verdicts[key] = (path, self._clock() + FRESH)
        while len(self._verdicts) > KEPT:
            self._verdicts.popitem(last=False)
        return path

    async def _judge(
        self, rule: Rule, remote: Remote | None, repository: Reference, document: Document
    ) -> Path:
        exact = repository.with_digest(document.digest)
        try:
            keys = await asyncio.to_thread(read_keys, rule.keys)
            if is_signature(document):
                path = await self._all_signed(keys, remote, repository, document)
            else:
                path = await self._find(keys, remote, repository, document.digest)
            if path is not None:
                return path
            why = "no signature by the configured keys was found for it"
        except KeyUnusable as error:
            why = str(error)
        except (TransportError, RegistryError, CacheError) as error:
            why = f"its signature could not be had: {error}"
        raise SignatureInvalid(
            f'{exact} is not admitted: {why} (signatures."{rule.prefix}" wants one of'
            f" {', '.join(map(str, rule.keys))})"
        )

    async def _all_signed(
        self,
        keys: list[PublicKey],
        remote: Remote | None,
        repository: Reference,
        document: Document,
    ) -> Path | None:
        """The key behind a manifest of signatures, if every layer of it is signed by ours."""
        found = candidates(document)
        by: PublicKey | None = None
        for each in found:
            payload = await self._payload(None, repository, each)
            if payload is None and remote is not None:
                payload = await self._payload(remote, repository, each)
            by = None if payload is None else author(payload, each.signature, keys)
            if by is None:
                return None
        layers = document.layers if isinstance(document, Manifest) else ()
        return by.path if by is not None and len(found) == len(layers) else None

    async def _find(
        self, keys: list[PublicKey], remote: Remote | None, repository: Reference, digest: Digest
    ) -> Path | None:
        """The key that has signed a digest, or an index that lists it: what is held comes first."""
        judged = [digest, *await self._listing(repository.name, digest)]
        for each in judged:
            for found in await self._held(repository, each):
                path = await self._verify(keys, None, repository, each, found)
                if path is not None:
                    return path
        for each in judged if remote is not None else ():
            assert remote is not None  # noqa: S101 - for the type checker
            for look in (self._tagged, self._attached):
                for found in await look(remote, repository, each):
                    path = await self._verify(keys, remote, repository, each, found)
                    if path is not None:
                        return path
        return None

    async def _listing(self, name: str, digest: Digest) -> list[Digest]:
        """The held indexes of the repository that list a manifest, and those that list them."""
        if self._store is None:
            return []
        found: dict[Digest, None] = {}
        asked = [digest]
        while asked and len(found) < INDEXES_LIMIT:
            parents = await self._store.repositories.listing(name, asked.pop(0), INDEXES_LIMIT)
            new = [parent for parent in parents if parent not in found and parent != digest]
            found |= dict.fromkeys(new)
            asked += new
        return list(found)

    async def _held(self, repository: Reference, digest: Digest) -> list[Document]:
        """The held manifests with signatures of a digest."""
        store, name = self._store, repository.name
        if store is None:
            return []
        known = await store.resolve(f"{name}:{tag_of(digest)}")
        attached = await store.repositories.referrers(
            name, digest, artifact_type=ARTIFACT_TYPE, limit=SIGNATURES_LIMIT, room=ROOM
        )
        named = [] if known is None else [known.descriptor.digest]
        named += [each.descriptor.digest for each in attached.referrers]
        return [
            parse(await store.read(each, limit=MANIFEST_LIMIT), None, each)
            for each in dict.fromkeys(named)
            if store.find(each) and await store.is_member(name, each)
        ]

    @staticmethod
    async def _tagged(remote: Remote, repository: Reference, digest: Digest) -> list[Document]:
        """The manifest with signatures that its registry has under the tag for a digest."""
        tag = Reference(repository.registry, repository.repository, tag_of(digest))
        try:
            return [await remote.fetch_manifest(tag)]
        except (ManifestUnknown, NameUnknown) as error:
            if error.status not in (0, 404):
                raise
        return []

    @staticmethod
    async def _attached(remote: Remote, repository: Reference, digest: Digest) -> list[Document]:
        """The manifests with signatures that its registry lists as attached to a digest."""
        found = await remote.referrers(repository, digest, artifact_type=ARTIFACT_TYPE)
        return [
            await remote.fetch_manifest(repository.with_digest(entry.descriptor.digest))
            for entry in found.entries[:SIGNATURES_LIMIT]
        ]

    async def _verify(
        self,
        keys: list[PublicKey],
        remote: Remote | None,
        repository: Reference,
        digest: Digest,
        document: Document,
    ) -> Path | None:
        """The key behind one of a manifest's signatures, which is kept then; None for none."""
        for each in candidates(document):
            payload = await self._payload(remote, repository, each)
            if payload is None:
                continue
            key = await asyncio.to_thread(signer, digest, payload, each.signature, keys)
            if key is not None:
                if remote is not None:
                    await self._keep(repository, digest, document, each, payload)
                return key.path
        return None

    async def _payload(
        self, remote: Remote | None, repository: Reference, candidate: Candidate
    ) -> bytes | None:
        """What is signed, proven against its digest; None when it cannot be had."""
        descriptor = candidate.payload
        if remote is None:
            held = self._store is not None and self._store.find(descriptor.digest) is not None
            if not held or self._store is None:
                return None
            return await self._store.read(descriptor.digest, limit=PAYLOAD_LIMIT)
        raw = bytearray()
        async with remote.fetch_blob(repository, descriptor.digest) as body:
            async for piece in body:
                raw += piece
                if len(raw) > descriptor.size:
                    return None
        payload = bytes(raw)
        proven = Digest.of(payload, descriptor.digest.algorithm) == descriptor.digest
        return payload if proven else None

    async def _keep(
        self,
        repository: Reference,
        digest: Digest,
        document: Document,
        candidate: Candidate,
        payload: bytes,
    ) -> None:
        """Keep a signature with its image, as attached to it, whatever way it was found."""
        if self._store is None:
            return
        name = repository.name
        await self._store.put(payload, candidate.payload, repository=name)
        links = Links(document.media_type, document.children, "all")
        await self._store.put(document.raw, document.descriptor, repository=name, links=links)
        referrer = Referrer(document.descriptor, ARTIFACT_TYPE, {})
        await self._store.repositories.refer(name, digest, referrer)
