"""Images made one file by whoever has the cache, and that file taken out of it.

Invariants:
- what is written out is the blob itself, by a descriptor that whoever has the cache gives to those
  who may read the image; in a SIF it is the same bytes, behind a prefix;
- a target that must stay is refused before anything is fetched or made.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.content import Digest
from registryd.cli import progress
from registryd.cli.backend import Backend, Event
from registryd.cli.command import Context
from registryd.cli.logins import login_for
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registryd.images.sif.layout import SifImage
    from registryd.images.words import FlatForm
    from registryd.oci.platform import Platform


def convert(
    context: Context, cache: Backend, reference: Reference, asked: Mapping[str, Any]
) -> Event:
    """Have an image made one file; the event "done". Raises Fault."""
    login = login_for(context, reference.registry, reference.repository)
    arguments = {"reference": str(reference), **asked}
    with progress.shown(context) as show:
        return cache.stream("convert", arguments, progress.warned(context, show), login)


def check_target(form: FlatForm, path: Path, *, replace: bool) -> None:
    """Raise UsageError where something is there that must stay."""
    from registryd.images.layers.target import check

    check(form, path, replace)


def wanted(context: Context, form: str, platform: str | None) -> dict[str, Any]:
    """What the flags ask of a conversion to this form: a SIF is a squashfs with a prefix."""
    asked = {
        "form": "squashfs" if form == "sif" else form,
        "compat": context.options.compat,
        "plain": context.options.plain,
        "platform": platform,
    }
    return {key: value for key, value in asked.items() if value}


def written(
    context: Context,
    cache: Backend,
    reference: Reference,
    form: FlatForm,
    path: Path,
    *,
    platforms: Sequence[Platform],
    replace: bool,
) -> Event:
    """Write an image as one file; the event "done" of a copy. Raises Fault."""
    from registryd.transfer.report import copied

    check_target(form, path, replace=replace)
    platform = str(platforms[0]) if platforms else None
    done = convert(context, cache, reference, wanted(context, form, platform))
    size = take_out(context, cache, reference, done, form, path)
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
    context: Context,
    cache: Backend,
    reference: Reference,
    done: Event,
    form: FlatForm,
    path: Path,
) -> int:
    """Write a conversion's blob to a path, as this form; its size. Raises Fault."""
    from registryd.images.clone import copy_out
    from registryd.images.sif.file import write_sif

    image = _described(context, cache, reference, done) if form == "sif" else None
    login = login_for(context, reference.registry, reference.repository)
    file = cache.opened(str(reference), str(done["blob"]), login)
    try:
        return copy_out(file, path) if image is None else write_sif(path, image, file)
    finally:
        os.close(file)


def _described(context: Context, cache: Backend, reference: Reference, done: Event) -> SifImage:
    """What a SIF says of the image that was converted."""
    from registryd.images.dressing.dress import created
    from registryd.images.sif.layout import SifImage
    from registryd.oci.image_config import parse_config

    digest = Digest.parse(str(done["digest"]))
    exact = f"{reference.name}@{digest}"
    login = login_for(context, reference.registry, reference.repository)
    raw = cache.raw("config", {"reference": exact}, login).content
    config = parse_config(raw)
    return SifImage(digest, raw, config.platform.architecture, created(config), exact)
