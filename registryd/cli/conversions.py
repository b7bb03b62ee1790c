"""Images made one file by whoever has the cache, and that file taken out of it.

Invariants:
- what is written out is the blob itself: the cache's file where this user may open it, else what
  the daemon gives them as a blob of the image;
- a target that must stay is refused before anything is fetched or made.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.content import Descriptor, Digest
from registryd.cli import progress
from registryd.cli.backend import Backend, Event
from registryd.cli.command import Context
from registryd.cli.logins import login_for
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registryd.oci.platform import Platform


def convert(
    context: Context, cache: Backend, reference: Reference, wanted: Mapping[str, Any]
) -> Event:
    """Have an image made one file; the event "done". Raises Fault."""
    login = login_for(context, reference.registry, reference.repository)
    arguments = {"reference": str(reference), **wanted}
    with progress.shown(context) as show:
        return cache.stream("convert", arguments, progress.warned(context, show), login)


def check_target(path: Path, *, replace: bool) -> None:
    """Raise UsageError where something is there that must stay."""
    from registryd.images.layers.target import check

    check("squashfs", path, replace)


def written(
    context: Context,
    cache: Backend,
    reference: Reference,
    path: Path,
    *,
    platforms: Sequence[Platform],
    replace: bool,
) -> Event:
    """Write an image as a squashfs; the event "done" of a copy. Raises Fault."""
    from registryd.transfer.report import copied

    check_target(path, replace=replace)
    wanted = {
        "form": "squashfs",
        "compat": context.options.compat,
        "plain": True,
        "platform": str(platforms[0]) if platforms else None,
    }
    done = convert(
        context, cache, reference, {key: value for key, value in wanted.items() if value}
    )
    size = take_out(context, cache, reference, done, path)
    return copied(
        reference,
        Digest.parse(str(done["digest"])),
        platforms,
        sent=size,
        sent_blobs=1,
        held=0,
        held_blobs=0,
        seconds=float(done["seconds"]),
    )


def take_out(
    context: Context, cache: Backend, reference: Reference, done: Event, path: Path
) -> int:
    """Write a conversion's blob to a path; its size. Raises Fault."""
    from registryd.images.clone import copy_out

    digest = Digest.parse(str(done["blob"]))
    file = _opened(cache, digest)
    if file is None:
        return asyncio.run(_fetched(context, cache, reference, done, path))
    try:
        return copy_out(file, path)
    finally:
        os.close(file)


def _opened(cache: Backend, digest: Digest) -> int | None:
    """The cache's own file, where it may be opened."""
    from cache.layout import blob_path

    root = cache.root or cache.call("status", {}).get("root")
    with suppress(OSError):
        return os.open(blob_path(Path(str(root)), digest), os.O_RDONLY | os.O_CLOEXEC)
    return None


async def _fetched(
    context: Context, cache: Backend, reference: Reference, done: Event, path: Path
) -> int:
    from registryd.cli.ends import Ends
    from registryd.images.files import write_blob
    from registryd.images.transports import ImageLocation

    blob = Descriptor(str(done["media_type"]), Digest.parse(str(done["blob"])), int(done["size"]))
    async with AsyncExitStack() as stack:
        ends = Ends(context, cache, stack)
        source = await ends.source(ImageLocation("cache", reference=reference))
        await write_blob(path, blob, lambda: source.blob(blob))
    return blob.size
