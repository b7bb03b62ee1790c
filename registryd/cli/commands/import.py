"""``import``: the images of an archive, a layout or a folder into the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registryd.cli import progress
from registryd.cli.arguments import Parser, jobs_flag, platforms_flag
from registryd.cli.backend import Event, backend
from registryd.cli.command import Context
from registryd.cli.platforms import named
from registryd.cli.results import without_kind
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from registryd.images.collection import ImageFile


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="an archive (also compressed; - is stdin), an OCI layout or a dir: folder;"
        " oci:DIR:TAG, docker-archive:FILE:REF and the like take one image of it",
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        default=None,
        help="its name in the cache, localhost/... (default: the names inside)",
    )
    platforms_flag(parser, "default: all there are")
    jobs_flag(parser)


def run(context: Context) -> None:
    """Import; each NAME@DIGEST on stdout. Raises Fault."""
    from registryd.images.collection import ImageFile

    options = context.options
    name = None if options.name is None else Reference.parse(options.name)
    done = imported(context, ImageFile.parse(options.file), name)
    if options.format == "json":
        context.console.json({"images": told(done)})
        return
    for event in done:
        context.console.line(f"{event['reference']}@{event['digest']}")


def imported(context: Context, file: ImageFile, name: Reference | None) -> list[Event]:
    """Import, and say in words which names became others. Raises Fault."""
    from registryd.cli.archives import import_images

    with backend(context) as chosen:
        done = import_images(context, file, name, platforms=named(context), cache=chosen)
    for event in done:
        progress.summary(context, event)
        if context.options.quiet:
            continue
        called = str(event.get("called") or "" if name is None else context.options.name)
        if called and Reference.parse(called) != Reference.parse(event["reference"]):
            context.console.words(
                f"{called} is {event['reference']} here: what other registries have under a name is"
                " theirs to say"
            )
    return done


def told(done: list[Event]) -> list[Event]:
    """The events as --format json has them."""
    return [without_kind(event) for event in done]
