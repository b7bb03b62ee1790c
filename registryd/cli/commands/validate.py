"""``validate``: whether an image is whole and what it says, byte for byte."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

from cache.errors import DigestMismatch, Fault
from registryd.cli import progress, wording
from registryd.cli.arguments import (
    Parser,
    credential_flags,
    jobs_flag,
    platforms_flag,
    tls_flags,
)
from registryd.cli.backend import Backend, Report, backend
from registryd.cli.command import Context
from registryd.cli.own_names import OWN_REGISTRY
from registryd.cli.platforms import named
from registryd.cli.settings import settings

if TYPE_CHECKING:
    from registryd.images.transports import ImageLocation
    from registryd.ports import Source
    from registryd.transfer.validation import Measure, Verdict


IMAGES = (
    "[docker://]NAME, cache:NAME, oci:DIR[:TAG], dir:DIR, oci-archive:FILE[:TAG] or"
    " docker-archive:FILE[:REF]"
)


class ImageInvalid(Fault):
    """Raised when an image is not whole, or not what it says; all that is wrong was told."""


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("image", metavar="IMAGE", help=IMAGES)
    parser.add_argument(
        "--fast",
        action="store_true",
        default=False,
        help="layers are not read: only that they are there, and their sizes",
    )
    platforms_flag(parser, "default: all")
    jobs_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print all that is wrong, one a line; NAME@DIGEST when nothing is.

    Raises ImageInvalid; DigestMismatch (exit code 5) when content is not what its digest says;
    Fault.
    """
    from registryd.cli.direct import run as do
    from registryd.images.transports import ImageLocation

    location = ImageLocation.parse(context.options.image)
    if location.transport == "registry" and _is_own(location):
        location = ImageLocation("cache", reference=location.reference)
    with ExitStack() as stack:
        cache = stack.enter_context(backend(context)) if location.transport == "cache" else None
        show = stack.enter_context(progress.shown(context))
        verdict = do(_validate(context, location, cache, show))
    _tell(context, location, verdict)


def _is_own(location: ImageLocation) -> bool:
    return location.reference is not None and location.reference.registry == OWN_REGISTRY


async def _validate(
    context: Context, location: ImageLocation, cache: Backend | None, report: Report
) -> Verdict:
    from registryd.cli.transfers import DEFAULT_JOBS
    from registryd.transfer.validation import validate

    async with AsyncExitStack() as stack:
        source, measure = await _source(context, location, cache, stack)
        return await validate(
            source,
            platforms=named(context),
            measure=measure if context.options.fast else None,
            jobs=context.options.jobs or DEFAULT_JOBS,
            report=report,
        )


async def _source(
    context: Context, location: ImageLocation, cache: Backend | None, stack: AsyncExitStack
) -> tuple[Source, Measure]:
    """Where to read the image, and how to measure a blob without that."""
    from registryd.cli.direct import open_registry
    from registryd.cli.ends import Ends
    from registryd.transfer.endpoints import RegistrySource

    reference = location.reference
    if reference is None or (cache is not None and cache.socket is None):
        source = await Ends(context, cache, stack).source(location)

        async def opened(descriptor: Any) -> int:
            async with source.blob(descriptor):
                return int(descriptor.size)

        return source, opened
    opening = open_registry(
        context, reference.registry, reference.repository, cached=cache is not None
    )
    remote = await stack.enter_async_context(opening)

    async def asked(descriptor: Any) -> int | None:
        return await remote.blob_size(reference, descriptor.digest)

    return RegistrySource(remote, reference, settings(context).transfer), asked


def _tell(context: Context, location: ImageLocation, verdict: Verdict) -> None:
    options, console = context.options, context.console
    name = location.reference.name if location.reference else str(location)
    exact = f"{name}@{verdict.root.digest}" if location.reference else str(verdict.root.digest)
    if options.format == "json":
        console.json(_as_json(context, location, verdict))
    elif verdict.problems:
        for problem in verdict.problems:
            console.line(f"{problem.descriptor.digest}  {problem.kind}  {problem.message}")
    else:
        console.line(exact)
    if not options.quiet and options.progress not in ("none", "json"):
        manifests = wording.counted(verdict.manifests, "manifest")
        blobs = wording.counted(verdict.blobs, "blob")
        console.words(f"{manifests}, {blobs}, {wording.size(verdict.size)} read")
    if verdict.problems:
        wrong = any(problem.code in ("digest", "diff_id") for problem in verdict.problems)
        count = wording.counted(len(verdict.problems), "fault")
        raise (DigestMismatch if wrong else ImageInvalid)(f"{location} is not valid: {count}")


def _as_json(context: Context, location: ImageLocation, verdict: Verdict) -> dict[str, Any]:
    return {
        "reference": str(location.reference or location),
        "digest": str(verdict.root.digest),
        "media_type": verdict.root.media_type,
        "platforms": [str(platform) for platform in named(context)],
        "valid": not verdict.problems,
        "fast": context.options.fast,
        "manifests": verdict.manifests,
        "blobs": verdict.blobs,
        "size": verdict.size,
        "problems": [
            {
                "digest": str(problem.descriptor.digest),
                "size": problem.descriptor.size,
                "kind": problem.kind,
                "code": problem.code,
                "message": problem.message,
            }
            for problem in verdict.problems
        ],
    }
