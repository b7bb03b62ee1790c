"""How long work shows on stderr: bars, plain lines, JSON lines, or not at all.

Invariants:
- rich is imported by bars only, and only once something still runs after a moment;
- plain says each blob's state when it changes, and the rate at most every ten seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from registryd.cli import wording
from registryd.cli.backend import Event, Report
from registryd.cli.command import Context
from registryd.cli.console import Console
from registryd.cli.tally import BlobState, Tally

if TYPE_CHECKING:
    from registryd.cli.bars import Bars

Clock = Callable[[], float]

#: Work that is over before this draws no bars.
PATIENCE = 0.15
RATE_EVERY = 10.0


class Progress(Protocol):
    """Shows events as they come."""

    def __call__(self, event: Event) -> None:
        """One event."""

    def close(self) -> None:
        """Leave the terminal as a command must leave it."""


class NoProgress:
    """Shows nothing."""

    def __call__(self, event: Event) -> None:
        """One event."""

    def close(self) -> None:
        """Nothing was opened."""


class JsonProgress:
    """Each event as a line of JSON."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: Event) -> None:
        """One event."""
        self._console.err.write(json.dumps(event, separators=(",", ":")) + "\n")
        self._console.err.flush()

    def close(self) -> None:
        """Nothing was opened."""


class PlainProgress:
    """A line for each change of a blob's state, and now and then the rate."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._tally = Tally()
        self._told_at = clock()
        self._told_bytes = 0

    def __call__(self, event: Event) -> None:
        """One event."""
        if event.get("event") == "resolved":
            self._console.words(f"{event.get('reference')} is {event.get('digest')}")
        changed = self._tally.take(event)
        if changed is not None:
            self._console.words(_state_line(changed))
        self._tell_rate()

    def close(self) -> None:
        """Nothing was opened."""

    def _tell_rate(self) -> None:
        now, tally = self._clock(), self._tally
        seconds = now - self._told_at
        if seconds < RATE_EVERY:
            return
        pace = wording.rate(tally.moved - self._told_bytes, seconds)
        there = f"{wording.size(tally.offset)} of {wording.size(tally.size)}"
        self._console.words(f"{there}, {pace}, {wording.counted(tally.left, 'blob')} to go")
        self._told_at, self._told_bytes = now, tally.moved


class PatientBars:
    """Bars, but only for work that takes longer than a moment."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started = clock()
        self._tally = Tally()
        self._bars: Bars | None = None

    def __call__(self, event: Event) -> None:
        """One event."""
        self._tally.take(event)
        if self._bars is None and self._tally.left and self._clock() - self._started >= PATIENCE:
            from registryd.cli.bars import Bars

            self._bars = Bars(self._console.err)
        if self._bars is not None:
            self._bars.draw(self._tally)

    def close(self) -> None:
        """Take the bars away."""
        if self._bars is not None:
            self._bars.close()


def warned(context: Context, show: Progress) -> Report:
    """This progress, with a line for each warning, told to those too who want no progress.

    As JSON a warning is an event like any other.
    """
    if isinstance(show, JsonProgress):
        return show

    def take(event: Event) -> None:
        if event.get("event") in ("warning", "ratelimit"):
            context.console.words(f"warning: {event.get('message')}")
        elif event.get("event") in ("waiting", "verified") and not isinstance(show, NoProgress):
            context.console.words(str(event.get("message")))
        show(event)

    return take


@contextmanager
def shown(context: Context) -> Iterator[Progress]:
    """The progress that flags and terminal ask for."""
    progress = _chosen(context)
    try:
        yield progress
    finally:
        progress.close()


def _chosen(context: Context) -> Progress:
    mode, console = context.options.progress, context.console
    if mode == "none" or (mode == "auto" and context.options.quiet):
        return NoProgress()
    if mode == "json":
        return JsonProgress(console)
    terminal = console.err.isatty() and context.environ.get("TERM") != "dumb"
    return PatientBars(console) if mode == "auto" and terminal else PlainProgress(console)


def summary(context: Context, done: Event) -> None:
    """The last small table on stderr: what was moved, what was there already, how fast."""
    if context.options.quiet or context.options.progress in ("none", "json"):
        return
    verb = "fetched" if "fetched" in done else "sent"
    for name in (verb, "held"):
        blobs = wording.counted(int(done.get(f"{name}_blobs") or 0), "blob")
        hosts = ", ".join(done.get("sources") or {}) if name == verb else ""
        origin = f" from {hosts}" if hosts else ""
        context.console.words(f"{name:<8}{wording.size(done.get(name) or 0):>10}  {blobs}{origin}")
    seconds = float(done.get("seconds") or 0)
    pace = wording.rate(int(done.get(verb) or 0), seconds)
    context.console.words(f"{'in':<8}{seconds:>8.1f} s  {pace}")


def _state_line(blob: BlobState) -> str:
    size = wording.size(blob.size)
    line = f"{wording.short(blob.digest)}  {blob.kind:<8}  {size:>10}  {blob.state}"
    told = blob.source and blob.state in ("fetching", "done")
    return f"{line} from {blob.source}" if told else line
