"""The verb behind push, copy and export: an image's whole graph from a Source to a Sink.

Invariants:
- children come before what points to them, and the root comes last: a copy that ends early leaves
  no name that promises what is not there;
- each digest is moved once, however often it is pointed to; what the sink has is not moved at all;
- manifests are copied byte for byte, so every digest stays what it was; only an index that is to be
  stripped is written anew;
- what stands at the destination already is found out before anything is moved, and without reading
  from there;
- the first failure ends the whole copy, and comes out as itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from cache.content import Descriptor, Digest
from cache.errors import SizeMismatch
from registryd.oci.errors import ManifestBlobUnknown, ManifestInvalid, ManifestUnknown
from registryd.oci.manifest import Document, Index, Manifest
from registryd.oci.media_types import DOCUMENTS, INDEXES
from registryd.oci.platform import Platform
from registryd.ports import Body, Filed, Noting, Sink, Skipping, Source
from registryd.transfer import report as events
from registryd.transfer.groups import task_group
from registryd.transfer.narrowing import DEPTH_LIMIT, IndexFate, IndexForm, Narrowed, narrow
from registryd.transfer.report import Kind, ProgressLimit, Report, silent
from registryd.transfer.standing import look
from registryd.transfer.turns import EVERYONE_AT_ONCE, Turns

#: How many bytes of manifests one image may have in all: they are held until the root is put.
DOCUMENTS_LIMIT: Final = 128 << 20

_P = TypeVar("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Terms:
    """How to copy. ``index`` is what becomes of an index of which only some images are wanted.

    Without ``clobber`` a name that means something else stays as it is; with ``rehearse`` nothing
    is written; with ``recheck`` everything is looked at, though the destination has the root.
    """

    index: IndexForm = "usual"
    clobber: bool = True
    rehearse: bool = False
    recheck: bool = False


USUAL: Final = Terms()


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did: the root as it was put, and bytes and numbers of configs and layers.

    ``unchanged``: the destination had it, so that nothing was asked for beyond that. Of a rehearsal
    ``sent`` is what would be. ``documents`` are the manifests of the image, the root last; of one
    that is unchanged, those that are known without reading more.
    """

    descriptor: Descriptor
    sent: int = 0
    sent_blobs: int = 0
    held: int = 0
    held_blobs: int = 0
    manifests: int = field(default=0, compare=False)
    index: IndexFate | None = field(default=None, compare=False)
    unchanged: bool = field(default=False, compare=False)
    documents: tuple[Descriptor, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Graph:
    """What is to be copied: documents with children first, and blobs with what they are."""

    documents: tuple[Document, ...]
    blobs: dict[Descriptor, Kind]
    index: IndexFate | None = None

    @property
    def root(self) -> Document:
        """The document that everything hangs from."""
        return self.documents[-1]


async def copy_image(
    source: Source,
    sink: Sink,
    *,
    platforms: Sequence[Platform] = (),
    terms: Terms = USUAL,
    jobs: int = 4,
    report: Report = silent,
    clock: Callable[[], float] = time.monotonic,
    turns: Turns = EVERYONE_AT_ONCE,
) -> Copied:
    """Copy an image, ``jobs`` blobs at a time; an index is copied whole, digest and all.

    One platform: its manifest becomes the root. Several: the index stays as it is, with only those
    manifests present. ``terms`` can say otherwise. What others move to the same place in this
    moment is waited for, where ``turns`` are shared with them.

    Raises PlatformUnknown, ManifestInvalid, WouldOverwrite, and what source and sink raise.
    """
    standing = await look(source, sink, terms.clobber)
    if not platforms and terms.index == "usual" and not terms.recheck:
        same = await standing.same()
        if same is not None:
            fate: IndexFate | None = "whole" if same.media_type in INDEXES else None
            return Copied(same, index=fate, unchanged=True, documents=(same,))
    narrowed = await narrow(source, await standing.root(), platforms, terms.index)
    standing.check(narrowed.root.descriptor)
    root = narrowed.root.descriptor
    if not terms.recheck and await standing.has(root, _below(narrowed)):
        if narrowed.root.subject is not None and isinstance(sink, Noting) and not terms.rehearse:
            # It may be there and in no list: a copy can end between the two.
            await sink.note_subject(narrowed.root)
        listed = (*_documents_of(narrowed.root, narrowed.kept), root)
        return Copied(root, index=narrowed.index, unchanged=True, documents=listed)
    graph = await _graph_of(source, narrowed, jobs)
    run = _Run(source, sink, report, ProgressLimit(report, clock), turns)
    for descriptor, kind in graph.blobs.items():
        report(events.blob(descriptor, kind, "waiting"))
    if terms.rehearse:
        await each(jobs, [_bound(run.count, item) for item in graph.blobs.items()])
    else:
        await _move(run, graph, jobs)
    return run.result(graph)


async def _move(run: _Run, graph: Graph, jobs: int) -> None:
    """Everything of an image, the root last."""
    await each(jobs, [_bound(run.blob, item) for item in graph.blobs.items()])
    leaves = [document for document in graph.documents[:-1] if not isinstance(document, Index)]
    await each(jobs, [_bound(run.document, document) for document in leaves])
    for document in graph.documents[:-1]:
        if isinstance(document, Index):
            await run.document(document)
    try:
        await run.document(graph.root, root=True)
    except (ManifestBlobUnknown, ManifestInvalid, ManifestUnknown) as error:
        if graph.index != "kept":
            raise
        raise ManifestBlobUnknown(
            f"{error}; it may want every image of an index: use --strip, which makes a new index of"
            " these images alone, or copy all platforms",
            status=error.status,
            entries=error.entries,
        ) from error


def _below(narrowed: Narrowed) -> list[Descriptor] | None:
    """The children of a root that are wanted; None: all that it has."""
    if narrowed.kept is None:
        return None
    return _documents_of(narrowed.root, narrowed.kept)


async def plan(
    source: Source, platforms: Sequence[Platform], jobs: int = 4, form: IndexForm = "usual"
) -> Graph:
    """Read every manifest of an image, as far as the platforms ask for it.

    Raises PlatformUnknown, ManifestInvalid, SizeMismatch, and what the source raises.
    """
    narrowed = await narrow(source, await source.root(), platforms, form)
    return await _graph_of(source, narrowed, jobs)


async def _graph_of(source: Source, narrowed: Narrowed, jobs: int) -> Graph:
    root, kept = narrowed.root, narrowed.kept
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
            return _graph(narrowed, found)
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


def _documents_of(document: Document, kept: frozenset[Digest] | None) -> list[Descriptor]:
    """The manifests that this one lists and that are asked for."""
    if not isinstance(document, Index):
        return []
    listed = (child for child in document.children if child.media_type in DOCUMENTS)
    return [child for child in listed if kept is None or child.digest in kept]


def _graph(narrowed: Narrowed, found: dict[Digest, Document]) -> Graph:
    root, kept = narrowed.root, narrowed.kept
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
    return Graph(tuple(ordered.values()), dict(blobs.values()), narrowed.index)


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

    def __init__(
        self, source: Source, sink: Sink, report: Report, progress: ProgressLimit, turns: Turns
    ) -> None:
        self._source = source
        self._sink = sink
        self._report = report
        self._progress = progress
        self._turns = turns
        self.sent = self.sent_blobs = self.held = self.held_blobs = 0

    async def blob(self, item: tuple[Descriptor, Kind]) -> None:
        """Move one blob, unless the sink has it."""
        descriptor, kind = item
        async with self._turns.of(descriptor.digest) as there:
            if there or await self._sink.has_blob(descriptor):
                self._count_held(descriptor, kind, "held")
            else:
                await self._move(descriptor, kind)

    async def count(self, item: tuple[Descriptor, Kind]) -> None:
        """Count one blob as what it would be, and move nothing."""
        descriptor, kind = item
        async with self._turns.of(descriptor.digest) as there:
            if there or await self._sink.has_blob(descriptor):
                self._count_held(descriptor, kind, "held")
            else:
                self._count_sent(descriptor)

    async def _move(self, descriptor: Descriptor, kind: Kind) -> None:
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
            self._count_sent(descriptor)
            self._report(events.blob(descriptor, kind, "done"))
        else:  # the sink had a way of its own: nothing came from here
            self._count_held(descriptor, kind, "mounted")

    async def document(self, document: Document, *, root: bool = False) -> None:
        """Put one manifest, whose children are there."""
        below = [child.digest for child in _documents_of(document, None)]
        async with self._turns.of(document.digest, below) as there:
            if root or not there:  # a root has a name of its own
                await self._sink.put_manifest(document, root=root)
        self._report(events.blob(document.descriptor, "manifest", "done"))

    def result(self, graph: Graph) -> Copied:
        """What was done, or would be."""
        documents = tuple(document.descriptor for document in graph.documents)
        return Copied(
            graph.root.descriptor,
            self.sent,
            self.sent_blobs,
            self.held,
            self.held_blobs,
            manifests=len(documents),
            index=graph.index,
            documents=documents,
        )

    def _count_sent(self, descriptor: Descriptor) -> None:
        self.sent += descriptor.size
        self.sent_blobs += 1

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
        self._body = body
        self._pieces = aiter(body)
        self._offset = body.start
        self._descriptor = descriptor
        self._progress = progress

    @property
    def file(self) -> int | None:
        """The file that it is, where it is one (``ports.Filed``)."""
        return self._body.file if isinstance(self._body, Filed) else None

    async def skip_to(self, start: int) -> bool:
        """Begin further on, where the body can (``ports.Skipping``)."""
        if not (isinstance(self._body, Skipping) and await self._body.skip_to(start)):
            return False
        self._pieces, self._offset = aiter(self._body), start
        return True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self._offset += len(piece)
        self._progress.advance(self._descriptor.digest, self._offset, self._descriptor.size)
        return piece
