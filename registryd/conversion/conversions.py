"""Conversions: the images of a node as one file each, made once.

"Make this image one file" happens here and nowhere else. Invariants:
- one conversion an image (by its manifest) and recipe is under way, however many ask for it, and
  none where one has been made: the store says what this node has made of a manifest;
- the blob is there, whole and by its digest, before the manifest that names it; a failure leaves
  neither;
- who asks has access to the image by a repository of their own, which the conversion becomes a
  member of; nobody is shown by it who else has the image.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from cache.content import Descriptor, Digest
from cache.errors import BlobNotFound, Fault
from cache.hops import to_its_end
from cache.index import Links
from cache.made import Draft
from cache.store import BlobStore
from registryd.conversion.making import (
    MAKERS,
    Planned,
    Terms,
    able_to,
    check,
    layers_of,
    plan_of,
    tool_of,
)
from registryd.conversion.recipe import ARTIFACT_TYPE, FORM, RECIPE, TOOL, Recipe
from registryd.conversion.run import Run
from registryd.counts import Counts
from registryd.oci.artifact import EMPTY, EMPTY_DESCRIPTOR, ArtifactFile, artifact
from registryd.oci.errors import BlobUnknown
from registryd.oci.image_config import CONFIG_LIMIT, ImageConfig, parse_config
from registryd.oci.manifest import Manifest
from registryd.oci.media_types import DOCKER_CONFIG, OCI_CONFIG
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.ports import Remote
from registryd.transfer.groups import task_group
from registryd.transfer.library import Library

_log = logging.getLogger(__name__)

#: Told how many bytes of layers have been read, of how many.
Tell = Callable[[int, int], None]
#: Seconds that no conversion takes.
LONGEST = 86400.0
#: A run: of which image by which recipe, and where it is made.
Key = tuple[Digest, Recipe, str]
_CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})


class Others(Protocol):
    """The other nodes, which make conversions too."""

    async def bring(self, remote: Remote | None, reference: Reference, run: Run) -> Manifest | None:
        """Have what one of them makes here, kept with its image; None: make it here."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What an image was made: its manifest and its blob, and whether that was done just now."""

    document: Manifest
    made: bool

    @property
    def blob(self) -> Descriptor:
        """What was made."""
        return self.document.layers[0]


class Conversions:
    """All conversions of this process; made by ``open``."""

    def __init__(
        self,
        library: Library,
        store: BlobStore,
        terms: Terms,
        jobs: int,
        group: asyncio.TaskGroup,
        others: Others | None,
        counts: Counts,
    ) -> None:
        self._library = library
        self._store = store
        self._terms = terms
        self._group = group
        self._others = others
        self._counts = counts
        self._turns = asyncio.Semaphore(jobs)
        self._runs: dict[Key, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        library: Library,
        store: BlobStore,
        terms: Terms,
        *,
        jobs: int,
        others: Others | None = None,
        counts: Counts | None = None,
    ) -> AsyncIterator[Conversions]:
        """Own the conversions, ``jobs`` at a time; those still under way at the end are stopped.

        ``others``: the nodes that make them too.
        """
        async with task_group() as group:
            conversions = cls(library, store, terms, jobs, group, others, counts or Counts())
            try:
                yield conversions
            finally:
                for task in conversions._tasks:
                    task.cancel()

    async def converted(
        self,
        remote: Remote | None,
        reference: Reference,
        manifest: Manifest,
        recipe: Recipe,
        tell: Tell,
        *,
        here: bool = False,
    ) -> Converted:
        """An image that its reader has been let into, as one file; ``here``: by no other node.

        Raises NotAnImage, NotMade, UsageError, ManifestInvalid, DigestMismatch, DiskFull, and what
        Library.blob raises.
        """
        document, made = await self.find(manifest.digest, recipe), False
        others = None if here else self._others
        if document is None:
            layers_of(manifest)
        if document is None and others is not None:
            bring = partial(others.bring, remote, reference)
            key = (manifest.digest, recipe, "elsewhere")
            able = await able_to(recipe, self._terms)
            run = Run(manifest, recipe, bring, "brought", able=able)
            document = await self._wait_for(key, run, tell)
        if document is None:
            await check(recipe, self._terms)
            await self._present(remote, reference, manifest)
            key = (manifest.digest, recipe, "here")
            document = await self._wait_for(key, Run(manifest, recipe, self._in_turn), tell)
            made = True
        assert document is not None  # noqa: S101 (what is made here is, or it has raised)
        await self._belongs(reference.name, document)
        return Converted(document, made)

    @property
    def waiting(self) -> int:
        """How many wait for conversions under way."""
        return sum(run.waiters for run in self._runs.values())

    async def find(self, manifest: Digest, recipe: Recipe) -> Manifest | None:
        """The manifest of what was made of an image by this recipe; None where nothing is here."""
        for each in await self._store.made.of(manifest):
            if self._store.find(each.digest) is None:
                continue
            document = await self._library.held(each.digest)
            if not isinstance(document, Manifest) or not document.layers:
                continue
            same = document.annotations.get(RECIPE) == str(recipe)
            if same and self._store.find(document.layers[0].digest) is not None:
                return document
        return None

    async def _present(
        self, remote: Remote | None, reference: Reference, manifest: Manifest
    ) -> None:
        """Have what the image is made of here, and proven to be the repository's."""
        for blob in (manifest.config, *manifest.layers):
            flight = await self._library.blob(remote, reference, blob.digest, blob.size)
            if flight is not None:
                await flight.landed()

    async def _belongs(self, repository: str, document: Manifest) -> None:
        """Let a conversion be a member of a repository whose image it was made of."""
        if await self._store.is_member(repository, document.digest):
            return
        children = (child.digest for child in document.children)
        await self._store.add_member(repository, *children)
        await self._library.keep(repository, document)

    async def _wait_for(self, key: Key, new: Run, tell: Tell) -> Manifest | None:
        """What comes of the run under way, or of this one."""
        run = self._runs.get(key)
        if run is None or run.over:
            run = self._runs[key] = new
            run.task = self._group.create_task(self._run(run))
            self._tasks.add(run.task)
            run.task.add_done_callback(self._ended(key, run))
        with run.waiting():
            return await run.made(tell)

    def _ended(self, key: Key, run: Run) -> Callable[[asyncio.Task[None]], None]:
        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if self._runs.get(key) is run:
                del self._runs[key]
            run.stopped()  # for a task that was cancelled before its first step

        return ended

    async def _run(self, run: Run) -> None:
        try:
            made = await run.work(run)
            self._counts.conversions[run.outcome] += made is not None
            run.end(made)
        except Exception as error:
            self._counts.conversions["failed"] += 1
            if not isinstance(error, Fault):
                _log.exception("conversion failed: digest=%s", run.manifest.digest)
            run.fail(error)

    async def _in_turn(self, run: Run) -> Manifest:
        async with self._turns:
            return await self._made(run)

    async def _made(self, run: Run) -> Manifest:
        manifest, recipe = run.manifest, run.recipe
        known = await self.find(manifest.digest, recipe)
        if known is not None:
            return known
        brought: list[Digest] = []
        try:
            async with self._store.lease(LONGEST) as lease:
                await lease.hold(manifest.digest)
                async with AsyncExitStack() as files, self._store.made.draft() as draft:
                    planned = await self._planned(run, files)
                    await MAKERS[recipe.form](planned, draft.path, recipe, self._terms)
                    blob = await self._store.made.proven(draft, recipe.media_type)
                    document = await self._document(manifest, recipe, blob)
                    brought += (blob.digest, document.digest)
                    await lease.hold(*brought, EMPTY_DESCRIPTOR.digest)
                    # All that is left is quick, and half of it were neither made nor gone.
                    await to_its_end(self._publish(draft, document))
        except BaseException:
            await asyncio.shield(self._store.remove(brought))
            raise
        return document

    async def _planned(self, run: Run, files: AsyncExitStack) -> Planned:
        manifest = run.manifest
        opened: dict[Digest, int] = {}
        for layer in manifest.layers:
            if layer.digest not in opened:
                try:
                    opening = self._store.open_blob(layer.digest)
                    opened[layer.digest] = await files.enter_async_context(opening)
                except BlobNotFound:
                    line = f"{manifest.digest} lacks its layer {layer.digest}"
                    raise BlobUnknown(line) from None
        config, dressed = await self._config(manifest), run.recipe.dressed
        return await plan_of(manifest, config, opened, run.count, dressed=dressed)

    async def _config(self, manifest: Manifest) -> ImageConfig:
        if manifest.config.media_type not in _CONFIGS:
            return ImageConfig(platform=Platform.of_machine("", ""))
        return parse_config(await self._store.read(manifest.config.digest, limit=CONFIG_LIMIT))

    async def _document(self, manifest: Manifest, recipe: Recipe, blob: Descriptor) -> Manifest:
        """The manifest that ties a conversion to its image."""
        notes: Mapping[str, str] = {
            RECIPE: str(recipe),
            FORM: recipe.form,
            TOOL: await tool_of(recipe, self._terms),
        }
        file = ArtifactFile(blob, f"image.{recipe.form}")
        document = artifact(ARTIFACT_TYPE, [file], subject=manifest.descriptor, annotations=notes)
        assert isinstance(document, Manifest)  # noqa: S101 (an artifact is one)
        return document

    async def _publish(self, draft: Draft, document: Manifest) -> None:
        """Let what was made be a blob, and its manifest one that is kept with the image."""
        await self._store.made.publish(draft, document.layers[0])
        await keep(self._store, document)


async def keep(store: BlobStore, document: Manifest) -> None:
    """Keep the manifest of a conversion, whose blob is here, with its image."""
    assert document.subject is not None  # noqa: S101 (a conversion is of an image)
    await store.put(EMPTY, EMPTY_DESCRIPTOR)
    links = Links(document.media_type, document.children, "all")
    await store.put(document.raw, document.descriptor, links=links)
    await store.made.record(document.subject.digest, document.descriptor)
