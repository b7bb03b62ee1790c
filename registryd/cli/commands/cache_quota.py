"""``cache quota``: how much of the cache one's pulls hold, and how much they may."""

from __future__ import annotations

from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.tables import Column

QUOTAS = (
    Column("USER"),
    Column("HELD", right=True),
    Column("QUOTA", right=True),
    Column("IMAGES", right=True),
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Print the caller's use, everybody's to the owner of the cache. Raises Fault."""
    with backend(context) as chosen:
        result = chosen.call("quota", {})
    if context.options.format == "json":
        context.console.json(result)
        return
    context.console.table(QUOTAS, [_row(each) for each in result.get("quotas") or []])


def _row(quota: dict[str, Any]) -> list[str]:
    most = quota.get("quota")
    return [
        str(quota.get("user") or "-"),
        wording.size(quota.get("used") or 0),
        "none" if most is None else wording.size(most),
        str(quota.get("images") or 0),
    ]
