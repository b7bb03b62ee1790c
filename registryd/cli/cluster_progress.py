"""How a job of many nodes shows on stderr while it is waited for.

Invariants:
- rich is imported by bars only, and only once something still runs after a moment;
- plain says each node when it is done or has failed, and all together every ten seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from registryd.cli.backend import Event
from registryd.cli.cluster_tally import SETTLED, ClusterTally, settled_line
from registryd.cli.command import Context
from registryd.cli.console import Console
from registryd.cli.progress import PATIENCE, RATE_EVERY, JsonProgress, NoProgress, Progress

if TYPE_CHECKING:
    from registryd.cli.cluster_bars import ClusterBars

Clock = Callable[[], float]


class PlainCluster:
    """A line for each node that has settled, and now and then one for all."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._tally = ClusterTally()
        self._told = clock()

    def __call__(self, event: Event) -> None:
        """One event."""
        if event.get("event") == "resolved":
            self._console.words(f"{event.get('reference')} is {event.get('digest')}")
        changed = self._tally.take(event)
        if changed is not None and changed.get("state") in SETTLED:
            self._console.words(settled_line(changed))
        if event.get("event") == "cluster" and self._clock() - self._told >= RATE_EVERY:
            self._console.words(self._tally.line())
            self._told = self._clock()

    def close(self) -> None:
        """Nothing was opened."""


class PatientCluster:
    """Bars, but only for a job that takes longer than a moment."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._started = clock()
        self._tally = ClusterTally()
        self._bars: ClusterBars | None = None

    def __call__(self, event: Event) -> None:
        """One event."""
        self._tally.take(event)
        if self._bars is None and self._tally.nodes and self._clock() - self._started >= PATIENCE:
            from registryd.cli.cluster_bars import ClusterBars

            self._bars = ClusterBars(self._console.err)
        if self._bars is not None:
            self._bars.draw(self._tally)

    def close(self) -> None:
        """Take the bars away."""
        if self._bars is not None:
            self._bars.close()


@contextmanager
def cluster_shown(context: Context) -> Iterator[Progress]:
    """The progress of a job that flags and terminal ask for."""
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
    return PatientCluster(console) if mode == "auto" and terminal else PlainCluster(console)
