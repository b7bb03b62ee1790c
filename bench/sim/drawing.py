"""The picture: time to the last node and upstream's bytes, as multiples of what they could be.

It is drawn by matplotlib, which is imported only then (the extra ``plot`` of the project).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.sim.model import Result

LINES = (("last node", "#c0392b"), ("half of the nodes", "#2c7fb8"), ("upstream bytes", "#31a354"))
#: The goal for the last node, drawn as a line.
GOAL = 1.25


def figures(result: Result) -> tuple[float, float, float]:
    """The three figures of a storm, in the order of LINES."""
    settings = result.settings
    floor = settings.floor
    return result.last / floor, result.at(0.5) / floor, result.upstream_bytes / settings.size


def draw(results: Sequence[Result], out: Path) -> None:
    """Write the picture to a file, in the form that its suffix says (.png)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    sizes = [result.settings.nodes for result in results]
    for place, (name, colour) in enumerate(LINES):
        axes.plot(sizes, [figures(r)[place] for r in results], "o-", label=name, color=colour)
    axes.axhline(1.0, color="#888", linewidth=0.8)
    axes.axhline(GOAL, linestyle="--", color="#bbb", label=f"goal for the last node: {GOAL}")
    axes.set(
        xscale="log",
        xlabel="nodes that fetch the same blob at once",
        ylabel="multiples of the least possible",
        ylim=(0, None),
        title="Time and upstream bytes against the fluid floor (simulated)",
    )
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.legend(loc="lower right")
    figure.savefig(out, dpi=120)
    pyplot.close(figure)
