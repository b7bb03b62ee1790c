"""Attached artifacts, in this process: listed, and pushed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import uvloop

from cache.content import Descriptor, Digest
from registryd.cli.backend import Backend, Report
from registryd.cli.command import Context
from registryd.cli.ends import Ends
from registryd.cli.transfers import DEFAULT_JOBS
from registryd.images.artifact import ArtifactSource, describe_file
from registryd.images.transports import ImageLocation
from registryd.oci.artifact import ArtifactFile, artifact
from registryd.oci.errors import UsageError
from registryd.oci.manifest import Document, Index, IndexEntry
from registryd.oci.platform import Platform
from registryd.ports import ReferrersWay, Referring, Source
from registryd.transfer.copy import Copied, copy_image
from registryd.transfer.endpoints import RegistrySource
from registryd.transfer.referrers import attached_to

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Question:
    """Whose artifacts are asked for, and which."""

    location: ImageLocation
    platform: Platform | None = None
    artifact_type: str = ""
    recursive: bool = False
    way: ReferrersWay = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """An artifact in a list: how its registry shows it, and what it is attached to."""

    entry: IndexEntry
    subject: Digest


def list_attached(
    context: Context, question: Question, cache: Backend | None
) -> tuple[Descriptor, list[Listed]]:
    """The image, and what is attached to it: the nearest first. Raises Fault."""

    async def ask(ends: Ends) -> tuple[Descriptor, list[Listed]]:
        source = await ends.source(question.location)
        if isinstance(source, RegistrySource):
            source = source.by(question.way)
        elif question.way:
            raise UsageError(f"--distribution-spec is about registries, not {question.location}")
        if not isinstance(source, Referring):
            raise UsageError(f"{question.location}: this form holds one image and nothing attached")
        root = await _described(source, question.platform)
        return root, await _listed(source, root.digest, question, context.options.jobs)

    return _run(context, cache, ask)


async def _listed(
    source: Referring, root: Digest, question: Question, jobs: int | None
) -> list[Listed]:
    wanted = question.artifact_type
    if question.recursive:
        found = await attached_to(source, [root], artifact_type=wanted, jobs=jobs or DEFAULT_JOBS)
        return [Listed(each.entry, each.subject) for each in found]
    entries = await source.referrers(root)
    return [Listed(each, root) for each in entries if wanted in ("", each.artifact_type)]


async def _described(source: Source, platform: Platform | None) -> Descriptor:
    """What the name means: by HEAD where that will do, for a GET counts as a pull."""
    if platform is None and isinstance(source, RegistrySource):
        return await source.resolve()
    return (await _image(source, platform)).descriptor


async def _image(source: Source, platform: Platform | None) -> Document:
    """What the name means; with a platform, the manifest that an index has for it."""
    document = await source.root()
    while platform is not None and isinstance(document, Index):
        document = await source.manifest(document.select(platform).descriptor)
    return document


@dataclass(frozen=True, slots=True)
class Attachment:
    """What is to be attached, and to what."""

    location: ImageLocation
    artifact_type: str
    files: Sequence[tuple[Path, str, str]]  # path, media type, title
    annotations: Mapping[str, str]
    platform: Platform | None = None


def attach(
    context: Context, wanted: Attachment, cache: Backend | None, report: Report
) -> tuple[Document, Copied]:
    """Push the artifact; its manifest, and what was moved. Raises Fault."""

    async def push(ends: Ends) -> tuple[Document, Copied]:
        image = await _image(await ends.source(wanted.location), wanted.platform)
        files, paths = [], {}
        for path, media_type, title in wanted.files:
            descriptor = await describe_file(path, media_type)
            files.append(ArtifactFile(descriptor, title))
            paths[descriptor.digest] = path
        document = artifact(
            wanted.artifact_type,
            files,
            subject=image.descriptor,
            annotations=wanted.annotations,
        )
        sink = await ends.sink(_place(wanted.location, document), wanted.location)
        source = ArtifactSource(document, paths)
        jobs = context.options.jobs or DEFAULT_JOBS
        return document, await copy_image(source, sink, jobs=jobs, report=report)

    return _run(context, cache, push)


def _place(location: ImageLocation, document: Document) -> ImageLocation:
    """Beside the image: in its repository by digest, in its layout without a tag."""
    if location.reference is not None:
        exact = location.reference.bare().with_digest(document.digest)
        return replace(location, reference=exact)
    if location.transport != "oci":
        raise UsageError(f"{location}: this form holds one image, nothing can be attached there")
    return replace(location, tag="")


def _run(context: Context, cache: Backend | None, act: Callable[[Ends], Awaitable[_T]]) -> _T:
    async def run() -> _T:
        async with AsyncExitStack() as stack:
            return await act(Ends(context, cache, stack))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())
