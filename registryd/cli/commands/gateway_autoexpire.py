"""``gateway autoexpire``: what nobody has looked up for long goes, for admins."""

from __future__ import annotations

from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.gateway import gateway


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Take it away; the ids on stdout. Raises Fault."""
    with gateway(context) as chosen:
        result = chosen.call("gateway_autoexpire", {})
    if context.options.format == "json":
        context.console.json(result)
        return
    for id in result.get("expired") or []:
        context.console.line(str(id))
