"""Repairing: the index of the cache compared with its blobs, and put right.

Invariants:
- only the owner of the daemon has it done, or sees what differs;
- what comes of it opens nothing to anybody: links are put back, memberships and grants never.
"""

from __future__ import annotations

import json
from contextlib import suppress

from cache.content import Digest
from cache.errors import CacheError
from cache.index import Links, Rule
from cache.store import BlobStore
from registryd.oci.errors import Denied, ManifestInvalid
from registryd.oci.manifest import MANIFEST_LIMIT, Document, Index, parse
from registryd.operations.node import Result

Change = tuple[str, str, str]


class Repairing:
    """The cache put right. Every method raises Faults only."""

    _store: BlobStore

    async def repair(self, *, dry_run: bool = False, principal: str = "") -> Result:
        """Compare files, links, names and rows with the blobs; with ``dry_run`` change nothing.

        Raises Denied.
        """
        if principal:
            raise Denied("only the owner of the daemon has its cache repaired")
        changes = await self._files(dry_run)
        documents, linked = await self._documents(dry_run)
        changes += linked
        changes += await self._names(dry_run)
        for table, count in (await self._store.scrub.repair.sweep(dry_run=dry_run)).items():
            if count:
                changes.append(("rows dropped", table, f"{count} of content that is gone"))
        if not dry_run:
            await self._store.scrub.repair.end()
        return {
            "dry_run": dry_run,
            "blobs": len(self._store),
            "manifests": documents,
            "images": sum(name.complete for name in await self._store.names()),
            "changes": [{"what": what, "of": of, "why": why} for what, of, why in changes],
        }

    async def _files(self, dry_run: bool) -> list[Change]:
        repair, changes = self._store.scrub.repair, list[Change]()
        differences = await repair.look()
        for digest, size in differences.unknown:
            right = dry_run or await repair.adopt(digest, size)
            why = "its file was not known" if right else "its file is not what it is called"
            changes.append(("found" if right else "put aside", str(digest), why))
        for stray in differences.strays:
            if not dry_run:
                await repair.drop(stray)
            changes.append(("removed", str(stray), "it is not called by a digest"))
        for digest in differences.wrong:
            why = "its file is gone, or has another size"
            if not dry_run:
                bad = await self._store.scrub.prove(digest, lambda at, size: None)
                why = bad.why if bad else why
            changes.append(("put aside", str(digest), why))
        return changes

    async def _documents(self, dry_run: bool) -> tuple[int, list[Change]]:
        """How many manifests there are, and those whose links were not what they say."""
        repair, count, changes = self._store.scrub.repair, 0, list[Change]()
        for digest, size in tuple(self._store.held.items()):
            known = await repair.known(digest)
            told = known.media_type or known.claimed
            document = await self._document(digest, told) if size <= MANIFEST_LIMIT else None
            if document is None:
                continue
            count += 1
            rule: Rule = "any" if isinstance(document, Index) else "all"
            same = known.media_type == document.media_type and (
                known.children == frozenset(document.children)
                and (known.rule == rule or not document.children)
            )
            if same:
                continue
            changes.append(("linked", str(digest), _why(len(known.children), document)))
            if not dry_run:
                links = Links(document.media_type, document.children, rule)
                await repair.relink(digest, links)
        return count, changes

    async def _document(self, digest: Digest, told: str) -> Document | None:
        """A blob that is a manifest: as it was linked, others say, or it says of itself.

        That some JSON has a manifest's shape is not enough.
        """
        with suppress(ManifestInvalid, CacheError, ValueError, RecursionError):
            raw = await self._store.read(digest, limit=MANIFEST_LIMIT, use=False)
            if not raw.lstrip().startswith(b"{"):
                return None
            if not told and "mediaType" not in json.loads(raw):
                return None
            return parse(raw, told or None, digest)
        return None

    async def _names(self, dry_run: bool) -> list[Change]:
        return [
            ("name whole", name, "what it needs is here")
            if whole
            else ("name incomplete", name, "not all that it needs is here")
            for name, whole in await self._store.scrub.repair.settle(dry_run=dry_run)
        ]


def _why(before: int, document: Document) -> str:
    return f"the index had {before} links, it has {len(document.children)}"
