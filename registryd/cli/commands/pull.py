"""``pull``: images into the node cache, and where asked on into a file."""

from __future__ import annotations

from typing import Any

from cache.content import Digest
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
from registryd.cli.backend import Backend, backend
from registryd.cli.command import Context
from registryd.cli.platforms import own, preferred
from registryd.cli.results import tell_result
from registryd.cli.several import each
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("references", metavar="REF", nargs="+")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default=None,
        help="write it out too: oci:DIR[:TAG], dir:DIR, oci-archive:FILE, docker-archive:FILE;"
        " flattened: rootfs:DIR, bundle:DIR, squashfs:FILE, sif:FILE, ext4:FILE,"
        " erofs:FILE",
    )
    compat_flag(parser)
    plain_flag(parser)
    platforms_flag(parser, "default: ours")
    jobs_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Pull each image; its NAME@DIGEST on stdout. Raises Fault; Partly when only some failed."""
    options = context.options
    references = [Reference.parse(text) for text in options.references]
    if options.output is not None:
        _check_output(context, len(references))
    with backend(context, *(reference.registry for reference in references)) as chosen:
        each(context.console, options.references, lambda text: _pull(context, chosen, text))


def _check_output(context: Context, images: int) -> None:
    """Before anything is fetched: --output must be usable. Raises UsageError."""
    from registryd.cli.flattening import output_of

    if images > 1:
        raise UsageError("--output takes one image: pull one at a time")
    output_of(context, context.options.output)


def _pull(context: Context, chosen: Backend, text: str) -> None:
    from registryd.cli.logins import login_for

    reference = Reference.parse(text)
    login = login_for(context, reference.registry, reference.repository)
    wanted: dict[str, Any] = {
        "reference": str(reference),
        "platforms": [str(platform) for platform in preferred(context)],
        "all_platforms": context.options.all_platforms,
    }
    if context.options.output is not None:
        wanted["unkept"] = True
    with progress.shown(context) as show:
        done = chosen.stream("pull", wanted, progress.warned(context, show), login)
    progress.summary(context, done)
    if context.options.output is not None:
        if done.get("kept") is False:
            context.console.warning("the cache has no room for it: it is written out unkept")
        exact = reference.with_digest(Digest.parse(done["digest"]))
        _write_out(context, chosen, exact, reference)
    tell_result(context, done)


def _write_out(context: Context, chosen: Backend, reference: Reference, called: Reference) -> None:
    """Copy what was pulled from the cache to --output; an archive says what it was called."""
    from registryd.cli.flattening import CONVERTED, converted, output_of
    from registryd.cli.transfers import copy
    from registryd.images.transports import ImageLocation

    # The index, whose other images are not held, goes along only when all of them were pulled.
    platforms = () if context.options.all_platforms else preferred(context) or (own(),)
    source = ImageLocation("cache", reference=reference)
    target = output_of(context, context.options.output).named(called)
    if target.transport in CONVERTED:
        done = converted(context, chosen, [reference], target, platforms, replace=False)
        progress.summary(context, done)
        return
    with progress.shown(context) as show:
        done = copy(context, source, target, report=show, platforms=platforms, cache=chosen)
    progress.summary(context, done)
