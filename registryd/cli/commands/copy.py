"""``copy``: an image from any place to any other, digests and all."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from registryd.cli import progress
from registryd.cli.arguments import (
    Parser,
    credential_flags,
    jobs_flag,
    platforms_flag,
    side_flags,
    tls_flags,
)
from registryd.cli.backend import Event, backend
from registryd.cli.command import Context
from registryd.cli.own_names import check_own_name
from registryd.cli.platforms import named
from registryd.cli.results import tell_result
from registryd.oci.errors import UsageError

if TYPE_CHECKING:
    from registryd.images.transports import ImageLocation

PLACES = "[docker://]NAME, cache:NAME, oci:DIR[:TAG] or dir:DIR"
#: The prefixes of the two sides' own flags, as their names are in the options.
SIDES = ("src_", "dest_")


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("source", metavar="SRC", help=PLACES)
    parser.add_argument("target", metavar="DST", help="the same forms")
    platforms_flag(parser, "default: all")
    jobs_flag(parser)
    credential_flags(parser)
    tls_flags(parser)
    side_flags(parser, "src")
    side_flags(parser, "dest")


def run(context: Context) -> None:
    """Copy; DST@DIGEST on stdout. Raises Fault."""
    from registryd.images.transports import ImageLocation

    source = ImageLocation.parse(context.options.source)
    target = ImageLocation.parse(context.options.target)
    if source.transport == "registry" and target.transport == "cache":
        done = _into_cache(context, source, target)
    else:
        done = _copy(context, source, target)
    progress.summary(context, done)
    tell_result(context, done)


def _copy(context: Context, source: ImageLocation, target: ImageLocation) -> Event:
    """Between two places that this process reads and writes itself."""
    from registryd.cli.transfers import copy

    with ExitStack() as stack:
        cache = None
        if "cache" in (source.transport, target.transport):
            cache = stack.enter_context(backend(context))
        show = stack.enter_context(progress.shown(context))
        return copy(
            context,
            source,
            target,
            report=show,
            platforms=named(context),
            cache=cache,
            sides=SIDES,
        )


def _into_cache(context: Context, source: ImageLocation, target: ImageLocation) -> Event:
    """From a registry into the cache: a pull, and one more name where the names differ."""
    from registryd.cli.logins import login_for

    if source.reference is None or target.reference is None:
        raise UsageError(f"{source} and {target} must both be names")
    reference = source.reference
    if target.reference != reference:
        check_own_name(target.reference)
    login = login_for(context, reference.registry, reference.repository, side=SIDES[0])
    wanted = {
        "reference": str(reference),
        "platforms": [str(platform) for platform in named(context)],
        "all_platforms": not context.options.platform,
    }
    with backend(context, reference.registry, side=SIDES[0]) as chosen:
        with progress.shown(context) as show:
            done = chosen.stream("pull", wanted, show, login)
        if target.reference != reference:
            exact = f"{reference.name}@{done['digest']}"
            chosen.call("tag", {"source": exact, "target": str(target.reference)})
            done = {**done, "reference": str(target.reference)}
    return done
