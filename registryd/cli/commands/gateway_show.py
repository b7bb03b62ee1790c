"""``gateway show``: all that the gateway has under a name, for who asks."""

from __future__ import annotations

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.gateway import gateway, image_argument


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    image_argument(parser)


def run(context: Context) -> None:
    """Print it. Raises Fault."""
    with gateway(context) as chosen:
        result = chosen.call("gateway_show", {"image": context.options.image})
    if context.options.format == "json":
        context.console.json(result)
        return
    image, asked = result.get("image") or {}, result.get("import") or {}
    facts = [("name", str(result.get("name"))), ("state", str(result.get("state")))]
    if image:
        who = "all"
        if image.get("private"):
            users, groups = image.get("users") or [], image.get("groups") or []
            who = f"users {', '.join(map(str, users)) or '-'}"
            who += f"; groups {', '.join(map(str, groups))}" if groups else ""
        facts += [
            ("id", str(image.get("id"))),
            ("for", who),
            ("content", str(image.get("content"))),
            ("size", wording.size(image.get("size") or 0)),
            ("pulled", str(image.get("last_pull"))),
            ("looked up", str(image.get("last_lookup"))),
            ("expires", str(image.get("expires"))),
        ]
    if asked:
        facts += [("import", f"{asked.get('state')} since {asked.get('since')}")]
        facts += [("message", str(asked["message"]))] if asked.get("message") else []
    context.console.facts(facts)
