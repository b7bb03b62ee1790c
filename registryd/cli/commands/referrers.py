"""``referrers``: what is attached to an image: signatures, lists of software, anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from registryd.cli import wording
from registryd.cli.arguments import Parser, credential_flags, platform_flag, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.platforms import named
from registryd.cli.tables import Column
from registryd.oci.errors import UsageError

if TYPE_CHECKING:
    from cache.content import Descriptor
    from registryd.cli.referring import Listed
    from registryd.oci.platform import Platform
    from registryd.ports import ReferrersWay

#: As oras names them: which part of the specification a list is asked for by.
WAYS: dict[str, ReferrersWay] = {"v1.1-referrers-api": "api", "v1.1-referrers-tag": "tag"}
CREATED = "org.opencontainers.image.created"
COLUMNS = (
    Column("DIGEST"),
    Column("ARTIFACT TYPE"),
    Column("SIZE", right=True),
    Column("CREATED"),
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF", help="NAME, cache:NAME or oci:DIR[:TAG]")
    parser.add_argument(
        "--artifact-type", metavar="TYPE", default="", help="only artifacts of this type"
    )
    parser.add_argument(
        "-r",
        "--recursive",
        action="store_true",
        default=False,
        help="what is attached to artifacts too, as a tree",
    )
    parser.add_argument(
        "--distribution-spec",
        choices=tuple(WAYS),
        default=None,
        help="ask in this way only (default: the API, or else the tag)",
    )
    platform_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print what is attached. Raises Fault."""
    from registryd.cli.referring import Question, list_attached
    from registryd.images.transports import ImageLocation

    options = context.options
    location = ImageLocation.parse(options.reference)
    question = Question(
        location,
        one_platform(context),
        options.artifact_type,
        options.recursive,
        WAYS.get(options.distribution_spec or "", ""),
    )
    with ExitStack() as stack:
        cache = stack.enter_context(backend(context)) if location.transport == "cache" else None
        image, found = list_attached(context, question, cache)
    if options.format == "json":
        context.console.json(_described(str(location), image, found))
    elif options.quiet:
        for each in found:
            context.console.line(str(each.entry.descriptor.digest))
    elif options.recursive:
        _tell_tree(context, image, found)
    else:
        context.console.table(COLUMNS, [_row(each) for each in found])


def one_platform(context: Context) -> Platform | None:
    """The platform whose manifest is meant; None: what the name itself means. Raises UsageError."""
    platforms = named(context)
    if len(platforms) > 1:
        raise UsageError("--platform: one at a time here")
    return platforms[0] if platforms else None


def _row(each: Listed) -> tuple[str, ...]:
    entry = each.entry
    return (
        str(entry.descriptor.digest),
        entry.artifact_type or "-",
        wording.size(entry.descriptor.size),
        entry.annotations.get(CREATED, "-"),
    )


def _tell_tree(context: Context, image: Descriptor, found: Sequence[Listed]) -> None:
    context.console.line(str(image.digest))
    for line in _branches(str(image.digest), found, ""):
        context.console.line(line)


def _branches(subject: str, found: Sequence[Listed], indent: str) -> Iterator[str]:
    below = [each for each in found if str(each.subject) == subject]
    for each in below:
        last = each is below[-1]
        digest, kind, *_ = _row(each)
        yield f"{indent}{'└── ' if last else '├── '}{kind}  {digest}"
        yield from _branches(digest, found, indent + ("    " if last else "│   "))


def _described(name: str, image: Descriptor, found: Sequence[Listed]) -> dict[str, Any]:
    return {
        "reference": name,
        "digest": str(image.digest),
        "media_type": image.media_type,
        "size": image.size,
        "referrers": [
            {
                "digest": str(each.entry.descriptor.digest),
                "media_type": each.entry.descriptor.media_type,
                "size": each.entry.descriptor.size,
                "artifact_type": each.entry.artifact_type,
                "annotations": dict(each.entry.annotations),
                "subject": str(each.subject),
            }
            for each in found
        ],
    }
