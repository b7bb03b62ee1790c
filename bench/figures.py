"""What benches have printed, read back: goals as a table and a plot, everything as a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.reasons import HEADLINES, REASONS
from bench.rig import short

_GOAL: Final = re.compile(
    r"^\| (?P<words>.+)"
    r" \(goal (?P<bound>at most|at least) (?P<goal>\S+): (?P<met>met|NOT met)\)"
    r" \| (?P<middle>\S+) (?P<unit>\S*) ?\((?P<low>\S+) to (?P<high>\S+)\) \|$"
)
HEAD: Final = """\
# How fast it is

Written by `python -m bench.all` (`make bench`): every figure is of one run on 2 cores of a shared
virtual machine, over loopback, against other programs on the same bytes, in turn. A figure is the
median of its rounds, with the least and the most in brackets. Other machines give other numbers:
run it on yours.

![Each goal, and what was measured: 1 is the goal](figures.png)

## Goals

| bench | what | goal | measured | |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Goal:
    """One row with a goal: the median, least and most of what was measured."""

    bench: str
    title: str
    words: str
    most: bool
    goal: float
    met: bool
    values: tuple[float, float, float]
    unit: str

    @property
    def what(self) -> str:
        """What was measured, with the table that it stands in."""
        return f"{self.title}: {self.words}" if self.title else self.words

    @property
    def bound(self) -> str:
        """The goal in words."""
        return f"at {'most' if self.most else 'least'} {self.goal:g} {self.unit}".rstrip()

    @property
    def measured(self) -> str:
        """What was measured in words."""
        middle, low, high = map(short, self.values)
        return f"{middle} {self.unit} ({low} to {high})".replace("  ", " ")

    @property
    def reason(self) -> str:
        """Why it was not reached, as far as a profiler has told ("": it is not written down)."""
        found = (text for (bench, words), text in REASONS.items() if self.names(bench, words))
        return next(found, "")

    def names(self, bench: str, words: str) -> bool:
        """Whether these words, of that bench, mean this goal."""
        return bench == self.bench and words in f"{self.title} {self.words}"


@dataclass(frozen=True)
class Run:
    """What one bench has printed: how it was run, its text, and the goals in it."""

    bench: str
    how: str
    text: str
    goals: Sequence[Goal]


def read(bench: str, path: Path) -> Run:
    """What was kept of a bench."""
    how, _, text = path.read_text().partition("\n")
    return Run(bench, how, text.strip(), list(_goals(bench, text)))


def _goals(bench: str, text: str) -> Iterator[Goal]:
    title = ""
    for line in text.splitlines():
        if line.startswith("### "):
            title = line.removeprefix("### ")
        elif found := _GOAL.match(line):
            low, middle, high = (_number(found[key]) for key in ("low", "middle", "high"))
            yield Goal(
                bench, title, found["words"], found["bound"] == "at most", _number(found["goal"]),
                found["met"] == "met", (middle, low, high), found["unit"],
            )  # fmt: skip


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def page(runs: Sequence[Run]) -> str:
    """The page of all figures."""
    goals = [goal for run in runs for goal in run.goals]
    parts = [HEAD]
    parts += [
        f"| {each.bench} | {each.what} | {each.bound} | {each.measured} |"
        f" {'' if each.met else '**not reached**'} |\n"
        for each in goals
    ]
    if missed := [each for each in goals if not each.met]:
        parts.append("\n## Not reached, and why\n\n")
        parts += [f"- *{e.what}* ({e.measured}): {e.reason or _UNKNOWN}\n" for e in missed]
    parts.append("\n## All that was measured\n")
    parts += [f"\n## {run.bench}\n\n{run.how}\n\n{run.text}\n" for run in runs]
    return "".join(parts)


_UNKNOWN: Final = "the reason is not known yet."


def table(runs: Sequence[Run]) -> str:
    """README's table: the goals that matter most to a reader."""
    goals = [goal for run in runs for goal in run.goals]
    rows = []
    for (bench, words), said in HEADLINES.items():
        for each in goals:
            if each.names(bench, words):
                met = "" if each.met else " (not reached)"
                rows.append(f"| {said} | {each.measured} | {each.bound}{met} |\n")
                break
    return "| what | measured | goal |\n|---|---|---|\n" + "".join(rows)


def plot(runs: Sequence[Run], path: Path) -> None:
    """Each goal as a line from least to most, the median as a point; 1 is the goal."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    goals = [each for run in runs for each in run.goals if each.goal and min(each.values) > 0]
    figure, axes = pyplot.subplots(figsize=(10, 0.32 * len(goals) + 1.4), layout="constrained")
    for at, each in enumerate(reversed(goals)):
        middle, low, high = (
            value / each.goal if each.most else each.goal / value for value in each.values
        )
        colour = "#1f6f43" if each.met else "#b3401f"
        axes.plot([low, high], [at, at], color=colour, linewidth=3, alpha=0.5)
        axes.plot([middle], [at], "o" if each.met else "s", color=colour, markersize=6)
    axes.axvline(1, color="#444444", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(goals)))
    axes.set_yticklabels([_label(each) for each in reversed(goals)], fontsize=8)
    axes.set_xlabel("measured over goal (less is better; square: not reached)")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _label(each: Goal) -> str:
    text = f"{each.bench}: {each.what}"
    return text if len(text) <= 84 else f"{text[:83]}\N{HORIZONTAL ELLIPSIS}"
