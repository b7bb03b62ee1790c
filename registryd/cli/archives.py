"""Images between the cache and files that hold several of them: import, export, and docker's words.

Invariants:
- the names under which an import puts images are decided before anything is put: they are the
  node's own, and no two images get the same one;
- an export takes what the cache holds: of an index all images that are here, and the index itself,
  digest and all, where all of them are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic
from typing import Any

import uvloop

from registryd.cli import progress
from registryd.cli.backend import Backend, Event
from registryd.cli.command import Context
from registryd.cli.ends import FOLDERS, Ends, spool_folder
from registryd.cli.own_names import OWN_REGISTRY, own_name
from registryd.cli.platforms import own
from registryd.cli.transfers import DEFAULT_JOBS
from registryd.images.archive_sink import Form
from registryd.images.archive_target import open_writer
from registryd.images.collection import FoundImage, ImageFile, open_images
from registryd.images.transports import ImageLocation
from registryd.oci.errors import BlobUnknown, ManifestUnknown, UsageError
from registryd.oci.manifest import Index
from registryd.oci.media_types import DOCUMENTS
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.ports import Sink, Source
from registryd.transfer.copy import copy_image
from registryd.transfer.report import copied


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image that is to be put into the cache: under which name, and what it was called."""

    source: Source
    target: Reference
    called: str


def import_images(
    context: Context,
    file: ImageFile,
    name: Reference | None,
    *,
    platforms: Sequence[Platform],
    cache: Backend,
) -> list[Event]:
    """Put the images of a file into the cache; the event "done" of each name. Raises Fault."""

    async def run() -> list[Event]:
        async with AsyncExitStack() as stack:
            opening = open_images(file, spool=spool_folder(context.environ))
            arrivals = named(await stack.enter_async_context(opening), name, file)
            ends = Ends(context, cache, stack)
            done = []
            for arrival in arrivals:
                target = ImageLocation("cache", reference=arrival.target)
                sink = await ends.sink(target, ImageLocation("oci", file.path))
                wanted = platforms or await _held(arrival.source)
                event = await _moved(context, arrival.source, sink, arrival.target, wanted)
                done.append({**event, "called": arrival.called})
            return done

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def export_images(
    context: Context,
    references: Sequence[Reference],
    target: ImageLocation,
    *,
    platforms: Sequence[Platform],
    cache: Backend,
    replace: bool,
) -> list[Event]:
    """Write images of the cache to a file; the event "done" of each. Raises Fault."""
    everything = context.options.all_platforms
    listed = {} if platforms or everything else _platforms_here(cache)

    async def run() -> list[Event]:
        async with AsyncExitStack() as stack:
            passed = target.transport in FOLDERS
            ends = Ends(context, cache, stack, replace=replace, passed=passed)
            sinks = await _sinks(ends, stack, context, references, target, replace=replace)
            done = []
            for reference, sink in zip(references, sinks, strict=True):
                source = await ends.source(ImageLocation("cache", reference=reference))
                wanted = platforms
                if target.flat:
                    wanted = wanted or [own()]
                elif not wanted and not everything:
                    wanted = await _kept(source, reference, listed)
                done.append(await _moved(context, source, sink, reference, wanted))
            return done

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def named(images: Sequence[FoundImage], name: Reference | None, file: ImageFile) -> list[Arrival]:
    """Under which names images are put. Raises UsageError where that is not clear."""
    if not images:
        raise UsageError(f"{file.path} holds no image")
    if name is not None:
        if len(images) > 1:
            raise UsageError(
                f"{file.path} holds {len(images)} images, and one name is for one of them: leave"
                f" it out, or write docker-archive:{file.path}:REF or oci-archive:{file.path}:TAG"
            )
        return [Arrival(images[0].source, own_name(name), "")]
    arrivals: dict[Reference, Arrival] = {}
    for at, image in enumerate(images):
        if not image.names:
            tag = f":{image.tags[0]}" if image.tags else ""
            raise UsageError(
                f"image {at} of {file.path} has no name there:"
                f" write import FILE localhost/NAME{tag}"
            )
        for called in image.names:
            target = own_name(called)
            other = arrivals.setdefault(target, Arrival(image.source, target, called.familiar()))
            if other.source is not image.source:
                raise UsageError(
                    f"{other.called} and {called.familiar()} of {file.path} would both be {target}:"
                    " import them one by one, with a name"
                )
    return list(arrivals.values())


async def _moved(
    context: Context,
    source: Source,
    sink: Sink,
    reference: Reference,
    platforms: Sequence[Platform],
) -> Event:
    """Copy one image, and show how it goes."""
    began = monotonic()
    jobs = context.options.jobs or DEFAULT_JOBS
    with progress.shown(context) as show:
        done = await copy_image(source, sink, platforms=platforms, jobs=jobs, report=show)
        event: Event = copied(
            reference,
            done.descriptor.digest,
            platforms,
            sent=done.sent,
            sent_blobs=done.sent_blobs,
            held=done.held,
            held_blobs=done.held_blobs,
            seconds=monotonic() - began,
        )
        show(event)
    return event


async def _held(source: Source) -> list[Platform]:
    """Which platforms of an index are there; none named where all of it is.

    Docker and containerd write indexes of which one image is in the archive.
    """
    root = await source.root()
    if not isinstance(root, Index):
        return []
    there, missing = [], False
    for entry in root.entries:
        if entry.descriptor.media_type in DOCUMENTS:
            try:
                await source.manifest(entry.descriptor)
            except (BlobUnknown, ManifestUnknown):
                missing = True
            else:
                if entry.platform is not None and entry.platform.known:
                    there.append(entry.platform)
    return there if missing else []


async def _kept(
    source: Source, reference: Reference, listed: Mapping[str, Sequence[str]]
) -> list[Platform]:
    """Which platforms of an image the cache holds; none named where it holds all."""
    root = await source.root()
    if not isinstance(root, Index):
        return []
    if reference.registry == OWN_REGISTRY:
        return await _held(source)
    here = listed.get(str(root.digest))
    if here is None:
        return [own()]
    every = {str(e.platform) for e in root.entries if e.platform and e.platform.known}
    return [] if every <= set(here) else [Platform.parse(text) for text in here] or [own()]


def _platforms_here(cache: Backend) -> dict[str, list[str]]:
    """By digest of an image in the cache: the platforms that are here."""
    images: list[dict[str, Any]] = cache.call("images", {}).get("images", [])
    return {str(image.get("digest")): image.get("platforms") or [] for image in images}


async def _sinks(
    ends: Ends,
    stack: AsyncExitStack,
    context: Context,
    references: Sequence[Reference],
    target: ImageLocation,
    *,
    replace: bool,
) -> list[Sink]:
    """Where each image goes: several only fit into an archive, under their own names."""
    if len(references) == 1:
        origin = ImageLocation("cache", reference=references[0])
        return [await ends.sink(target, origin)]
    path = target.path
    if path is None or not target.transport.endswith("-archive") or target.tag:
        raise UsageError(
            f"{target} takes one image; docker-archive:FILE and oci-archive:FILE take several"
        )
    form: Form = "oci-archive" if target.transport == "oci-archive" else "docker-archive"
    spool = spool_folder(context.environ)
    opening = open_writer(path, form, spool=spool, platform=own(), replace=replace)
    writer = await stack.enter_async_context(opening)
    return [
        writer.sink(reference.with_tag(reference.tag) if reference.tag else "")
        for reference in references
    ]
