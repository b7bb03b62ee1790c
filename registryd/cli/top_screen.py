"""The screen of ``top``: drawn anew at each look; the terminal is as before when it ends.

Invariants:
- rich is imported here, and only for a terminal;
- texts of registries are drawn as plain text, without what would steer the terminal;
- a daemon that goes away is said to be away, and what was seen last stays until it is back.
"""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rich.console import Console as Terminal
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cache.errors import Fault
from registryd.cli import overview, wording
from registryd.cli.commands.top import NOTHING
from registryd.cli.console import Console
from registryd.cli.errors import printable
from registryd.cli.flights import nearest
from registryd.cli.socket_client import SocketBackend
from registryd.cli.tables import Column

#: Seconds between two looks at keys and at the size of the terminal.
TICK = 0.1
#: Columns of a bar, and the blocks of a small chart from low to high.
BAR, BLOCKS = 24, " ▁▂▃▄▅▆▇█"
#: From so many columns on there are bars; below that, the columns of fetches that are shown.
WIDE, NARROW = 110, (0, 1, 3, 4, 5, 7, 8)
#: Columns that become narrower where there is no room.
YIELDING = ("REPOSITORY", "SOURCE", "STATE", "NODE")
#: Lines that stand around the tables.
FRAME = 12

Look = dict[str, Any]


class Top:
    """What is on the screen: the last look, and what was before it."""

    def __init__(self, look: Look) -> None:
        self._course = overview.Course()
        self._speeds = overview.Speeds()
        self._away = ""
        self._fast: dict[str, float] = {}
        self.see(look)

    @property
    def newest(self) -> float:
        """The time of the newest sample that is known."""
        return self._course.newest

    def see(self, look: Look) -> None:
        """Take in a look."""
        self._look, self._away = look, ""
        self._now = self._course.take(look)
        self._fast = self._speeds.take(look.get("flights") or [])

    def miss(self, why: str) -> None:
        """The daemon has not answered."""
        if not self._away:
            self._away = f"since {time.strftime('%H:%M:%S')}: {why}"

    def draw(self, width: int, height: int) -> RenderableType:
        """All of it, for a screen of this size."""
        parts: list[RenderableType] = [self._head(), *self._facts(width), Text("")]
        flights = self._look.get("flights") or []
        left = max(3, height - FRAME)
        shown = max(2, left if not self._look.get("jobs") else left // 2)
        parts += self._flights(flights, shown, width)
        left -= min(len(flights), shown)
        jobs = overview.job_rows(self._look.get("jobs") or [])
        nodes = overview.node_rows(self._look.get("cluster") or {})
        for columns, rows in ((overview.JOB_COLUMNS, jobs), (overview.NODE_COLUMNS, nodes)):
            if rows and left > 3:
                parts += [Text(""), _table(columns, [_texts(row) for row in rows[: left - 3]])]
                left -= min(len(rows), left - 3) + 2
        return Group(*parts)

    def _head(self) -> Text:
        name = (self._look.get("node") or {}).get("name") or "this node"
        head = Text.assemble(("registryd ", "bold"), (printable(name), "bold cyan"))
        if self._away:
            head.append(f"   no answer {printable(self._away)}", "bold red")
        else:
            head.append(f"   {time.strftime('%H:%M:%S')}   q ends", "dim")
        return head

    def _facts(self, width: int) -> Iterator[RenderableType]:
        table = Table.grid(padding=(0, 2))
        for name, value in overview.facts(self._look, self._course.sums(self._now)):
            table.add_row(Text(name, "dim"), *_texts([value]))
        rates = self._course.rates(self._now, max(10, min(120, width - 34)))
        table.add_row(Text("bytes", "dim"), Text(sparks(rates), "cyan"))
        yield table

    def _flights(self, flights: Sequence[Look], shown: int, width: int) -> Iterator[RenderableType]:
        if not flights:
            yield Text(NOTHING, "dim")
            return
        rows = overview.flight_rows(flights, self._fast)
        kept = sorted(flights, key=nearest)
        columns = [*overview.FLIGHT_COLUMNS[:6], Column(""), *overview.FLIGHT_COLUMNS[6:]]
        cells: list[list[RenderableType]] = [
            [*_texts(row[:6]), _bar(flight, width), *_texts(row[6:])]
            for row, flight in zip(rows[:shown], kept, strict=False)
        ]
        if width < WIDE:  # no room for who sends, and for bars
            columns = [columns[at] for at in NARROW]
            cells = [[row[at] for at in NARROW] for row in cells]
        yield _table(columns, cells)
        more = len(flights) - len(cells) + int(self._look.get("more_flights") or 0)
        if more > 0:
            yield Text(f"and {more} more", "dim")


def _bar(flight: Look, width: int) -> ProgressBar:
    total, offset = flight.get("total"), flight.get("offset") or 0
    return ProgressBar(
        total=total or None, completed=offset, width=max(8, min(BAR, width - 110)), pulse=not total
    )


def sparks(rates: Sequence[float]) -> str:
    """A small chart: a block a value, and the highest in words."""
    top = max(rates, default=0.0)
    if not top:
        return "none in the last hour"
    blocks = "".join(BLOCKS[min(8, int(rate / top * 8 + 0.5))] for rate in rates)
    return f"{blocks} at most {wording.rate(top, 1.0)}"


def _texts(row: Sequence[str]) -> list[RenderableType]:
    """Values as they are drawn: on one line, without what steers a terminal."""
    return [Text(printable(value), no_wrap=True, overflow="ellipsis") for value in row]


def _table(columns: Sequence[Column], rows: Sequence[Sequence[RenderableType]]) -> Table:
    """Rows below their headings; names give way where there is no room, and figures do not."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        side: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.heading, justify=side, no_wrap=column.heading not in YIELDING)
    for row in rows:
        table.add_row(*row)
    return table


def watch(socket: Path, console: Console, look: Look, interval: float) -> None:
    """Look and draw until ``q`` or Ctrl-C."""
    top = Top(look)
    terminal = Terminal(file=console.out)
    try:
        with (
            keys(console) as pressed,
            Live(console=terminal, screen=True, auto_refresh=False) as live,
        ):
            while True:
                size = terminal.size
                live.update(top.draw(size.width, size.height), refresh=True)
                if not _rest(interval, pressed, terminal):
                    return
                _look(top, socket)
    except KeyboardInterrupt:
        return


def _look(top: Top, socket: Path) -> None:
    """Ask on a connection of its own: the daemon may have been started anew."""
    daemon = SocketBackend(socket)
    try:
        daemon.connect()
        top.see(daemon.call("overview", {"since": str(top.newest)}))
    except Fault as fault:
        top.miss(str(fault))
    finally:
        daemon.close()


def _rest(interval: float, pressed: Callable[[float], str], terminal: Terminal) -> bool:
    """Wait for the next look, or until the terminal has another size; False when it is to end."""
    ends, size = time.monotonic() + interval, terminal.size
    while (left := ends - time.monotonic()) > 0:
        if pressed(min(TICK, left)) in ("q", "Q"):
            return False
        if terminal.size != size:
            return True
    return True


@contextmanager
def keys(console: Console) -> Iterator[Callable[[float], str]]:
    """What key comes within so many seconds ("" for none), without Enter and without echo."""
    if not console.typed.isatty():
        yield _no_key
        return
    fd = console.typed.fileno()
    before = termios.tcgetattr(fd)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([fd], [], [], seconds)
        return os.read(fd, 1).decode(errors="replace") if ready else ""

    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _no_key(seconds: float) -> str:
    time.sleep(seconds)
    return ""
