"""``gateway queue``: one's own imports that are under way, or have failed lately."""

from __future__ import annotations

from datetime import UTC, datetime

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.gateway import gateway
from registryd.cli.tables import Column

COLUMNS = (Column("IMAGE"), Column("USER"), Column("STATE"), Column("SINCE"), Column("MESSAGE"))


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Print the imports, the oldest first. Raises Fault."""
    console, options = context.console, context.options
    with gateway(context) as chosen:
        result = chosen.call("gateway_queue", {})
    imports = result.get("imports") or []
    if options.format == "json":
        console.json(result)
    elif options.quiet:
        for each in imports:
            console.line(str(each.get("name")))
    elif imports:
        now = datetime.now(UTC)
        rows = [
            [
                str(each.get("name")),
                str(each.get("uid")),
                str(each.get("state")),
                wording.ago(str(each.get("since") or ""), now),
                str(each.get("message") or "-"),
            ]
            for each in imports
        ]
        console.table(COLUMNS, rows)
    else:
        console.words("nothing is under way")
