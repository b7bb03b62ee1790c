"""``copy``: an image from any place to any other, digests and all."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cache.content import Digest
from registryd.cli import progress
from registryd.cli.arguments import (
    Parser,
    credential_flags,
    jobs_flag,
    platforms_flag,
    side_flags,
    tls_flags,
)
from registryd.cli.backend import Backend, Event, backend
from registryd.cli.command import Context
from registryd.cli.own_names import check_own_name
from registryd.cli.platforms import named
from registryd.cli.progress import Progress
from registryd.cli.results import tell_result
from registryd.oci.errors import Denied, Unauthorized, UsageError
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from registryd.images.transports import ImageLocation

PLACES = (
    "[docker://]NAME, cache:NAME, oci:DIR[:TAG], dir:DIR, oci-archive:FILE[:TAG] or"
    " docker-archive:FILE[:REF] (FILE - is stdin or stdout)"
)
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
    with ExitStack() as stack:
        cache = None
        if "cache" in (source.transport, target.transport):
            cache = stack.enter_context(backend(context))
        show = stack.enter_context(progress.shown(context))
        try:
            return _moved(context, source, target, show, cache)
        except (Unauthorized, Denied):
            # What is read through a daemon carries no login; a pull does, and opens the way.
            if cache is None or cache.socket is None or source.transport != "cache":
                raise
            exact = _pulled(context, source, show, cache)
            return _moved(context, exact, target, show, cache)


def _moved(
    context: Context,
    source: ImageLocation,
    target: ImageLocation,
    show: Progress,
    cache: Backend | None,
) -> Event:
    from registryd.cli.transfers import copy

    wanted = named(context)
    return copy(context, source, target, report=show, platforms=wanted, cache=cache, sides=SIDES)


def _pulled(
    context: Context, source: ImageLocation, show: Progress, chosen: Backend
) -> ImageLocation:
    """The source after a pull with the user's own login, by its digest."""
    from registryd.cli.logins import login_for

    if source.reference is None:
        raise UsageError(f"{source} is not a name")
    reference = source.reference
    login = login_for(context, reference.registry, reference.repository, side=SIDES[0])
    done = chosen.stream("pull", _wanted(context, reference), show, login)
    return replace(source, reference=reference.with_digest(Digest.parse(done["digest"])))


def _wanted(context: Context, reference: Reference) -> dict[str, Any]:
    """The arguments of a pull of what a copy takes: all platforms unless some are named."""
    return {
        "reference": str(reference),
        "platforms": [str(platform) for platform in named(context)],
        "all_platforms": not context.options.platform,
    }


def _into_cache(context: Context, source: ImageLocation, target: ImageLocation) -> Event:
    """From a registry into the cache: a pull, and one more name where the names differ."""
    from registryd.cli.logins import login_for

    if source.reference is None or target.reference is None:
        raise UsageError(f"{source} and {target} must both be names")
    reference = source.reference
    if target.reference != reference:
        check_own_name(target.reference)
    login = login_for(context, reference.registry, reference.repository, side=SIDES[0])
    with backend(context, reference.registry, side=SIDES[0]) as chosen:
        with progress.shown(context) as show:
            done = chosen.stream("pull", _wanted(context, reference), show, login)
        if target.reference != reference:
            exact = f"{reference.name}@{done['digest']}"
            chosen.call("tag", {"source": exact, "target": str(target.reference)})
            done = {**done, "reference": str(target.reference)}
    return done
