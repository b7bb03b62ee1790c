"""``blob head``: whether a blob is there, and how large it is."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.command import Context
from registryd.cli.places import Place


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("blob", metavar="NAME@DIGEST", help="cache:NAME@DIGEST asks the daemon")
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print digest and size. Raises BlobUnknown (exit code 2), Fault."""
    from registryd.cli.direct import run as do

    place = Place.parse(context.options.blob).exact()

    async def ask() -> int | None:
        async with place.open(context) as remote:
            return await remote.blob_size(place.reference, place.digest)

    size = do(ask())
    if context.options.format == "json":
        context.console.json(
            {"reference": str(place.reference), "digest": str(place.digest), "size": size}
        )
        return
    shown = "not told" if size is None else str(size)
    context.console.facts([("digest", str(place.digest)), ("size", shown)])
