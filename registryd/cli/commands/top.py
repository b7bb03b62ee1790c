"""``top``: the daemon live, on the whole screen of a terminal; or one look at it."""

from __future__ import annotations

import argparse
from typing import Any

from registryd.cli import overview
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.console import Console

NOTHING = "nothing is arriving"
#: Seconds between two looks: usually, and at least.
USUAL, LEAST = 1.0, 0.1


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--once", action="store_true", default=False, help="look once; so it is without a terminal"
    )
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=USUAL,
        metavar="SECONDS",
        help="look again after so long (default: 1)",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not LEAST <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not {LEAST} to 3600 seconds")
    return seconds


def run(context: Context) -> None:
    """Show the node until the user has had enough. Raises Fault."""
    console = context.console
    with backend(context) as chosen:
        look = chosen.call("overview", {})
        socket = chosen.socket
    if context.options.format == "json":
        console.json(look)
    elif context.options.once or socket is None or not _on_terminal(context):
        print_once(console, look)
    else:
        from registryd.cli.top_screen import watch

        watch(socket, context.console, look, context.options.interval)


def _on_terminal(context: Context) -> bool:
    return context.console.out.isatty() and context.environ.get("TERM") != "dumb"


def print_once(console: Console, look: dict[str, Any]) -> None:
    """One look, as facts and tables."""
    course = overview.Course()
    now = course.take(look)
    console.facts(overview.facts(look, course.sums(now)))
    flights = look.get("flights") or []
    console.line("")
    if flights:
        rows = overview.flight_rows(flights, overview.Speeds().take(flights))
        console.table(overview.FLIGHT_COLUMNS, rows)
    else:
        console.words(NOTHING)
    for columns, rows in (
        (overview.JOB_COLUMNS, overview.job_rows(look.get("jobs") or [])),
        (overview.NODE_COLUMNS, overview.node_rows(look.get("cluster") or {})),
    ):
        if rows:
            console.line("")
            console.table(columns, rows)
