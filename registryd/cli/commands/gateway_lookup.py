"""``gateway lookup``: the id of an image, whose expiry is put off."""

from __future__ import annotations

from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.gateway import gateway, image_argument


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    image_argument(parser)


def run(context: Context) -> None:
    """Print the id. Raises Fault."""
    with gateway(context) as chosen:
        result = chosen.call("gateway_lookup", {"image": context.options.image})
    if context.options.format == "json":
        context.console.json(result)
    else:
        context.console.line(str(result.get("id")))
