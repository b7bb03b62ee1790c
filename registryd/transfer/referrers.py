"""What is attached to an image, and to what is attached to it: the artifacts to take along.

Invariants:
- an artifact counts only when its own manifest names as subject what it is listed with: a list may
  be old, or a tag that means something else;
- each digest is read once, so artifacts that name one another end; depth, number and bytes are
  bounded;
- what is listed and not there is passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final

from cache.content import Descriptor, Digest
from cache.errors import BlobNotFound
from registryd.oci.errors import BlobUnknown, ManifestInvalid, ManifestUnknown, NameUnknown
from registryd.oci.manifest import Document, IndexEntry
from registryd.ports import Body, Referring, Source
from registryd.transfer.copy import each

log = logging.getLogger(__name__)

#: A signature of a software list of an image is 2 deep.
DEPTH_LIMIT: Final = 8
#: Artifacts of one image, and the bytes of their manifests, which are held.
ATTACHED_LIMIT: Final = 10_000
BYTES_LIMIT: Final = 128 << 20


@dataclass(frozen=True, slots=True)
class Attached:
    """An artifact: its manifest, how it is listed, and how far it is from the image (from 1)."""

    document: Document
    entry: IndexEntry
    subject: Digest
    depth: int


async def attached_to(
    source: Referring,
    subjects: Iterable[Digest],
    *,
    artifact_type: str = "",
    depth: int = DEPTH_LIMIT,
    jobs: int = 4,
) -> tuple[Attached, ...]:
    """Everything that is attached to these manifests, to ``depth`` steps: the nearest first.

    Give all manifests of an image (``plan(source).documents``), for each can have its own. With
    ``artifact_type`` only those of this type count, at the first step. Each found is copied like an
    image: ``copy_image(Rooted(source, found.document), sink)``, with a sink that names a digest.
    Raises ManifestInvalid when there are too many, and what the source raises.
    """
    level = list(dict.fromkeys(subjects))
    seen, found, held = set(level), list[Attached](), 0
    for step in range(1, depth + 1):
        lists = await each(jobs, [partial(source.referrers, subject) for subject in level])
        wanted: list[tuple[Digest, IndexEntry]] = []
        for subject, entries in zip(level, lists, strict=True):
            for entry in entries:
                if entry.descriptor.digest in seen:
                    continue
                if step == 1 and artifact_type not in ("", entry.artifact_type):
                    continue
                seen.add(entry.descriptor.digest)
                wanted.append((subject, entry))
        held += sum(entry.descriptor.size for _, entry in wanted)
        if len(found) + len(wanted) > ATTACHED_LIMIT or held > BYTES_LIMIT:
            raise ManifestInvalid(
                f"more than {ATTACHED_LIMIT} artifacts or {BYTES_LIMIT} bytes of manifests are"
                f" attached to {level[0]}: too many"
            )
        read = await each(jobs, [partial(_read, source, step, *item) for item in wanted])
        fresh = [attached for attached in read if attached is not None]
        found += fresh
        level = [attached.document.digest for attached in fresh]
        if not level:
            break
    return tuple(found)


class Rooted:
    """A source whose image is another document of the same place (a ``ports.Source``)."""

    def __init__(self, source: Source, root: Document) -> None:
        self._source = source
        self._root = root

    async def root(self) -> Document:
        """The document."""
        return self._root

    async def manifest(self, descriptor: Descriptor) -> Document:
        """A child manifest. Raises as the source's does."""
        return await self._source.manifest(descriptor)

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[Body]:
        """A config or layer, whole. Raises as the source's does."""
        return self._source.blob(descriptor)


async def _read(source: Source, step: int, subject: Digest, entry: IndexEntry) -> Attached | None:
    """The artifact of an entry; None when it is not there, or not attached to this."""
    digest = entry.descriptor.digest
    try:
        document = await source.manifest(entry.descriptor)
    except (BlobUnknown, BlobNotFound, ManifestUnknown, NameUnknown):
        log.warning("an artifact is listed and not there", extra={"digest": str(digest)})
        return None
    if document.subject is None or document.subject.digest != subject:
        return None
    return Attached(document, entry, subject, step)
