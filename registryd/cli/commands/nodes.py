"""``nodes``: the members of the cluster, as this node sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.tables import Column

COLUMNS = (
    Column("NODE"),
    Column("ZONE"),
    Column("LOAD", right=True),
    Column("FREE", right=True),
    Column("VERSION"),
    Column("SEEN"),
)
NO_CLUSTER = "this node has no cluster"
AWAY = "NATS is away: these are the nodes that were known last"


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Print the nodes: a table, JSON, or with -q their names. Raises Fault."""
    with backend(context) as chosen:
        result = chosen.call("nodes", {})
    console, nodes = context.console, result.get("nodes") or []
    if context.options.format == "json":
        console.json(result)
    elif context.options.quiet:
        for node in nodes:
            console.line(str(node.get("name")))
    elif not nodes:
        console.words(NO_CLUSTER)
    else:
        console.table(COLUMNS, [_row(node, str(result.get("me"))) for node in nodes])
        if not result.get("connected"):
            console.words(AWAY)


def _row(node: Mapping[str, Any], me: str) -> list[str]:
    """A node; the one that was asked has a star and is seen at all times."""
    name = str(node.get("name"))
    load, free, heard = (node.get(key) for key in ("load", "free", "heard_seconds"))
    mine = name == me
    seen = "-" if heard is None else f"{wording.span(heard)} ago"
    return [
        f"{name} *" if mine else name,
        str(node.get("zone") or "-"),
        "-" if load is None else str(load),
        "-" if free is None else wording.size(free),
        str(node.get("version") or "-"),
        "this node" if mine else seen,
    ]
