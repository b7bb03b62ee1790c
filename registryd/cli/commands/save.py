"""``save``: docker's word for writing images to an archive that ``docker load`` reads."""

from __future__ import annotations

from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.commands.export import export_flags, exported, tell_json
from registryd.oci.errors import UsageError

#: Forms that docker's -o does not have, but people may well write.
_ARCHIVES = ("docker-archive:", "oci-archive:")


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("references", metavar="IMAGE", nargs="+")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="-",
        help="the archive to write, also over an older one (default: stdout); oci-archive:FILE"
        " makes an OCI one",
    )
    export_flags(parser)


def run(context: Context) -> None:
    """Save; nothing on stdout but the archive, as docker does. Raises Fault."""
    from registryd.images.transports import ImageLocation

    output = context.options.output
    if not output.startswith(_ARCHIVES):
        if ":" in output:
            raise UsageError(f"save -o takes a file without a colon in its name, not {output!r}")
        output = f"docker-archive:{output}"
    target = ImageLocation.parse(output)
    done = exported(context, context.options.references, target, replace=True)
    if context.options.format == "json" and not target.streams:
        tell_json(context, done)
