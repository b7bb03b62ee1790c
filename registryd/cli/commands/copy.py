"""``copy``: an image from any place to any other, digests and all."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.content import Digest
from registryd.cli import progress, wording
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
from registryd.cli.copy_flags import SIDES, chosen, index_flags, places, words_of_others
from registryd.cli.own_names import check_own_name
from registryd.cli.platforms import named
from registryd.cli.progress import Progress
from registryd.cli.results import tell_result, write_digest
from registryd.oci.errors import Denied, Unauthorized, UsageError
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from registryd.images.transports import ImageLocation

PLACES = (
    "[docker://]NAME, cache:NAME, oci:DIR[:TAG], dir:DIR, oci-archive:FILE[:TAG] or"
    " docker-archive:FILE[:REF] (FILE - is stdin or stdout)"
)
#: What only a copy that this process does itself can obey.
OWN_WORK = (
    "keep_index",
    "strip",
    "multi_arch",
    "no_clobber",
    "force_recursive",
    "verify_tag",
    "dry_run",
    "referrers",
    "digest_tags",
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("source", metavar="SRC", help=PLACES)
    parser.add_argument("target", metavar="DST", help="the same forms")
    platforms_flag(parser, "default: all")
    index_flags(parser)
    parser.add_argument(
        "--all-tags",
        action="store_true",
        help="all tags of SRC, a repository, to DST, a repository; -j images at a time",
    )
    jobs_flag(parser)
    credential_flags(parser)
    tls_flags(parser)
    side_flags(parser, "src")
    side_flags(parser, "dest")
    words_of_others(parser)


def run(context: Context) -> None:
    """Copy; DST@DIGEST on stdout. Raises Fault."""
    from registryd.images.transports import ImageLocation

    if getattr(context.options, "all_tags", False):
        _all_tags(context)
        return
    source, target = map(ImageLocation.parse, places(context))
    chosen(context)  # what contradicts itself is told before anything is opened
    if getattr(context.options, "retry_delay", None) is not None:
        context.console.words("--retry-delay: left to the rules of retries (Retry-After, back-off)")
    _check_verifiable(context, source)
    if _is_pull(context, source, target):
        done = _into_cache(context, source, target)
    else:
        done = _copy(context, source, target)
    _tell(context, done)


def _all_tags(context: Context) -> None:
    """Every tag of a repository. Raises Fault; Partly when some failed."""
    from registryd.cli.mirroring import judge, mirror
    from registryd.sync.plan import Plan, RepositoryStep
    from registryd.sync.regsync_file import bare

    for flag in ("verify_tag", "digestfile"):
        if getattr(context.options, flag, None):
            raise UsageError(f"--{flag.replace('_', '-')} is about one image, not about --all-tags")
    source, target = map(bare, places(context))
    plan = Plan((RepositoryStep(source, target, chosen(context)),))
    judge(mirror(context, plan, keep_going=True), keep_going=True)


def _check_verifiable(context: Context, source: ImageLocation) -> None:
    """--verify-tag needs a tag and a digest to compare. Raises UsageError."""
    name = source.reference if source.transport == "registry" else None
    if getattr(context.options, "verify_tag", False) and not (name and name.tag and name.digest):
        raise UsageError(f"--verify-tag wants REGISTRY/NAME:TAG@DIGEST as SRC, not {source}")


def _is_pull(context: Context, source: ImageLocation, target: ImageLocation) -> bool:
    """Whether the cache does all the work itself. Raises UsageError where it can not."""
    if source.transport != "registry" or target.transport != "cache":
        return False
    flags = [name for name in OWN_WORK if getattr(context.options, name, False)]
    if flags and source.reference == target.reference:
        flag = flags[0].replace("_", "-")
        raise UsageError(
            f"--{flag}: the cache holds what a registry has, under that name, as it is there"
            " (copy to cache:localhost/NAME, or pull)"
        )
    if "dry_run" in flags:
        raise UsageError("--dry-run says what would go to a registry or a file, not to the cache")
    return not flags


def _tell(context: Context, done: Event) -> None:
    """The result, on stdout and where --digestfile says."""
    options, console = context.options, context.console
    if done.get("unchanged"):
        if not options.quiet:
            console.words(f"already there: {done['reference']} is {done['digest']}")
    elif done.get("dry_run"):
        _tell_rehearsal(context, done)
    else:
        progress.summary(context, done)
        if done.get("index") in ("kept", "stripped") and not options.quiet:
            console.words(f"index   {_FATES[done['index']]}")
    file = getattr(options, "digestfile", None)
    if file is not None and not done.get("dry_run"):
        write_digest(Path(file), str(done["digest"]))
    tell_result(context, done)


_FATES = {
    "kept": "kept as it is: its digest is the source's, not all of its images are there",
    "stripped": "stripped: a new one with a digest of its own, of these images alone",
}


def _tell_rehearsal(context: Context, done: Event) -> None:
    """What would be moved."""
    if context.options.quiet:
        return
    for words, name in (("would send", "sent"), ("held", "held")):
        blobs = wording.counted(int(done[f"{name}_blobs"]), "blob")
        context.console.words(f"{words:<11}{wording.size(done[name]):>10}  {blobs}")
    context.console.words(f"{'and':<11}{wording.counted(int(done['manifests']), 'manifest')}")


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

    extras = chosen(context)
    told = progress.warned(context, show)
    return copy(context, source, target, report=told, extras=extras, cache=cache, sides=SIDES)


def _pulled(
    context: Context, source: ImageLocation, show: Progress, chosen: Backend
) -> ImageLocation:
    """The source after a pull with the user's own login, by its digest."""
    from registryd.cli.logins import login_for

    if source.reference is None:
        raise UsageError(f"{source} is not a name")
    reference = source.reference
    login = login_for(context, reference.registry, reference.repository, side=SIDES[0])
    done = chosen.stream("pull", _wanted(context, reference), progress.warned(context, show), login)
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
            done = chosen.stream(
                "pull", _wanted(context, reference), progress.warned(context, show), login
            )
        if target.reference != reference:
            exact = f"{reference.name}@{done['digest']}"
            chosen.call("tag", {"source": exact, "target": str(target.reference)})
            done = {**done, "reference": str(target.reference)}
    return done
