"""``export``: images of the cache to an archive, a layout or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from registryd.cli import progress
from registryd.cli.arguments import (
    Parser,
    compat_flag,
    credential_flags,
    jobs_flag,
    plain_flag,
    platforms_flag,
    tls_flags,
)
from registryd.cli.backend import Event, backend
from registryd.cli.command import Context
from registryd.cli.platforms import named
from registryd.cli.results import without_kind
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from registryd.images.transports import ImageLocation


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("references", metavar="REF", nargs="+", help="several for an archive")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FORM:PATH",
        required=True,
        help="oci:DIR[:TAG], dir:DIR, oci-archive:FILE[:TAG], docker-archive:FILE[:REF]"
        " (FILE - is stdout); flattened: rootfs:DIR, bundle:DIR, squashfs:FILE, sif:FILE,"
        " ext4:FILE, erofs:FILE",
    )
    parser.add_argument(
        "--force", action="store_true", default=False, help="write over a file that is there"
    )
    compat_flag(parser)
    plain_flag(parser)
    export_flags(parser)


def export_flags(parser: Parser) -> None:
    """What export and save have in common."""
    platforms_flag(parser, "default: all that the cache holds")
    jobs_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Write; the digest of each image on stdout. Raises Fault."""
    from registryd.cli.flattening import output_of

    options = context.options
    target = output_of(context, options.output)
    done = exported(context, options.references, target, replace=options.force)
    if target.streams:
        return
    if options.format == "json":
        tell_json(context, done)
        return
    for event in done:
        context.console.line(str(event["digest"]))


def exported(
    context: Context, names: Sequence[str], target: ImageLocation, *, replace: bool
) -> list[Event]:
    """Write images of the cache to a place. Raises Fault."""
    from registryd.cli.archives import export_images
    from registryd.cli.flattening import CONVERTED, converted

    references = [Reference.parse(name) for name in names]
    if target.streams and context.console.out.isatty():
        raise UsageError("an archive is not written to a terminal (use -o FILE, or > FILE)")
    context.console.flush()
    registries = (reference.registry for reference in references)
    with backend(context, *registries, jobs_here=True) as chosen:
        if target.transport in CONVERTED:
            platforms = named(context)
            done = [converted(context, chosen, references, target, platforms, replace=replace)]
        else:
            done = export_images(
                context,
                references,
                target,
                platforms=named(context),
                cache=chosen,
                replace=replace,
            )
    for event in done:
        progress.summary(context, event)
    return done


def tell_json(context: Context, done: Sequence[Event]) -> None:
    """The result as --format json has it."""
    images = [without_kind(event) for event in done]
    context.console.json({"images": images})
