"""``gateway metrics``: the last lookups, for admins."""

from __future__ import annotations

from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.gateway import gateway
from registryd.cli.tables import Column

COLUMNS = (Column("TIME"), Column("USER"), Column("IMAGE"), Column("ID"))


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--limit", metavar="N", default=None, help="so many (default: 10)")


def run(context: Context) -> None:
    """Print them, the newest first. Raises Fault."""
    with gateway(context) as chosen:
        result = chosen.call("gateway_metrics", {"limit": context.options.limit})
    if context.options.format == "json":
        context.console.json(result)
        return
    rows = [
        [str(each.get(key)) for key in ("time", "user", "name", "id")]
        for each in result.get("lookups") or []
    ]
    context.console.table(COLUMNS, rows)
