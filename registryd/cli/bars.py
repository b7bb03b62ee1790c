"""Bars on a terminal, one for each blob under way and one for the whole; the one user of rich."""

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

from registryd.cli import wording
from registryd.cli.tally import MOVING, BlobState, Tally


class Bars:
    """Draws a Tally; what is settled has no bar of its own any more."""

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
        self._tasks: dict[str, TaskID] = {}
        self._whole = self._progress.add_task("all", total=None)
        self._progress.start()

    def draw(self, tally: Tally) -> None:
        """Show this state."""
        for blob in tally.blobs.values():
            self._draw_blob(blob)
        self._progress.update(self._whole, completed=tally.offset, total=tally.size or None)

    def close(self) -> None:
        """Take the bars off the screen."""
        self._progress.stop()

    def _draw_blob(self, blob: BlobState) -> None:
        task = self._tasks.get(blob.digest)
        if task is None:
            if blob.state not in MOVING:
                return
            words = f"{blob.kind} {wording.short(blob.digest)}"
            task = self._tasks[blob.digest] = self._progress.add_task(words, total=None)
        self._progress.update(
            task, completed=blob.offset, total=blob.size or None, visible=not blob.settled
        )
