"""Bars of a job on a terminal: one for the cluster, and one for each of its slowest nodes."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console as Terminal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from registryd.cli.cluster_tally import SHOWN, ClusterTally
from registryd.cli.errors import printable


class ClusterBars:
    """Draws a ClusterTally."""

    def __init__(self, stream: TextIO) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Terminal(file=stream),
            transient=True,
        )
        self._whole = self._progress.add_task("cluster", total=None)
        self._lines: list[TaskID] = [
            self._progress.add_task("", total=None, visible=False) for _ in range(SHOWN)
        ]
        self._progress.start()

    def draw(self, tally: ClusterTally) -> None:
        """Show this state."""
        done, count = tally.whole.get("done") or 0, tally.whole.get("nodes") or len(tally.nodes)
        self._progress.update(
            self._whole,
            description=f"{done} of {count} nodes",
            completed=tally.offset,
            total=tally.size or None,
        )
        slowest = [*tally.slowest(), *[None] * SHOWN]
        for line, node in zip(self._lines, slowest, strict=False):
            if node is None:
                self._progress.update(line, visible=False)
                continue
            self._progress.update(
                line,
                visible=True,
                description=printable(str(node.get("node"))),
                completed=int(node.get("bytes") or 0),
                total=int(node.get("total") or 0) or None,
            )

    def close(self) -> None:
        """Take the bars off the screen."""
        self._progress.stop()
