"""Images in tar archives as sources: ``oci-archive:FILE[:TAG]``, ``docker-archive:FILE[:REF|:@N]``.

An oci-archive is an OCI layout in a tar. A docker-archive is what ``docker save`` writes: classic
ones have ``manifest.json`` with configs and layers and no manifests; those of Docker 25 and later
are an OCI layout as well.

Invariants:
- where an archive holds the image's own manifest, that one is the root, with its digest;
- bytes of configs and layers come out as they lie in the archive, compressed or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from cache.content import Descriptor, Digest
from cache.errors import SizeMismatch
from registryd.images.archive import TarArchive
from registryd.images.completeness import is_complete
from registryd.images.docker_archive import (
    LISTING,
    Assembly,
    SavedImage,
    find_image,
    read_listing,
)
from registryd.images.errors import NotAnImage
from registryd.images.files import in_thread
from registryd.images.layout import (
    INDEX_LIMIT,
    MARK_LIMIT,
    check_mark,
    choose,
    entries_of,
    parse_index,
)
from registryd.images.referrers import find_referrers
from registryd.images.tar_scan import Member
from registryd.oci.errors import BlobUnknown, ManifestInvalid
from registryd.oci.manifest import MANIFEST_LIMIT, Document, IndexEntry, Manifest, parse
from registryd.oci.media_types import DOCUMENTS
from registryd.ports import Body

#: How many bytes of manifests are looked into for that of one image.
_DOCUMENTS_LIMIT: Final = 128 << 20


class ArchiveSource:
    """One image of an OCI layout in an archive: the one with this tag, or the only one."""

    def __init__(self, archive: TarArchive, tag: str = "") -> None:
        self._archive = archive
        self._tag = tag

    async def root(self) -> Document:
        """The image's manifest or index. Raises as LayoutSource.root does."""
        return await in_thread(self._root)

    async def manifest(self, descriptor: Descriptor) -> Document:
        """A child manifest. Raises BlobUnknown, SizeMismatch, DigestMismatch, ManifestInvalid."""
        return await in_thread(read_manifest, self._archive, descriptor)

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[Body]:
        """A config or layer. Raises BlobUnknown, SizeMismatch, NotAnImage on entering."""
        return _opened(self._archive, descriptor, {})

    async def referrers(self, digest: Digest) -> tuple[IndexEntry, ...]:
        """What the archive lists as attached to a manifest (``ports.Referring``).

        Raises NotAnImage, and as manifest does.
        """
        return await in_thread(self._referrers, digest)

    def _referrers(self, digest: Digest) -> tuple[IndexEntry, ...]:
        listed = entries_of(read_index(self._archive) or {}, self._archive.path)
        return find_referrers(digest, listed, lambda each: read_manifest(self._archive, each))

    def _root(self) -> Document:
        archive = self._archive
        mark = archive.read("oci-layout", MARK_LIMIT)
        if mark is None and archive.has(LISTING):
            raise NotAnImage(f"{archive.path} is no oci-archive: but docker-archive: reads it")
        check_mark(mark, archive.path)
        listing = read_index(archive)
        if listing is None:
            raise NotAnImage(f"{archive.path} is not an OCI layout: it has no file index.json")
        chosen = choose(listing, archive.path, self._tag, form="oci-archive")
        return read_manifest(archive, chosen)


class DockerArchiveSource:
    """One image of what ``docker save`` wrote: by its name, by ``@N``, or the only one."""

    def __init__(self, archive: TarArchive, wanted: str = "") -> None:
        self._archive = archive
        self._wanted = wanted
        self._root: Document | None = None
        self._members: dict[Digest, Member] = {}

    async def root(self) -> Document:
        """The image's own manifest, else one made of what there is: schema 2, layers as they are.

        Raises NotAnImage, ManifestUnknown (which lists the names there are), ManifestInvalid,
        DigestMismatch.
        """
        if self._root is None:
            saved, config = await in_thread(self._find)
            self._root = await in_thread(own_manifest, self._archive, saved, config)
            if self._root is None:
                assembly = await in_thread(Assembly, self._archive, saved)
                while await in_thread(assembly.step):
                    pass
                self._root, self._members = assembly.manifest(), assembly.members
        return self._root

    async def manifest(self, descriptor: Descriptor) -> Document:
        """A child manifest. Raises BlobUnknown, SizeMismatch, DigestMismatch, ManifestInvalid."""
        return await in_thread(read_manifest, self._archive, descriptor)

    @asynccontextmanager
    async def blob(self, descriptor: Descriptor) -> AsyncIterator[Body]:
        """A config or layer. Raises BlobUnknown, SizeMismatch, NotAnImage on entering."""
        await self.root()  # says which file of the archive is which blob
        async with _opened(self._archive, descriptor, self._members) as body:
            yield body

    def _find(self) -> tuple[SavedImage, bytes]:
        saved = find_image(read_listing(self._archive), self._archive.path, self._wanted)
        return saved, saved.read_config(self._archive)


def read_index(archive: TarArchive) -> dict[str, object] | None:
    """The index.json of an archive; None where it has none. Raises NotAnImage."""
    raw = archive.read("index.json", INDEX_LIMIT)
    return None if raw is None else parse_index(raw, archive.path)


def read_manifest(archive: TarArchive, descriptor: Descriptor) -> Document:
    """A manifest or index of an archive, proven.

    Raises BlobUnknown, SizeMismatch, DigestMismatch, ManifestInvalid.
    """
    if descriptor.size > MANIFEST_LIMIT:
        raise ManifestInvalid(
            f"manifest {descriptor.digest}: {descriptor.size} bytes, {MANIFEST_LIMIT} are allowed"
        )
    _member(archive, descriptor, {})
    raw = archive.read(blob_name(descriptor.digest), MANIFEST_LIMIT) or b""
    return parse(raw, descriptor.media_type, descriptor.digest)


def own_manifest(archive: TarArchive, saved: SavedImage, config: bytes) -> Document | None:
    """The manifest in an archive that has this config, or the index around it if that is whole.

    None where the archive has none: it is a classic one. Raises as read_manifest does.
    """
    listing = read_index(archive)
    if listing is None:
        return None
    held = _Held(archive)
    named = {str(reference) for reference in saved.references}
    entries = entries_of(listing, archive.path)
    entries.sort(key=lambda entry: named.isdisjoint(entry[1]))
    for descriptor in dict.fromkeys(descriptor for descriptor, _ in entries):
        document = held.document(descriptor)
        for image in held.images(document):
            digest = image.config.digest
            if digest == Digest.of(config, digest.algorithm):
                return document if document and held.is_whole(document) else image
    return None


def blob_name(digest: Digest) -> str:
    """The name under which an archive keeps a blob of its layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


class _Held:
    """The manifests of an archive, each read once: the work ends, however they are entangled."""

    def __init__(self, archive: TarArchive) -> None:
        self._archive = archive
        self._read: dict[Descriptor, Document] = {}
        self._total = 0

    def document(self, descriptor: Descriptor) -> Document | None:
        """The manifest or index, where it is in the archive. Raises as read_manifest does."""
        if descriptor in self._read:
            return self._read[descriptor]
        known = descriptor.media_type in DOCUMENTS
        if not known or not self._archive.has(blob_name(descriptor.digest)):
            return None
        self._total += descriptor.size
        if self._total > _DOCUMENTS_LIMIT:
            raise ManifestInvalid(
                f"{self._archive.path}: more than {_DOCUMENTS_LIMIT} bytes of manifests"
            )
        return self._read.setdefault(descriptor, read_manifest(self._archive, descriptor))

    def images(self, document: Document | None) -> Iterator[Manifest]:
        """This manifest, or those that an index lists and the archive has."""
        if isinstance(document, Manifest):
            yield document
        elif document is not None:
            for child in document.children:
                below = self.document(child)
                if isinstance(below, Manifest):
                    yield below

    def is_whole(self, root: Document) -> bool:
        """Whether everything is there that a document points to."""

        def read(descriptor: Descriptor) -> Document:
            found = root if descriptor == root.descriptor else self.document(descriptor)
            if found is None:
                raise BlobUnknown(f"{self._archive.path} lacks {descriptor.digest}")
            return found

        return is_complete(
            root.descriptor, read, lambda blob: self._archive.has(blob_name(blob.digest))
        )


def _member(archive: TarArchive, descriptor: Descriptor, known: dict[Digest, Member]) -> Member:
    path: Path = archive.path
    found = known.get(descriptor.digest) or archive.find(blob_name(descriptor.digest))
    if found is None:
        raise BlobUnknown(f"{path} lacks {descriptor.digest}: the image there is not complete")
    if found.size != descriptor.size:
        raise SizeMismatch(
            f"{path}: {descriptor.digest} has {found.size} bytes where {descriptor.size} were"
            " announced"
        )
    return found


@asynccontextmanager
async def _opened(
    archive: TarArchive, descriptor: Descriptor, known: dict[Digest, Member]
) -> AsyncIterator[Body]:
    yield archive.body(_member(archive, descriptor, known))
