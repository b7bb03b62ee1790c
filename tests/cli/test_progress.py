"""Progress: what events amount to, and how each form shows them."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from registryd.cli import progress
from registryd.cli.arguments import DEFAULTS
from registryd.cli.command import Context
from registryd.cli.console import Console
from registryd.cli.tally import Tally

LAYER = "sha256:" + "1" * 64


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


class Clock:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def blob(state: str, size: int = 1024) -> dict[str, object]:
    """A layer in this state."""
    event = {"event": "blob", "digest": LAYER, "size": size, "kind": "layer", "state": state}
    return {**event, "source": "mirror"} if state == "fetching" else event


def moved(offset: int, total: int = 1024) -> dict[str, object]:
    """A layer that has come this far."""
    return {"event": "progress", "digest": LAYER, "offset": offset, "total": total}


def context(err: io.StringIO, **options: object) -> Context:
    """What a command has, with these options."""
    namespace = argparse.Namespace(**{**DEFAULTS, **options})
    return Context(namespace, Console(io.StringIO(), err, io.StringIO()), {}, Path("/"))


def test_tally_follows_a_blob() -> None:
    """Sizes, offsets and what is left come from events alone."""
    tally = Tally()

    for event in (blob("waiting"), blob("fetching"), moved(100), moved(300)):
        tally.take(event)
    assert (tally.offset, tally.size, tally.left, tally.moved) == (300, 1024, 1, 200)

    tally.take(blob("done"))
    assert (tally.offset, tally.left) == (1024, 0)


@pytest.mark.parametrize(
    "event", [{}, {"event": "blob"}, {"event": "later"}, {"event": "done", "digest": LAYER}]
)
def test_tally_ignores_what_it_does_not_know(event: dict[str, object]) -> None:
    """A newer daemon's events change nothing."""
    tally = Tally()

    assert tally.take(event) is None
    assert tally.blobs == {}


def test_plain_says_each_state_once() -> None:
    """A line for a change of state, none for a repetition or for progress."""
    err = io.StringIO()
    show = progress.PlainProgress(Console(io.StringIO(), err, io.StringIO()), Clock())

    show({"event": "resolved", "reference": "r", "digest": LAYER})
    for event in (blob("fetching"), blob("fetching"), moved(5), moved(9), blob("done")):
        show(event)

    assert err.getvalue().splitlines() == [
        f"r is {LAYER}",
        "111111111111  layer        1.0 KiB  fetching from mirror",
        "111111111111  layer        1.0 KiB  done from mirror",
    ]


def test_plain_tells_the_rate_every_ten_seconds() -> None:
    """Not after 9.9 s, and from then on of what moved since the last time."""
    err, clock = io.StringIO(), Clock()
    show = progress.PlainProgress(Console(io.StringIO(), err, io.StringIO()), clock)
    size = 100 * 1024

    show(blob("fetching", size))
    show(moved(10 * 1024, size))
    clock.now = 9.9
    show(moved(30 * 1024, size))
    clock.now = 10.0
    show(moved(30 * 1024, size))
    clock.now = 20.0
    show(moved(80 * 1024, size))

    assert err.getvalue().splitlines()[1:] == [
        "30.0 KiB of 100 KiB, 2.0 KiB/s, 1 blob to go",
        "80.0 KiB of 100 KiB, 5.0 KiB/s, 1 blob to go",
    ]


def test_json_gives_the_events() -> None:
    """A line of JSON an event, unknown ones too."""
    err = io.StringIO()
    with progress.shown(context(err, progress="json")) as show:
        show({"event": "later", "x": 1})
        show(moved(1))

    assert [json.loads(line) for line in err.getvalue().splitlines()] == [
        {"event": "later", "x": 1},
        moved(1),
    ]


@pytest.mark.parametrize(
    ("err", "options", "kind"),
    [
        (io.StringIO(), {}, progress.PlainProgress),
        (Terminal(), {}, progress.PatientBars),
        (Terminal(), {"progress": "plain"}, progress.PlainProgress),
        (Terminal(), {"progress": "json"}, progress.JsonProgress),
        (Terminal(), {"progress": "none"}, progress.NoProgress),
        (Terminal(), {"quiet": True}, progress.NoProgress),
        (io.StringIO(), {"quiet": True, "progress": "plain"}, progress.PlainProgress),
    ],
)
def test_the_form_follows_flags_and_terminal(
    err: io.StringIO, options: dict[str, object], kind: type
) -> None:
    """auto draws bars on a terminal and lines elsewhere; quiet is quiet unless a form is named."""
    with progress.shown(context(err, **options)) as show:
        assert type(show) is kind


def test_bars_have_patience() -> None:
    """What is over at once draws nothing; what still runs after a moment does."""
    err, clock = Terminal(), Clock()
    bars = progress.PatientBars(Console(io.StringIO(), err, io.StringIO()), clock)

    bars(blob("fetching"))
    assert err.getvalue() == ""

    clock.now = progress.PATIENCE
    bars(moved(512))
    bars.close()
    assert "layer 111111111111" in err.getvalue()


def test_bars_of_finished_work_draw_nothing() -> None:
    """After the moment, but with nothing left: no bars."""
    err, clock = Terminal(), Clock()
    bars = progress.PatientBars(Console(io.StringIO(), err, io.StringIO()), clock)

    clock.now = 1.0
    bars(blob("held"))
    bars.close()

    assert err.getvalue() == ""


def test_only_bars_import_rich() -> None:
    """The module of progress, and plain progress, do without it."""
    code = (
        "import sys, io; from registryd.cli.console import Console\n"
        "from registryd.cli.progress import PlainProgress\n"
        "PlainProgress(Console(sys.stdout, sys.stderr, sys.stdin))({'event': 'resolved'})\n"
        "sys.exit('rich' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_summary_counts_moved_and_held() -> None:
    """The last words: what came, what was here, how fast."""
    err = io.StringIO()
    done = {"fetched": 2048, "fetched_blobs": 2, "held": 1024, "held_blobs": 1, "seconds": 2.0}

    progress.summary(context(err), done)

    assert err.getvalue().splitlines() == [
        "fetched    2.0 KiB  2 blobs",
        "held       1.0 KiB  1 blob",
        "in           2.0 s  1.0 KiB/s",
    ]


@pytest.mark.parametrize("options", [{"quiet": True}, {"progress": "json"}, {"progress": "none"}])
def test_no_summary_where_words_are_not_wanted(options: dict[str, object]) -> None:
    """-q, json and none leave stderr alone."""
    err = io.StringIO()

    progress.summary(context(err, **options), {"fetched": 1})

    assert err.getvalue() == ""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, True),
        ({"quiet": True}, True),
        ({"progress": "none"}, True),
        ({"progress": "json"}, False),
    ],
)
def test_warnings_are_told_to_everybody(options: dict[str, object], told: bool) -> None:
    """A warning is one line, also for those who want no progress; as JSON it is an event."""
    err, event = io.StringIO(), {"event": "warning", "message": "old\x1b news"}
    chosen = context(err, **options)
    with progress.shown(chosen) as show:
        progress.warned(chosen, show)(event)

    line = "warning: old? news" if told else json.dumps(event, separators=(",", ":"))
    assert f"{line}\n" == err.getvalue()
