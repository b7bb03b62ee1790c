"""``history``: the steps that made an image, as docker shows them: the newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser, credential_flags, platform_flag, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.described import Parts, from_backend, from_file
from registryd.cli.platforms import single_preferred
from registryd.cli.tables import Column

COLUMNS = (
    Column("LAYER"),
    Column("CREATED"),
    Column("CREATED BY"),
    Column("SIZE", right=True),
    Column("COMMENT"),
)
#: How much of a command the table shows, as docker does.
SHOWN = 45


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "image",
        metavar="IMAGE",
        help="a name, oci:DIR[:TAG], dir:DIR, oci-archive:FILE, docker-archive:FILE",
    )
    parser.add_argument(
        "--no-trunc", action="store_true", default=False, help="whole commands and digests"
    )
    platform_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print the steps; with -q the layers' digests. Sizes are those of layers as they are sent.

    Raises Fault.
    """
    from registryd.oci.history import read_history
    from registryd.oci.manifest import Manifest, parse

    options, console = context.options, context.console
    parts = _parts(context)
    manifest = parse(parts.manifest.content)
    layers = manifest.layers if isinstance(manifest, Manifest) else ()
    steps = [
        {
            "digest": None if step.layer is None else str(step.layer.digest),
            "size": 0 if step.layer is None else step.layer.size,
            "created": step.created,
            "created_by": step.created_by,
            "comment": step.comment,
            "empty_layer": step.layer is None,
        }
        for step in reversed(read_history(parts.config.content, layers))
    ]
    if options.format == "json":
        digest = str(manifest.digest)
        console.json({"reference": options.image, "digest": digest, "history": steps})
    elif options.quiet:
        for step in steps:
            if step["digest"]:
                console.line(str(step["digest"]))
    else:
        now = datetime.now(UTC)
        console.table(COLUMNS, [_row(step, now, whole=options.no_trunc) for step in steps])


def _parts(context: Context) -> Parts:
    from registryd.cli.direct import run as do
    from registryd.cli.logins import login_for
    from registryd.images.transports import ImageLocation

    location = ImageLocation.parse(context.options.image)
    platform = single_preferred(context)
    reference = location.reference
    if reference is None:
        return do(from_file(context, location, platform))
    login = login_for(context, reference.registry, reference.repository)
    with backend(context, reference.registry) as chosen:
        return from_backend(chosen, reference, platform, login)


def _row(step: dict[str, Any], now: datetime, *, whole: bool) -> list[str]:
    digest, command = str(step["digest"] or ""), " ".join(str(step["created_by"]).split())
    if not whole and len(command) > SHOWN:
        command = f"{command[: SHOWN - 3]}..."
    return [
        (digest if whole else wording.short(digest)) or "-",
        wording.ago(str(step["created"]), now) if step["created"] else "-",
        command,
        wording.size(step["size"]),
        str(step["comment"]),
    ]
