"""``cache pins``: what is kept in the cache, by whom and until when."""

from __future__ import annotations

from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.tables import Column

PINS = (Column("PIN"), Column("OWNER"), Column("IMAGE"), Column("DIGEST"), Column("EXPIRES"))


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Print the caller's pins, all to the owner of the cache. Raises Fault."""
    with backend(context) as chosen:
        result = chosen.call("pins", {})
    if context.options.format == "json":
        context.console.json(result)
        return
    context.console.table(PINS, [_row(pin) for pin in result.get("pins") or []])


def _row(pin: dict[str, Any]) -> list[str]:
    name, owner, image = (str(pin.get(key) or "-") for key in ("name", "owner", "reference"))
    digest = wording.short(str(pin.get("digest") or ""))
    return [name, owner, image, digest, str(pin.get("expires") or "never")]
