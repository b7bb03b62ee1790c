"""``status``: the daemon, what it holds, and what it is fetching."""

from __future__ import annotations

from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.tables import Column

FLIGHTS = (
    Column("FETCHING"),
    Column("SOURCE"),
    Column("THERE", right=True),
    Column("OF", right=True),
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Print the state. Raises Fault."""
    with backend(context) as chosen:
        result = chosen.call("status", {})
        where = f"on {chosen.socket}" if chosen.socket else "none (this process)"
    if context.options.format == "json":
        context.console.json(result)
        return
    context.console.facts([("daemon", where), *_facts(result)])
    flights = result.get("flights") or []
    if flights:
        context.console.line("")
        context.console.table(FLIGHTS, [_row(flight) for flight in flights])


def _facts(status: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("version", str(status.get("version", "-"))),
        ("process", str(status.get("pid", "-"))),
        ("up for", wording.span(float(status.get("uptime_seconds") or 0))),
        ("listens on", ", ".join(status.get("listeners") or []) or "-"),
        ("cache", str(status.get("root", "-"))),
        ("images", str(status.get("images", "-"))),
        ("blobs", f"{status.get('blobs', '-')}, {wording.size(status.get('size') or 0)}"),
    ]


def _row(flight: dict[str, Any]) -> list[str]:
    total = flight.get("total")
    return [
        wording.short(str(flight.get("digest") or "")),
        str(flight.get("source") or "-"),
        wording.size(flight.get("offset") or 0),
        "-" if total is None else wording.size(total),
    ]
