"""``cache active``: what is on its way into the cache, once or for as long as one looks."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.console import Console
from registryd.cli.flights import COLUMNS, Pace
from registryd.cli.tables import layout

NOTHING = "nothing is on its way"
#: Seconds between two looks.
EVERY = 1.0

Ask = Callable[[], dict[str, Any]]


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--watch", action="store_true", default=False, help="look again and again, until Ctrl-C"
    )


def run(context: Context) -> None:
    """Show the fetches: a table, JSON, or with -q digests. Raises Fault."""
    with backend(context) as chosen:

        def ask() -> dict[str, Any]:
            return chosen.call("active", {})

        if context.options.watch:
            watch(ask, _shower(context), lambda: time.sleep(EVERY))
        else:
            _show_once(context, ask())


def watch(ask: Ask, show: Callable[[dict[str, Any]], None], pause: Callable[[], None]) -> None:
    """Ask and show until the user has had enough, which is the proper end. Raises Fault."""
    try:
        while True:
            show(ask())
            pause()
    except KeyboardInterrupt:
        return


def _show_once(context: Context, result: dict[str, Any]) -> None:
    console, flights = context.console, result.get("flights") or []
    if context.options.format == "json":
        console.json(result)
    elif context.options.quiet:
        for flight in flights:
            console.line(str(flight.get("digest")))
    elif flights:
        console.table(COLUMNS, Pace().rows(flights))
    else:
        console.words(NOTHING)


def _shower(context: Context) -> Callable[[dict[str, Any]], None]:
    """What shows one look of many."""
    console = context.console
    if context.options.format == "json":
        return lambda result: _line(console, json.dumps(result, separators=(",", ":")))
    terminal = console.out.isatty() and context.environ.get("TERM") != "dumb"
    return Screen(console) if terminal else _Sheets(console)


def _line(console: Console, text: str) -> None:
    console.line(text)
    console.flush()


class Screen:
    """Draws each look over the one before."""

    def __init__(self, console: Console, size: Callable[[], Sequence[int]] | None = None) -> None:
        self._console = console
        self._pace = Pace()
        self._size = size or shutil.get_terminal_size
        self._drawn = 0

    def __call__(self, result: dict[str, Any]) -> None:
        """Draw one look."""
        width, height = self._size()
        lines = _lines(self._pace, result)[: max(height - 1, 1)]
        back = f"\x1b[{self._drawn}F" if self._drawn else ""
        # A line that wraps would take two of the screen, and the next look would miss its place.
        text = "".join(f"{line[: max(width - 1, 1)]}\x1b[K\n" for line in lines)
        self._console.out.write(f"{back}{text}\x1b[J")
        self._console.flush()
        self._drawn = len(lines)


class _Sheets:
    """One look below the other, for files and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pace = Pace()

    def __call__(self, result: dict[str, Any]) -> None:
        _line(self._console, "\n".join([*_lines(self._pace, result), ""]))


def _lines(pace: Pace, result: dict[str, Any]) -> list[str]:
    flights = result.get("flights") or []
    return layout(COLUMNS, pace.rows(flights)) if flights else [NOTHING]
