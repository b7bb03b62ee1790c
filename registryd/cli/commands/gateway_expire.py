"""``gateway expire``: an image goes, for admins."""

from __future__ import annotations

from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.gateway import gateway, image_argument


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    image_argument(parser)


def run(context: Context) -> None:
    """Take it away; its id on stdout. Raises Fault."""
    with gateway(context) as chosen:
        result = chosen.call("gateway_expire", {"image": context.options.image})
    if context.options.format == "json":
        context.console.json(result)
        return
    for id in result.get("expired") or []:
        context.console.line(str(id))
