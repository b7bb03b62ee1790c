"""Images made in memory, and an in-memory Source and Sink that pass the suites of real ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cache.content import Descriptor, Digest, verify
from registryd.oci.errors import BlobUnknown
from registryd.oci.manifest import Document, parse
from registryd.oci.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from registryd.ports import Body, BodyOpener

PIECE = 64 << 10


@dataclass
class Sample:
    """One image: its root, and everything below it."""

    root: Document
    documents: dict[Digest, Document] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)

    @property
    def layers(self) -> list[Descriptor]:
        """Configs and layers, in the order of the documents, each once."""
        listed = [
            child
            for document in (*self.documents.values(), self.root)
            for child in document.children
            if child.digest in self.blobs
        ]
        return list(dict.fromkeys(listed))


def image(*layers: bytes, architecture: str = "amd64", algorithm: str = "sha256") -> Sample:
    """A plain image with these layers."""
    config = json.dumps({"os": "linux", "architecture": architecture}).encode()
    contents = {Digest.of(raw, algorithm): raw for raw in (config, *layers)}
    document = written(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": wire(Descriptor.of(OCI_CONFIG, config, algorithm)),
            "layers": [wire(Descriptor.of(OCI_LAYER, raw, algorithm)) for raw in layers],
        }
    )
    return Sample(document, {document.digest: document}, contents)


def index(**samples: Sample) -> Sample:
    """An index of images by architecture."""
    entries = [
        wire(sample.root.descriptor, platform={"os": "linux", "architecture": architecture})
        for architecture, sample in samples.items()
    ]
    root = written({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    whole = Sample(root, {root.digest: root})
    for sample in samples.values():
        whole.documents.update(sample.documents)
        whole.blobs.update(sample.blobs)
    return whole


def wire(descriptor: Descriptor, **more: object) -> dict[str, object]:
    """A descriptor as it stands in a manifest."""
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
        **more,
    }


def written(members: dict[str, object]) -> Document:
    """These members as a document."""
    return parse(json.dumps(members).encode())


class MemoryBody:
    """Bytes as a body, in pieces."""

    def __init__(self, content: bytes, *, start: int = 0, source: str = "memory") -> None:
        self.start = start
        self.total: int | None = start + len(content)
        self.source = source
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for offset in range(0, len(self._content), PIECE):
            yield self._content[offset : offset + PIECE]


@dataclass
class MemorySource:
    """A Source whose blobs can be made to fail, or to wait at a gate."""

    sample: Sample
    faults: dict[Digest, Exception] = field(default_factory=dict)
    gates: dict[Digest, asyncio.Event] = field(default_factory=dict)
    opened: list[Digest] = field(default_factory=list)
    read: list[Digest] = field(default_factory=list)
    open_now: int = 0
    open_most: int = 0

    async def root(self) -> Document:
        """The sample's root."""
        return self.sample.root

    async def manifest(self, descriptor: Descriptor) -> Document:
        """A document of the sample."""
        self.read.append(descriptor.digest)
        if descriptor.digest not in self.sample.documents:
            raise BlobUnknown(f"memory lacks {descriptor.digest}")
        return self.sample.documents[descriptor.digest]

    @asynccontextmanager
    async def blob(self, descriptor: Descriptor) -> AsyncIterator[Body]:
        """A blob of the sample, after its gate has opened and if it is not to fail."""
        if descriptor.digest not in self.sample.blobs:
            raise BlobUnknown(f"memory lacks {descriptor.digest}")
        self.opened.append(descriptor.digest)
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            if gate := self.gates.get(descriptor.digest):
                await gate.wait()
            if fault := self.faults.get(descriptor.digest):
                raise fault
            yield MemoryBody(self.sample.blobs[descriptor.digest])
        finally:
            self.open_now -= 1


@dataclass
class MemorySink:
    """A Sink that writes down, in order, what it was given."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    documents: dict[Digest, Document] = field(default_factory=dict)
    root: Document | None = None
    log: list[Digest] = field(default_factory=list)
    mountable: frozenset[Digest] = frozenset()

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether it was put."""
        return descriptor.digest in self.blobs

    async def put_blob(self, descriptor: Descriptor, open_body: BodyOpener) -> None:
        """Take a proven blob; one that is mountable is taken without its body."""
        if descriptor.digest not in self.mountable:
            async with open_body() as body:
                content = b"".join([piece async for piece in body])
            verify(content, descriptor.digest, descriptor.size)
            self.blobs[descriptor.digest] = content
        self.log.append(descriptor.digest)

    async def put_manifest(self, document: Document, *, root: bool) -> None:
        """Take a document."""
        self.documents[document.digest] = document
        self.log.append(document.digest)
        self.root = document if root else self.root

    def image(self) -> Sample:
        """What was put, as a sample to read back."""
        assert self.root is not None
        return Sample(self.root, self.documents, self.blobs)
