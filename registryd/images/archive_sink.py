"""Images written to one tar archive: ``oci-archive:FILE[:TAG]`` and ``docker-archive:FILE[:REF]``.

An oci-archive is an OCI layout. A docker-archive is the same, with the ``manifest.json`` beside it
by which every ``docker load`` finds config and layers: nothing is lost, and no layer is inflated.

Invariants:
- each blob has its place in the file from the moment it is asked for, so several arrive at once and
  none is written twice; places are given in the order of asking, which is that of the image;
- the same images give the same bytes: no times, no owners.
"""

from __future__ import annotations

import asyncio
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from cache.content import Descriptor, Digest
from cache.errors import SizeMismatch
from registryd.images.errors import path_faults
from registryd.images.files import Proof, in_thread, receive
from registryd.images.layout import FULL_NAME, LAYOUT_VERSION, REF_NAME, entry_of
from registryd.oci.errors import UsageError
from registryd.oci.manifest import Document, Index, Manifest
from registryd.oci.media_types import DOCKER_CONFIG, OCI_CONFIG, OCI_INDEX
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.ports import BodyOpener

Form = Literal["oci-archive", "docker-archive"]

_BLOCK: Final = 512
_END: Final = bytes(2 * _BLOCK)


@dataclass
class _Place:
    """Where a blob's bytes are, or are to be."""

    offset: int
    size: int
    filled: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class _Root:
    """An image of the archive under one of its names: a reference, a bare tag, or none."""

    document: Document
    name: Reference | str


class ArchiveWriter:
    """An archive that is being written, for any number of images; made by ``archive_target``."""

    def __init__(self, file: int, path: Path, form: Form, platform: Platform | None) -> None:
        self._file = file
        self._path = path
        self._form = form
        self._platform = platform
        self._end = 0
        self._places: dict[Digest, _Place] = {}
        self._documents: dict[Digest, Document] = {}
        self._roots: dict[str, _Root] = {}
        #: What is attached to an image has no name, but is found by its entry in index.json.
        self._attached: dict[Digest, Document] = {}

    @property
    def written(self) -> bool:
        """Whether there is an image in it."""
        return bool(self._roots)

    @property
    def blobs(self) -> list[Digest]:
        """What is in it whole."""
        return [digest for digest, place in self._places.items() if place.filled]

    def sink(self, name: Reference | str = "") -> ArchiveSink:
        """The place for one image, under a reference, a bare tag, or no name."""
        return ArchiveSink(self, name)

    def holds(self, descriptor: Descriptor) -> bool:
        """Whether a blob is there; one that is not gets its place. Raises SizeMismatch."""
        return self._place(descriptor).filled

    async def put_blob(self, descriptor: Descriptor, open_body: BodyOpener) -> None:
        """Write a blob at its place. Raises as ArchiveSink.put_blob does."""
        place = self._place(descriptor)
        async with place.lock:
            if place.filled:
                return
            filling = _Filling(self._file, self._path, place.offset, Proof(descriptor))
            async with open_body() as body:
                await receive(filling, body)
            filling.check()
            await in_thread(self._head, descriptor, place)
            place.filled = True

    async def put_manifest(self, document: Document, name: Reference | str | None) -> None:
        """Write a manifest; with a name (which may be empty) it is an image's root."""
        if name is not None and self._form == "docker-archive":
            _check_image(document)
        place = self._place(document.descriptor)
        async with place.lock:
            if not place.filled:
                await in_thread(self._write, place.offset, document.raw)
                await in_thread(self._head, document.descriptor, place)
                place.filled = True
        self._documents[document.digest] = document
        if name is None and document.subject is not None:
            self._attached[document.digest] = document
        if name is not None:
            self._roots[str(name) or str(document.digest)] = _Root(document, name)

    def finish(self) -> None:
        """Write what says what is in it, and bring all of it to disk. It blocks."""
        unfilled = [digest for digest, place in self._places.items() if not place.filled]
        if unfilled:
            raise SizeMismatch(f"{self._path}: {unfilled[0]} was announced and never came")
        mark = {"imageLayoutVersion": LAYOUT_VERSION}
        self._append("oci-layout", mark)
        self._append("index.json", self._index())
        if self._form == "docker-archive":
            self._append("manifest.json", self._listing())
        self._write(self._end, _END)
        with path_faults(self._path):
            os.fsync(self._file)

    def _place(self, descriptor: Descriptor) -> _Place:
        """A blob's place, given on the first asking: nothing is awaited here, so order is kept."""
        place = self._places.get(descriptor.digest)
        if place is None:
            offset = self._end + len(_header(blob_member(descriptor.digest), descriptor.size))
            place = self._places[descriptor.digest] = _Place(offset, descriptor.size)
            self._end = offset + _padded(descriptor.size)
        if place.size != descriptor.size:
            raise SizeMismatch(
                f"{descriptor.digest} is announced with {place.size} and {descriptor.size} bytes"
            )
        return place

    def _head(self, descriptor: Descriptor, place: _Place) -> None:
        """The header before a blob that is whole, and the zeros after it."""
        header = _header(blob_member(descriptor.digest), place.size)
        self._write(place.offset - len(header), header)
        self._write(place.offset + place.size, bytes(_padded(place.size) - place.size))

    def _append(self, name: str, value: object) -> None:
        content = json.dumps(value, separators=(",", ":")).encode()
        padding = bytes(_padded(len(content)) - len(content))
        block = _header(name, len(content)) + content + padding
        self._write(self._end, block)
        self._end += len(block)

    def _write(self, offset: int, content: bytes) -> None:
        with path_faults(self._path):
            write_at(self._file, offset, content)

    def _index(self) -> dict[str, object]:
        entries = []
        attached = [_Root(document, "") for document in self._attached.values()]
        for root in (*self._roots.values(), *attached):
            entry = entry_of(root.document)
            if root.name:
                entry["annotations"] = _annotations(root.name)
            entries.append(entry)
        return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}

    def _listing(self) -> list[dict[str, object]]:
        """manifest.json: one entry an image, with all its names."""
        names: dict[Digest, list[str]] = {}
        for root in self._roots.values():
            tags = names.setdefault(self._image(root.document).digest, [])
            if isinstance(root.name, Reference):
                tags.append(root.name.familiar())
        images = {image.digest: image for image in map(self._image, self._all_roots())}
        return [
            {
                "Config": blob_member(image.config.digest),
                "RepoTags": names[digest] or None,
                "Layers": [blob_member(layer.digest) for layer in image.layers],
            }
            for digest, image in images.items()
        ]

    def _all_roots(self) -> list[Document]:
        return [root.document for root in self._roots.values()]

    def _image(self, document: Document) -> Manifest:
        """The one image of a root that manifest.json can name: of an index, this machine's."""
        if isinstance(document, Manifest):
            return document
        entries = document.entries if isinstance(document, Index) else ()
        held = [
            e for e in entries if isinstance(self._documents.get(e.descriptor.digest), Manifest)
        ]
        wanted = self._platform
        fitting = [
            e for e in held if wanted and e.platform and wanted.accepts(e.platform) is not None
        ]
        for entry in (*fitting, *held):
            image = self._documents[entry.descriptor.digest]
            if isinstance(image, Manifest) and image.config.media_type in _IMAGES:
                return image
        raise UsageError(f"docker-archive holds images, and {document.digest} has none at hand")


_IMAGES: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})


class ArchiveSink:
    """The place for one image in an archive (a ``ports.Sink``)."""

    def __init__(self, writer: ArchiveWriter, name: Reference | str) -> None:
        self._writer = writer
        self._name = name

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob is in the archive already. Raises SizeMismatch."""
        return self._writer.holds(descriptor)

    async def put_blob(self, descriptor: Descriptor, open_body: BodyOpener) -> None:
        """Take one blob. Raises SizeMismatch, DigestMismatch, DiskFull, PathUnusable."""
        await self._writer.put_blob(descriptor, open_body)

    async def put_manifest(self, document: Document, *, root: bool) -> None:
        """Take a manifest; the root gets the sink's name. Raises UsageError, and as put_blob."""
        await self._writer.put_manifest(document, self._name if root else None)


class _Filling:
    """A blob on its way to its place."""

    def __init__(self, file: int, path: Path, offset: int, proof: Proof) -> None:
        self._file = file
        self._path = path
        self._offset = offset
        self._proof = proof
        self.admit = proof.admit
        self.check = proof.check

    def write(self, pieces: list[bytes]) -> None:
        with path_faults(self._path):
            for piece in pieces:
                self._proof.update(piece)
                write_at(self._file, self._offset, piece)
                self._offset += len(piece)


def write_at(file: int, offset: int, content: bytes) -> None:
    """Write every byte at an offset, also where the system takes fewer at a time."""
    rest = memoryview(content)
    while rest:
        count = os.pwrite(file, rest, offset)
        rest, offset = rest[count:], offset + count


def blob_member(digest: Digest) -> str:
    """The name of a blob in an archive (image specification 1.1, "Image Layout")."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _header(name: str, size: int) -> bytes:
    """The header of a file, in GNU's form: one block also for what is larger than 8 GiB."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, 0
    return entry.tobuf(tarfile.GNU_FORMAT)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _annotations(name: Reference | str) -> Mapping[str, str]:
    """How an entry of index.json says its name.

    A whole name stands under both keys: docker and containerd look at the first, podman takes the
    second for the name.
    """
    if isinstance(name, str):
        return {REF_NAME: name}
    return {FULL_NAME: str(name), REF_NAME: str(name)}


def _check_image(document: Document) -> None:
    """Raise UsageError for what manifest.json cannot name."""
    if isinstance(document, Manifest) and document.config.media_type not in _IMAGES:
        raise UsageError(
            f"docker-archive holds images, and {document.digest} is an artifact of type"
            f" {document.referrer_type} (oci-archive takes it)"
        )
