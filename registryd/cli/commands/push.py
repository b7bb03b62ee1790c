"""``push``: an image from the cache or a file to a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cache.errors import NameNotFound
from registryd.cli import progress
from registryd.cli.arguments import Parser, credential_flags, jobs_flag, tls_flags
from registryd.cli.backend import Backend, Event, backend
from registryd.cli.command import Context
from registryd.cli.results import tell_result, without_kind, write_digest
from registryd.cli.several import each
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
    parser.add_argument(
        "-a",
        "--all-tags",
        action="store_true",
        default=False,
        help="every tag that the cache has of SRC, a name without tag (REF: one too)",
    )
    parser.add_argument("--digestfile", metavar="FILE", default=None, help="write the digest there")
    jobs_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Push; NAME@DIGEST on stdout. Raises Fault."""
    from registryd.images.transports import ImageLocation

    options = context.options
    if options.all_tags:
        _push_all(context)
        return
    source = ImageLocation.parse(options.source)
    if options.target is None and source.reference is None:
        raise UsageError("a file has no name in a registry: write push SRC REF")
    target = Reference.parse(options.target or str(source.reference))
    if source.reference is None:
        done = _push_file(context, source, target)
    else:
        with backend(context, target.registry) as chosen:
            done = _push_name(context, chosen, source.reference, target)
    progress.summary(context, done)
    if options.digestfile is not None:
        write_digest(Path(options.digestfile), str(done["digest"]))
    tell_result(context, done)


def _push_name(context: Context, chosen: Backend, source: Reference, target: Reference) -> Event:
    """What the cache holds: whoever holds the cache pushes it."""
    from registryd.cli.logins import login_for

    login = login_for(context, target.registry, target.repository)
    names = {"source": str(source), "destination": str(target)}
    with progress.shown(context) as show:
        done = chosen.stream("push", names, show, login)
    here = ", ".join(done.get("platforms") or ())
    if here:  # that is said where not all of an index is in the cache
        context.console.warning(
            f"of {source} only {here} is here, and {target} has no more now"
            " (registryctl pull --all-platforms first to push all of it)"
        )
    return done


def _push_all(context: Context) -> None:
    """Each tag of a repository in the cache. Raises Fault; Partly when only some failed."""
    options = context.options
    if options.digestfile is not None:
        raise UsageError("--digestfile is for one image, not for --all-tags")
    source = _repository(options.source.removeprefix("cache:"))
    target = _repository(options.target) if options.target else source

    with backend(context, target.registry) as chosen:
        listed = chosen.call("images", {}).get("images", [])
        mine = [image for image in listed if image["name"] == source.name]
        tags = sorted(image["tag"] for image in mine if image["tag"])
        if not tags:
            raise NameNotFound(f"{source.name} has no tag in the cache")

        pushed: list[Event] = []

        def push(tag: str) -> None:
            done = _push_name(context, chosen, source.with_tag(tag), target.with_tag(tag))
            progress.summary(context, done)
            pushed.append(without_kind(done))
            if options.format != "json":
                tell_result(context, done)

        try:
            each(context.console, tags, push)
        finally:
            if options.format == "json" and pushed:
                context.console.json({"images": pushed})


def _repository(text: str) -> Reference:
    """A name without tag. Raises UsageError, ReferenceInvalid."""
    reference = Reference.parse(text, default_tag=None)
    if reference.target:
        raise UsageError(f"--all-tags takes names without tag (write {reference.name})")
    return reference


def _push_file(context: Context, source: ImageLocation, target: Reference) -> Event:
    """A file is of this process: it pushes, with the user's own credentials."""
    from registryd.cli.transfers import copy
    from registryd.images.transports import ImageLocation

    with progress.shown(context) as show:
        return copy(context, source, ImageLocation("registry", reference=target), report=show)
