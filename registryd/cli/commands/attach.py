"""``attach``: files as an artifact that is attached to an image."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from registryd.cli import progress
from registryd.cli.arguments import (
    Parser,
    credential_flags,
    jobs_flag,
    platform_flag,
    tls_flags,
)
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.commands.referrers import one_platform
from registryd.cli.own_names import check_own_name
from registryd.oci.errors import UsageError

#: What a file is that nobody says more of.
FILE_TYPE = "application/octet-stream"


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF", help="NAME, cache:NAME or oci:DIR[:TAG]")
    parser.add_argument(
        "files",
        metavar="FILE[:MEDIATYPE]",
        nargs="*",
        default=[],
        help=f"its content (default: {FILE_TYPE})",
    )
    parser.add_argument(
        "--artifact-type",
        metavar="TYPE",
        required=True,
        help="what it is, as application/spdx+json",
    )
    parser.add_argument(
        "-a",
        "--annotation",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="annotations",
        help="a note on its manifest; may be given again",
    )
    platform_flag(parser)
    jobs_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Push the artifact; NAME@DIGEST on stdout. Raises Fault."""
    from registryd.cli.referring import Attachment, attach
    from registryd.images.transports import ImageLocation
    from registryd.oci.artifact import CREATED

    options = context.options
    location = ImageLocation.parse(options.reference)
    if location.transport == "cache" and location.reference is not None:
        check_own_name(location.reference)
    notes = dict(_pair(text) for text in options.annotations)
    wanted = Attachment(
        location,
        options.artifact_type,
        [file_of(text) for text in options.files],
        {CREATED: _now(context), **notes},
        one_platform(context),
    )
    if not wanted.files and not notes:
        raise UsageError("nothing to attach: give a FILE, or an annotation (-a KEY=VALUE)")
    with ExitStack() as stack:
        cache = stack.enter_context(backend(context)) if location.transport == "cache" else None
        show = stack.enter_context(progress.shown(context))
        document, done = attach(context, wanted, cache, show)
    place = location.reference.name if location.reference else f"oci:{location.path}"
    if options.format == "json":
        context.console.json(
            {
                "reference": f"{place}@{document.digest}",
                "digest": str(document.digest),
                "media_type": document.media_type,
                "size": len(document.raw),
                "artifact_type": document.artifact_type,
                "subject": str(document.subject.digest) if document.subject else "",
                "annotations": dict(document.annotations),
                "sent": done.sent,
                "sent_blobs": done.sent_blobs,
            }
        )
    else:
        exact = f"{place}@{document.digest}"
        context.console.line(exact if location.reference else str(document.digest))


def file_of(text: str) -> tuple[Path, str, str]:
    """Path, media type and title of FILE[:MEDIATYPE]. Raises UsageError.

    What follows the last colon is a media type when it has a slash and no file is called so.
    """
    name, colon, kind = text.rpartition(":")
    typed = bool(colon and name and "/" in kind and not kind.startswith("/"))
    if typed and Path(text).exists():
        typed = False
    path, media_type = (name, kind) if typed else (text, FILE_TYPE)
    if not path or "\0" in path:
        raise UsageError(f"{text[:300]!r} names no file")
    if not Path(path).exists():
        raise UsageError(f"{path}: there is no such file")
    return Path(path), media_type, Path(path).name


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UsageError(f"--annotation {text[:100]!r} is not KEY=VALUE")
    return key, value


def _now(context: Context) -> str:
    """The time of the artifact; SOURCE_DATE_EPOCH makes the same artifact of the same files."""
    epoch = context.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
