"""``blob get``: a blob, proven, to a file or to stdout."""

from __future__ import annotations

from typing import Any

from registryd.cli import progress
from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.command import Context
from registryd.cli.places import Place
from registryd.cli.settings import settings
from registryd.oci.errors import UsageError


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("blob", metavar="NAME@DIGEST", help="cache:NAME@DIGEST asks the daemon")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="", help="write it there (-, default: stdout)"
    )
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Write it. A file is whole and proven or not there. Raises DigestMismatch, Fault."""
    from registryd.cli.direct import run as do

    options = context.options
    place = Place.parse(options.blob).exact()
    if not options.output and context.console.out.isatty():
        raise UsageError("a blob is no text for a terminal: name a file with -o FILE (or -o -)")
    if options.format == "json" and options.output in ("", "-"):
        raise UsageError("--format json describes what was written: name a file with -o FILE")
    with progress.shown(context) as show:
        done = do(_get(context, place, show))
    if options.format == "json":
        context.console.json({**done, "file": options.output})


async def _get(context: Context, place: Place, report: progress.Progress) -> dict[str, Any]:
    from registryd.cli.blob_files import save, show
    from registryd.cli.blob_moves import Told, found

    output = context.options.output or "-"
    async with place.open(context) as remote:
        digest = place.digest
        descriptor, opening = await found(
            remote, place.reference, digest, settings(context).transfer
        )
        told = Told(report, digest, descriptor.size, "fetching", source=place.reference.registry)
        async with opening as body:
            if output == "-":
                size = await show(body, digest, context.console, told.moved)
            else:
                size = await save(body, digest, output, told.moved)
        told.done()
    return {"reference": str(place.reference), "digest": str(digest), "size": size}
