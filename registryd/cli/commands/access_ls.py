"""``access ls``: who was let into which repository, and until when."""

from __future__ import annotations

from typing import Any

from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.tables import Column

#: Characters of a principal that are shown: enough to revoke it by.
WIDTH = 18
GRANTS = (Column("REPOSITORY"), Column("PRINCIPAL"), Column("EXPIRES"))


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Print the grants. Raises Fault."""
    with backend(context) as chosen:
        result = chosen.call("grants", {})
    if context.options.format == "json":
        context.console.json(result)
        return
    context.console.table(GRANTS, [_row(grant) for grant in result.get("grants") or []])


def _row(grant: dict[str, Any]) -> list[str]:
    repository, principal, expires = (
        str(grant.get(key) or "-") for key in ("repository", "principal", "expires")
    )
    return [repository, principal[:WIDTH], expires]
