"""``cache whohas``: which nodes of the cluster hold a blob, or are receiving it."""

from __future__ import annotations

from cache.errors import BlobNotFound
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.tables import Column

COLUMNS = (Column("NODE"), Column("HAS IT"))
#: By whether it is whole.
HOW = {True: "whole", False: "on its way"}


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("digest", metavar="DIGEST", help="the blob's digest, sha256:...")


def run(context: Context) -> None:
    """Print some of the nodes that have it: a table, JSON, or with -q their names.

    Raises Fault, BlobNotFound where no node says that it has it.
    """
    digest = context.options.digest
    with backend(context) as chosen:
        result = chosen.call("whohas", {"digest": digest})
    console, holders = context.console, result.get("holders") or []
    if context.options.format == "json":
        console.json(result)
    elif context.options.quiet:
        for holder in holders:
            console.line(str(holder.get("name")))
    elif holders:
        rows = [[str(each.get("name")), HOW[bool(each.get("whole"))]] for each in holders]
        console.table(COLUMNS, rows)
    if not holders:
        raise BlobNotFound(
            f"no node says that it has {digest} (other nodes tell of what they have had lately,"
            " and of 1 MiB or more)"
        )
