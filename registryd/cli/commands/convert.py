"""``convert``: images made one file each, which the cache keeps with them."""

from __future__ import annotations

from pathlib import Path

from registryd.cli import wording
from registryd.cli.arguments import (
    Parser,
    compat_flag,
    credential_flags,
    jobs_flag,
    plain_flag,
    platform_flag,
    tls_flags,
)
from registryd.cli.backend import Event, backend
from registryd.cli.command import Context
from registryd.cli.platforms import single_preferred
from registryd.cli.results import without_kind
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF")
    parser.add_argument(
        "--to",
        metavar="FORM",
        choices=("squashfs", "sif", "ext4", "erofs"),
        default="squashfs",
        help="squashfs (default), ext4, erofs; sif, of which the cache keeps the squashfs, with -o",
    )
    plain_flag(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", default=None, help="write it out too, to this file"
    )
    parser.add_argument(
        "--force", action="store_true", default=False, help="write over a file that is there"
    )
    compat_flag(parser)
    platform_flag(parser)
    jobs_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Convert; the digest of what the image is now on stdout. Raises Fault."""
    from registryd.cli.conversions import check_target, convert, take_out, wanted

    options = context.options
    reference = Reference.parse(options.reference)
    path = None if options.output is None else Path(options.output)
    if path is not None:
        check_target(options.to, path, replace=options.force)
    elif options.to == "sif":
        raise UsageError("a SIF is written to a file, which -o names")
    asked = wanted(context, options.to, single_preferred(context))
    with backend(context, reference.registry) as chosen:
        done = convert(context, chosen, reference, asked)
        if path is not None:
            take_out(context, chosen, reference, done, options.to, path)
    _tell(context, done)


def _tell(context: Context, done: Event) -> None:
    if context.options.format == "json":
        context.console.json(without_kind(done))
        return
    context.console.line(str(done["blob"]))
    if not context.options.quiet:
        how = f"made in {float(done['seconds']):.1f} s" if done["made"] else "was here"
        context.console.words(f"{done['recipe']}  {wording.size(int(done['size']))}  {how}")
