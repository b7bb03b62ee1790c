"""``load``: docker's word for importing what ``docker save`` wrote (or any other archive)."""

from __future__ import annotations

import importlib

from registryd.cli.arguments import Parser, jobs_flag, platforms_flag
from registryd.cli.command import Context


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "-i", "--input", metavar="FILE", default="-", help="the archive (default: stdin)"
    )
    platforms_flag(parser, "default: all there are")
    jobs_flag(parser)


def run(context: Context) -> None:
    """Load; a line for each image on stdout, in docker's words. Raises Fault."""
    from registryd.images.collection import ImageFile

    importing = importlib.import_module("registryd.cli.commands.import")
    done = importing.imported(context, ImageFile.parse(context.options.input), None)
    if context.options.format == "json":
        context.console.json({"images": importing.told(done)})
        return
    for event in done:
        context.console.line(f"Loaded image: {event['reference']}")
