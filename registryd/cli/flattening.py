"""What ``-o`` of export and pull may be: the file forms, and those that flatten an image."""

from __future__ import annotations

from registryd.cli.command import Context
from registryd.cli.platforms import named
from registryd.images.transports import FILE_FORMS, FLAT_FORMS, ImageLocation
from registryd.oci.errors import UsageError


def output_of(context: Context, text: str) -> ImageLocation:
    """Where --output points, with flags that fit. Raises UsageError."""
    options = context.options
    target = ImageLocation.parse(text, flat=True)
    if target.path is None:
        raise UsageError(f"--output {text} is not a file form (want {FILE_FORMS}, {FLAT_FORMS})")
    if options.compat is not None and target.transport != "squashfs":
        raise UsageError("--compat speaks of squashfs:FILE only")
    if target.flat and (options.all_platforms or len(named(context)) > 1):
        raise UsageError(f"{target} takes the image of one platform (--platform names it)")
    return target
