"""Exporting: which images a shared store is to be filled with, and what each of them is.

Invariants:
- a caller is told of what they may read, and of nothing else;
- without a name only what everybody may read is given: a store is read by many;
- an image is whole: what its platforms here need is here, and the repository's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from cache.content import Descriptor
from cache.errors import NameNotFound
from cache.index import Name
from cache.store import BlobStore
from registryd.access import ANYBODY
from registryd.oci.errors import UsageError
from registryd.oci.media_types import OCTET_STREAM
from registryd.oci.reference import Reference
from registryd.operations.node import Node, Result
from registryd.transfer.library import LOCALHOST


class Exporting:
    """What is taken out. Every method raises Faults only."""

    _store: BlobStore
    _node: Node

    async def contents(
        self,
        *,
        references: Sequence[str] = (),
        everything: bool = False,
        made: bool = True,
        principal: str = "",
    ) -> Result:
        """Images of the cache with all that is here of them: those named, or all that are public.

        ``everything``: all that the caller may read. With ``made`` what was made of them too. Of
        ``blobs`` none comes before what it needs. Raises NameNotFound, UsageError.
        """
        names = [await self._to_export(text, principal) for text in references]
        if not references:
            whose = principal if everything else ANYBODY.principal
            names = [
                name
                for name in await self._store.names()
                if name.complete
                and not name.repository.startswith(f"{LOCALHOST}/")
                and await self._node.access.may_read(whose, name.repository)
                and await self._node.access.may_read(principal, name.repository)
            ]
        return {"images": [await self._exported(name, made) for name in names]}

    async def _to_export(self, text: str, principal: str) -> Name:
        reference = Reference.parse(text)
        if reference.registry == LOCALHOST:
            raise UsageError(
                f"{reference}: a name of {LOCALHOST}/ means another image on every node; push it to"
                " a registry, or pull it under the name that all nodes will use"
            )
        name = await self._store.resolve(str(reference))
        visible = await self._node.access.may_read(principal, reference.name)
        if name is None or not name.complete or not visible:
            raise NameNotFound(
                f"{reference} is not in the cache (registryctl images lists what is)"
            )
        return name

    async def _exported(self, name: Name, made: bool) -> Result:
        found: dict[Descriptor, str] = {}
        await self._gather_export(name.repository, name.descriptor, "", made, found)
        blobs = [
            {
                "digest": str(blob.digest),
                "media_type": blob.media_type,
                "size": blob.size,
                "made_of": subject,
            }
            for blob, subject in found.items()
        ]
        return {
            "reference": name.name,
            "digest": str(name.descriptor.digest),
            "media_type": name.descriptor.media_type,
            "size": name.descriptor.size,
            "checked": name.checked,
            "public": await self._node.access.may_read(ANYBODY.principal, name.repository),
            "blobs": blobs,
        }

    async def _gather_export(
        self,
        repository: str,
        root: Descriptor,
        subject: str,
        made: bool,
        found: dict[Descriptor, str],
    ) -> None:
        """All that hangs from a manifest, children first; ``subject`` is what it was made of."""
        if root in found or self._store.find(root.digest) is None:
            return
        if not await self._store.is_member(repository, root.digest):
            return
        for child in await self._store.children(root.digest):
            typed = Descriptor(child.media_type or OCTET_STREAM, child.digest, child.size)
            await self._gather_export(repository, typed, "", made, found)
        found[root] = subject
        for each in await self._store.made.of(root.digest) if made else ():
            await self._gather_export(repository, each, str(root.digest), made, found)
