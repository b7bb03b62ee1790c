"""``gateway images``: the images that one may read."""

from __future__ import annotations

from datetime import UTC, datetime

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.gateway import gateway
from registryd.cli.tables import Column

COLUMNS = (
    Column("IMAGE"),
    Column("ID"),
    Column("STATE"),
    Column("SIZE", right=True),
    Column("FOR"),
    Column("PULLED"),
    Column("LOOKED UP"),
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Print a line for each name. Raises Fault."""
    console, options = context.console, context.options
    with gateway(context) as chosen:
        result = chosen.call("gateway_images", {})
    images = result.get("images") or []
    if options.format == "json":
        console.json(result)
    elif options.quiet:
        for image in images:
            console.line(str(image.get("id")))
    elif images:
        now, rows = datetime.now(UTC), []
        for image in images:
            cells = [
                str(image.get("id"))[: wording.SHORT],
                str(image.get("state")),
                wording.size(image.get("size") or 0),
                "some" if image.get("private") else "all",
                wording.ago(str(image.get("last_pull") or ""), now),
                wording.ago(str(image.get("last_lookup") or ""), now),
            ]
            rows += [[str(name), *cells] for name in image.get("names") or ["-"]]
        console.table(COLUMNS, sorted(rows))
    else:
        console.words("there are no images that you may read")
