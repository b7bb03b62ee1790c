"""What ``-o`` of export and pull may be: the file forms, and those that flatten an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from registryd.cli.backend import Backend, Event
from registryd.cli.command import Context
from registryd.cli.platforms import named
from registryd.images.transports import FILE_FORMS, FLAT_FORMS, ImageLocation
from registryd.oci.errors import UsageError
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference

#: What is made where the cache is, and kept there.
CONVERTED: Final = ("squashfs", "sif", "ext4", "erofs")
#: What is compressed as it is wished.
_COMPRESSED: Final = ("squashfs", "sif")


def output_of(context: Context, text: str) -> ImageLocation:
    """Where --output points, with flags that fit. Raises UsageError."""
    options = context.options
    target = ImageLocation.parse(text, flat=True)
    if target.path is None:
        raise UsageError(f"--output {text} is not a file form (want {FILE_FORMS}, {FLAT_FORMS})")
    if options.compat is not None and target.transport not in _COMPRESSED:
        raise UsageError("--compat speaks of squashfs:FILE and sif:FILE only")
    if getattr(options, "plain", False) and not target.flat:
        raise UsageError(f"--plain speaks of {FLAT_FORMS} only")
    if target.flat and (options.all_platforms or len(named(context)) > 1):
        raise UsageError(f"{target} takes the image of one platform (--platform names it)")
    return target


def converted(
    context: Context,
    cache: Backend,
    references: Sequence[Reference],
    target: ImageLocation,
    platforms: Sequence[Platform],
    *,
    replace: bool,
) -> Event:
    """Write an image as one file; the event "done" of a copy. Raises Fault."""
    from registryd.cli.conversions import written

    if len(references) != 1 or target.path is None or target.flat is None:
        raise UsageError(f"{target} takes one image")
    reference, form, path = references[0], target.flat, target.path
    return written(context, cache, reference, form, path, platforms=platforms, replace=replace)
