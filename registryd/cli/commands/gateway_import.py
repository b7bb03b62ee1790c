"""``gateway import``: a squashfs or an archive becomes an image of the node's gateway."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.gateway import check_wait, dialled, gateway, sharing_flags, tell_end, teller
from registryd.oci.errors import UsageError

#: How a squashfs begins.
MAGIC = b"hsqs"


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "file", metavar="FILE", help="a squashfs; or oci-archive:FILE, docker-archive:FILE"
    )
    parser.add_argument("image", metavar="NAME", help="[custom:]NAME[:TAG]")
    sharing_flags(parser)


def run(context: Context) -> None:
    """Hand the file in, read as who runs this; its id on stdout when it is READY. Raises Fault."""
    options = context.options
    check_wait(context)
    form, colon, path = options.file.partition(":")
    if not colon or form not in ("squashfs", "oci-archive", "docker-archive"):
        form, path = "squashfs", options.file
    with _opened(Path(path)) as file:
        if form == "squashfs" and file.peek(len(MAGIC))[: len(MAGIC)] != MAGIC:  # type: ignore[attr-defined]
            raise UsageError(
                f"{path} is no squashfs (of an archive write oci-archive:FILE or"
                " docker-archive:FILE)"
            )
        with gateway(context) as chosen, dialled(chosen) as daemon:
            done = daemon.upload("gateway_import", _wanted(context, form), teller(context), file)
    tell_end(context, done)


def _wanted(context: Context, form: str) -> dict[str, str | None]:
    options = context.options
    return {
        "image": options.image,
        "form": form,
        "users": options.user,
        "groups": options.group,
        "wait": "true" if options.wait else None,
        "timeout": options.timeout,
    }


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
