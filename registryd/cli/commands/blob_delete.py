"""``blob delete``: a blob out of a repository."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.command import Context
from registryd.cli.places import Place


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("blob", metavar="NAME@DIGEST")
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Delete it; NAME@DIGEST on stdout. What was not there is a success. Raises Fault."""
    from registryd.cli.direct import run as do

    place = Place.parse(context.options.blob).exact()

    async def delete() -> bool:
        async with place.open(context) as remote:
            return await remote.delete_blob(place.reference.bare(), place.digest)

    deleted = do(delete())
    if not deleted:
        context.console.words(f"{place.reference} was not there")
    if context.options.format == "json":
        context.console.json(
            {
                "reference": str(place.reference),
                "digest": str(place.digest),
                "deleted": deleted,
            }
        )
    else:
        context.console.line(str(place.reference))
