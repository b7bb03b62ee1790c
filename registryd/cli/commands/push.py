"""``push``: an image from the cache or a file to a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registryd.cli import progress
from registryd.cli.arguments import Parser, credential_flags, jobs_flag, tls_flags
from registryd.cli.backend import Event, backend
from registryd.cli.command import Context
from registryd.cli.results import tell_result
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from registryd.images.transports import ImageLocation


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "source",
        metavar="SRC",
        help="a name in the cache, oci:DIR[:TAG], dir:DIR, oci-archive:FILE, docker-archive:FILE",
    )
    parser.add_argument(
        "target",
        metavar="REF",
        help="its name in a registry (default: SRC)",
        nargs="?",
        default=None,
    )
    jobs_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Push; NAME@DIGEST on stdout. Raises Fault."""
    from registryd.images.transports import ImageLocation

    options = context.options
    source = ImageLocation.parse(options.source)
    if options.target is None and source.reference is None:
        raise UsageError("a file has no name in a registry: write push SRC REF")
    target = Reference.parse(options.target or str(source.reference))
    if source.reference is None:
        done = _push_file(context, source, target)
    else:
        done = _push_name(context, source.reference, target)
    progress.summary(context, done)
    tell_result(context, done)


def _push_name(context: Context, source: Reference, target: Reference) -> Event:
    """What the cache holds: whoever holds the cache pushes it."""
    from registryd.cli.logins import login_for

    login = login_for(context, target.registry, target.repository)
    names = {"source": str(source), "destination": str(target)}
    with backend(context, target.registry) as chosen, progress.shown(context) as show:
        return chosen.stream("push", names, show, login)


def _push_file(context: Context, source: ImageLocation, target: Reference) -> Event:
    """A file is of this process: it pushes, with the user's own credentials."""
    from registryd.cli.transfers import copy
    from registryd.images.transports import ImageLocation

    with progress.shown(context) as show:
        return copy(context, source, ImageLocation("registry", reference=target), report=show)
