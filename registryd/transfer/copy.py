"""The verb behind push, copy and export: an image's whole graph from a Source to a Sink.

Invariants:
- children come before what points to them, and the root comes last: a copy that ends early leaves
  no name that promises what is not there;
- each digest is moved once, however often it is pointed to; what the sink has is not moved at all;
- manifests are copied byte for byte, so every digest stays what it was;
- the first failure ends the whole copy, and comes out as itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from cache.content import Descriptor, Digest
from cache.errors import SizeMismatch
from registryd.oci.errors import ManifestInvalid, PlatformUnknown
from registryd.oci.image_config import CONFIG_LIMIT, parse_config
from registryd.oci.manifest import Document, Index, Manifest
from registryd.oci.media_types import DOCKER_CONFIG, DOCUMENTS, OCI_CONFIG
from registryd.oci.platform import Platform
from registryd.ports import Body, Sink, Source
from registryd.transfer import report as events
from registryd.transfer.groups import task_group
from registryd.transfer.report import Kind, ProgressLimit, Report, silent

#: How deep indexes may lie in indexes; one in one is all that is seen in practice.
DEPTH_LIMIT: Final = 8
#: How many bytes of manifests one image may have in all: they are held until the root is put.
DOCUMENTS_LIMIT: Final = 128 << 20

_P = TypeVar("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did: the root as it was put, and bytes and numbers of configs and layers."""

    descriptor: Descriptor
    sent: int = 0
    sent_blobs: int = 0
    held: int = 0
    held_blobs: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """What is to be copied: documents with children first, and blobs with what they are."""

    documents: tuple[Document, ...]
    blobs: dict[Descriptor, Kind]

    @property
    def root(self) -> Document:
        """The document that everything hangs from."""
        return self.documents[-1]


async def copy_image(
    source: Source,
    sink: Sink,
    *,
    platforms: Sequence[Platform] = (),
    jobs: int = 4,
    report: Report = silent,
    clock: Callable[[], float] = time.monotonic,
) -> Copied:
    """Copy an image, ``jobs`` blobs at a time; an index is copied whole, digest and all.

    One platform: its manifest becomes the root. Several: the index stays as it is, with only those
    manifests present. Raises PlatformUnknown, ManifestInvalid, and what source and sink raise.
    """
    graph = await plan(source, platforms, jobs)
    run = _Run(source, sink, report, ProgressLimit(report, clock))
    for descriptor, kind in graph.blobs.items():
        report(events.blob(descriptor, kind, "waiting"))
    await each(jobs, [_bound(run.blob, item) for item in graph.blobs.items()])
    leaves = [document for document in graph.documents[:-1] if not isinstance(document, Index)]
    await each(jobs, [_bound(run.document, document) for document in leaves])
    for document in graph.documents[:-1]:
        if isinstance(document, Index):
            await run.document(document)
    await run.document(graph.root, root=True)
    return Copied(graph.root.descriptor, run.sent, run.sent_blobs, run.held, run.held_blobs)


async def plan(source: Source, platforms: Sequence[Platform], jobs: int = 4) -> Graph:
    """Read every manifest of an image, as far as the platforms ask for it.

    Raises PlatformUnknown, ManifestInvalid, SizeMismatch, and what the source raises.
    """
    root, kept = await _narrow(source, await source.root(), platforms)
    found = {root.digest: root}
    level, total = [root], len(root.raw)
    for _ in range(DEPTH_LIMIT):
        wanted = {
            child.digest: child
            for document in level
            for child in _documents_of(document, kept if document is root else None)
            if child.digest not in found
        }
        if not wanted:
            return _graph(root, found, kept)
        total += sum(child.size for child in wanted.values())
        if total > DOCUMENTS_LIMIT:
            raise ManifestInvalid(
                f"the manifests of {root.digest} are {total} bytes, {DOCUMENTS_LIMIT} are allowed"
            )
        level = await each(jobs, [_bound(source.manifest, child) for child in wanted.values()])
        found.update(zip(wanted, level, strict=True))
    raise ManifestInvalid(f"{root.digest} has indexes in indexes, more than {DEPTH_LIMIT} deep")


async def each(jobs: int, calls: Iterable[Callable[[], Awaitable[_T]]]) -> list[_T]:
    """The results of calls, at most ``jobs`` at a time; the first failure cancels the others."""
    limit = asyncio.Semaphore(max(1, jobs))

    async def one(call: Callable[[], Awaitable[_T]]) -> _T:
        async with limit:
            return await call()

    async with task_group() as group:
        tasks = [group.create_task(one(call)) for call in calls]
    return [task.result() for task in tasks]


async def _narrow(
    source: Source, root: Document, platforms: Sequence[Platform]
) -> tuple[Document, frozenset[Digest] | None]:
    """The root to copy, and which of its children (None: all)."""
    if not platforms:
        return root, None
    for _ in range(DEPTH_LIMIT):
        if not isinstance(root, Index):
            await _check_platform(source, root, platforms)
            return root, None
        chosen = [root.select(platform) for platform in platforms]
        if len(set(platforms)) > 1:
            return root, frozenset(entry.descriptor.digest for entry in chosen)
        root = await source.manifest(chosen[0].descriptor)
        if chosen[0].platform and isinstance(root, Manifest):
            return root, None
    raise ManifestInvalid(f"{root.digest} has indexes in indexes, more than {DEPTH_LIMIT} deep")


async def _check_platform(source: Source, root: Document, platforms: Sequence[Platform]) -> None:
    """An image that no index describes says its platform in its config; artifacts say none."""
    config = root.config if isinstance(root, Manifest) else None
    if config is None or config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        return
    if config.size > CONFIG_LIMIT:
        raise ManifestInvalid(f"config {config.digest}: {config.size} bytes are too many")
    async with source.blob(config) as body:
        own = parse_config(b"".join([piece async for piece in body])).platform
    for platform in platforms:
        if own.known and platform.accepts(own) is None:
            raise PlatformUnknown(
                f"there is no image for {platform} in {root.digest} (it is for {own})"
            )


def _documents_of(document: Document, kept: frozenset[Digest] | None) -> list[Descriptor]:
    """The manifests that this one lists and that are asked for."""
    if not isinstance(document, Index):
        return []
    listed = (child for child in document.children if child.media_type in DOCUMENTS)
    return [child for child in listed if kept is None or child.digest in kept]


def _graph(root: Document, found: dict[Digest, Document], kept: frozenset[Digest] | None) -> Graph:
    ordered: dict[Digest, Document] = {}
    blobs: dict[Digest, tuple[Descriptor, Kind]] = {}

    def visit(document: Document) -> None:
        below = _documents_of(document, kept if document is root else None)
        for child in below:
            if child.digest not in ordered:
                visit(found[child.digest])
        for descriptor, kind in _blobs_of(document):
            first, _ = blobs.setdefault(descriptor.digest, (descriptor, kind))
            if first.size != descriptor.size:
                raise SizeMismatch(
                    f"{first.digest} is announced with {first.size} and {descriptor.size} bytes"
                )
        ordered[document.digest] = document

    visit(root)
    return Graph(tuple(ordered.values()), dict(blobs.values()))


def _blobs_of(document: Document) -> list[tuple[Descriptor, Kind]]:
    config = document.config.digest if isinstance(document, Manifest) else None
    return [
        (child, "config" if child.digest == config else "layer")
        for child in document.children
        if not (isinstance(document, Index) and child.media_type in DOCUMENTS)
    ]


def _bound(call: Callable[[_P], Awaitable[_T]], argument: _P) -> Callable[[], Awaitable[_T]]:
    return lambda: call(argument)


class _Run:
    """One copy under way: what was moved so far, and how it is told."""

    def __init__(self, source: Source, sink: Sink, report: Report, progress: ProgressLimit) -> None:
        self._source = source
        self._sink = sink
        self._report = report
        self._progress = progress
        self.sent = self.sent_blobs = self.held = self.held_blobs = 0

    async def blob(self, item: tuple[Descriptor, Kind]) -> None:
        """Move one blob, unless the sink has it."""
        descriptor, kind = item
        if await self._sink.has_blob(descriptor):
            self._count_held(descriptor, kind, "held")
            return
        opened = False

        @asynccontextmanager
        async def open_body() -> AsyncIterator[Body]:
            nonlocal opened
            async with self._source.blob(descriptor) as body:
                if not opened:
                    self._report(events.blob(descriptor, kind, "pushing", source=body.source))
                opened = True
                yield _Watched(body, descriptor, self._progress)

        await self._sink.put_blob(descriptor, open_body)
        if opened:
            self.sent += descriptor.size
            self.sent_blobs += 1
            self._report(events.blob(descriptor, kind, "done"))
        else:  # the sink had a way of its own: nothing came from here
            self._count_held(descriptor, kind, "mounted")

    async def document(self, document: Document, *, root: bool = False) -> None:
        """Put one manifest, whose children are there."""
        await self._sink.put_manifest(document, root=root)
        self._report(events.blob(document.descriptor, "manifest", "done"))

    def _count_held(self, descriptor: Descriptor, kind: Kind, state: events.State) -> None:
        self.held += descriptor.size
        self.held_blobs += 1
        self._report(events.blob(descriptor, kind, state))


class _Watched:
    """A body whose progress is told while it passes."""

    def __init__(self, body: Body, descriptor: Descriptor, progress: ProgressLimit) -> None:
        self.start = body.start
        self.total = body.total
        self.source = body.source
        self._pieces = aiter(body)
        self._offset = body.start
        self._descriptor = descriptor
        self._progress = progress

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self._offset += len(piece)
        self._progress.advance(self._descriptor.digest, self._offset, self._descriptor.size)
        return piece
