"""Whether an image is what it says: every manifest, config and layer, read again and proven.

Invariants:
- one fault does not end the search: all are found and told, each once;
- each digest is read once, however many manifests point to it;
- what says nothing of the image (a registry that cannot be reached, a login that does not do) is
  raised, and not told as a fault of the image.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from cache.content import Descriptor, Digest, verify
from cache.errors import BlobNotFound, DigestMismatch, Fault, SizeMismatch
from registryd.oci.errors import BlobUnknown, ManifestInvalid, ManifestUnknown, NameUnknown
from registryd.oci.image_config import CONFIG_LIMIT, parse_config
from registryd.oci.manifest import Document, Index, Manifest
from registryd.oci.media_types import DOCKER_CONFIG, DOCUMENTS, OCI_CONFIG
from registryd.oci.platform import Platform
from registryd.ports import Source
from registryd.transfer import report as events
from registryd.transfer.copy import each
from registryd.transfer.narrowing import DEPTH_LIMIT
from registryd.transfer.report import Kind, ProgressLimit, Report, silent
from registryd.transfer.unpacked import Unpacked

Code = Literal["missing", "digest", "size", "diff_id", "invalid"]
#: Tells the size of a blob without reading it; raises what means that it is not there.
Measure = Callable[[Descriptor], Awaitable[int | None]]

#: What is a fault of the image, and what it is called.
CODES: Final[dict[type[Fault], Code]] = {
    BlobUnknown: "missing",
    BlobNotFound: "missing",
    ManifestUnknown: "missing",
    NameUnknown: "missing",
    DigestMismatch: "digest",
    SizeMismatch: "size",
    ManifestInvalid: "invalid",
}
#: How many bytes are hashed at a time, in one thread hop.
HOP: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an image."""

    descriptor: Descriptor
    kind: Kind
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was looked at, and what is wrong with it; ``size`` counts the bytes that were read."""

    root: Descriptor
    manifests: int
    blobs: int
    size: int
    problems: tuple[Problem, ...] = field(default=())


async def validate(
    source: Source,
    *,
    platforms: Sequence[Platform] = (),
    measure: Measure | None = None,
    jobs: int = 4,
    report: Report = silent,
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """Look at an image, or at those that an index has for these platforms (none named: all).

    With ``measure`` layers are not read, only their sizes compared. Raises PlatformUnknown, and
    what the source raises for its root.
    """
    search = _Search(source, measure, report, ProgressLimit(report, clock))
    root = await source.root()
    await search.documents(root, platforms)
    manifests = [found for found in search.found.values() if isinstance(found, Manifest)]
    for manifest in manifests:
        await search.config(manifest)
    layers = {
        layer.digest: layer
        for manifest in manifests
        for layer in manifest.children
        if layer.digest != manifest.config.digest
    }
    await each(jobs, [_bound(search.layer, layer) for layer in layers.values()])
    for manifest in manifests:
        search.compare(manifest)
    return Verdict(
        root.descriptor,
        len(search.found),
        len({manifest.config.digest for manifest in manifests} | layers.keys()),
        search.size,
        tuple(search.problems),
    )


class _Search:
    """One image that is looked at: what was found, and what is wrong."""

    def __init__(
        self, source: Source, measure: Measure | None, report: Report, progress: ProgressLimit
    ) -> None:
        self._source = source
        self._measure = measure
        self._report = report
        self._progress = progress
        self.found: dict[Digest, Document] = {}
        self.problems: list[Problem] = []
        self.size = 0
        #: Manifest -> what its layers unpack to, as its config says.
        self._promised: dict[Digest, tuple[Digest, ...]] = {}
        #: Layer -> what it unpacks to.
        self._unpacked: dict[Digest, Digest] = {}
        self._seen: set[Digest] = set()

    async def documents(self, root: Document, platforms: Sequence[Platform]) -> None:
        """Read every manifest below the root, as far as the platforms ask for it."""
        level = [root]
        for _ in range(DEPTH_LIMIT):
            self.found |= {document.digest: document for document in level}
            self.size += sum(len(document.raw) for document in level)
            below = [
                child
                for document in level
                for child in _manifests_of(document, platforms)
                if child.digest not in self.found
            ]
            level = [
                document
                for child in dict.fromkeys(below)
                if (document := await self._manifest(child)) is not None
            ]
            if not level:
                return
        self._note(level[0].descriptor, "manifest", "invalid", "indexes lie too deep in indexes")

    async def _manifest(self, descriptor: Descriptor) -> Document | None:
        try:
            document = await self._source.manifest(descriptor)
            verify(document.raw, descriptor.digest, descriptor.size)
        except tuple(CODES) as fault:
            self._fault(descriptor, "manifest", fault)
            return None
        return document

    async def config(self, manifest: Manifest) -> None:
        """Read a manifest's configuration; of an image's, note what it says of the layers."""
        config = manifest.config
        raw = await self._read_config(config)
        if raw is None or config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
            return
        try:
            promised = parse_config(raw).diff_ids
        except ManifestInvalid as fault:
            self._fault(config, "config", fault)
            return
        if len(promised) != len(manifest.layers):
            self._note(
                config,
                "config",
                "invalid",
                f"it has {len(promised)} diff IDs for {len(manifest.layers)} layers",
            )
        else:
            self._promised[manifest.digest] = promised

    async def _read_config(self, config: Descriptor) -> bytes | None:
        if config.size > CONFIG_LIMIT:
            self._note(config, "config", "invalid", f"{config.size} bytes are too many")
            return None
        try:
            async with self._source.blob(config) as body:
                raw = b"".join([piece async for piece in body])
            verify(raw, config.digest, config.size)
        except tuple(CODES) as fault:
            self._fault(config, "config", fault)
            return None
        if config.digest not in self._seen:
            self._seen.add(config.digest)
            self.size += len(raw)
        return raw

    async def layer(self, layer: Descriptor) -> None:
        """Read a layer, and note what it unpacks to; or measure it."""
        self._report(events.blob(layer, "layer", "fetching"))
        try:
            if self._measure is None:
                await self._read_layer(layer)
            else:
                size = await self._measure(layer)
                if size not in (None, layer.size):
                    raise SizeMismatch(f"it has {size} bytes, {layer.size} were announced")
        except tuple(CODES) as fault:
            self._fault(layer, "layer", fault)
            return
        self._report(events.blob(layer, "layer", "done"))

    async def _read_layer(self, layer: Descriptor) -> None:
        reading = _Reading(layer, self._algorithm(layer))
        async with self._source.blob(layer) as body:
            async for piece in body:
                if reading.takes(piece):
                    await asyncio.to_thread(reading.hash)
                    self._progress.advance(layer.digest, reading.size, layer.size)
        try:
            await asyncio.to_thread(reading.hash)
            await asyncio.to_thread(reading.prove)
        finally:
            self.size += reading.size
        try:
            if reading.unpacked is not None:
                self._unpacked[layer.digest] = await asyncio.to_thread(reading.unpacked.digest)
        except ManifestInvalid as fault:
            reading.damage = reading.damage or fault
        if reading.damage is not None:
            raise reading.damage

    def _algorithm(self, layer: Descriptor) -> str | None:
        """By what the layer's content is hashed unpacked; None: no config speaks of it."""
        for digest, promised in self._promised.items():
            manifest = self.found[digest]
            assert isinstance(manifest, Manifest)  # noqa: S101 - only those are promised anything
            for each_layer, diff_id in zip(manifest.layers, promised, strict=True):
                if each_layer.digest == layer.digest:
                    return diff_id.algorithm
        return None

    def compare(self, manifest: Manifest) -> None:
        """Hold what the layers unpack to against what the config promises."""
        promised = self._promised.get(manifest.digest, ())
        for layer, diff_id in zip(manifest.layers, promised, strict=False):
            found = self._unpacked.get(layer.digest)
            if found is not None and found.algorithm == diff_id.algorithm and found != diff_id:
                self._note(
                    layer,
                    "layer",
                    "diff_id",
                    f"it unpacks to {found}, the config of {manifest.digest} says {diff_id}",
                )

    def _fault(self, descriptor: Descriptor, kind: Kind, fault: Fault) -> None:
        code = next(code for known, code in CODES.items() if isinstance(fault, known))
        self._note(descriptor, kind, code, str(fault))

    def _note(self, descriptor: Descriptor, kind: Kind, code: Code, message: str) -> None:
        problem = Problem(descriptor, kind, code, message)
        if problem not in self.problems:
            self.problems.append(problem)


class _Reading:
    """One layer that is read: hashed as it is, and as what it unpacks to."""

    def __init__(self, layer: Descriptor, algorithm: str | None) -> None:
        self._layer = layer
        self._hash = layer.digest.hasher()
        self._parts: list[bytes] = []
        self._gathered = 0
        self.unpacked = None if algorithm is None else Unpacked(algorithm)
        self.damage: ManifestInvalid | None = None
        self.size = 0

    def takes(self, piece: bytes) -> bool:
        """Keep a piece for the next hop; whether that is worth one now."""
        self._parts.append(piece)
        self._gathered += len(piece)
        self.size += len(piece)
        return self._gathered >= HOP

    def hash(self) -> None:
        """Hash what was kept; in a thread."""
        parts, self._parts, self._gathered = self._parts, [], 0
        for piece in parts:
            self._hash.update(piece)
            try:
                if self.unpacked is not None and self.damage is None:
                    self.unpacked.feed(piece)
            except ManifestInvalid as fault:
                self.damage = fault
                self.unpacked = None

    def prove(self) -> None:
        """Raises SizeMismatch or DigestMismatch."""
        layer = self._layer
        if self.size != layer.size:
            raise SizeMismatch(f"it has {self.size} bytes, {layer.size} were announced")
        if self._hash.hexdigest() != layer.digest.hex:
            raise DigestMismatch(f"it hashes to {layer.digest.algorithm}:{self._hash.hexdigest()}")


def _manifests_of(document: Document, platforms: Sequence[Platform]) -> Iterable[Descriptor]:
    if not isinstance(document, Index):
        return ()
    if platforms:
        return [document.select(platform).descriptor for platform in platforms]
    return [child for child in document.children if child.media_type in DOCUMENTS]


def _bound(
    call: Callable[[Descriptor], Awaitable[None]], layer: Descriptor
) -> Callable[[], Awaitable[None]]:
    return lambda: call(layer)
