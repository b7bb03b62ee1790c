"""The picture: time to the last node and upstream's bytes, as multiples of what they could be.

An .svg is written by hand; anything else (.png) by matplotlib, which is imported only then: it is
no dependency of the project (``pip install matplotlib``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from bench.sim.model import Result

WIDTH, HEIGHT, EDGE = 640, 400, 60
LINES = (("last node", "#c0392b"), ("half of the nodes", "#2c7fb8"), ("upstream bytes", "#31a354"))
#: The goal for the last node, drawn as a line.
GOAL = 1.25


def figures(result: Result) -> tuple[float, float, float]:
    """The three figures of a storm, in the order of LINES."""
    settings = result.settings
    floor = settings.floor
    return result.last / floor, result.at(0.5) / floor, result.upstream_bytes / settings.size


def draw(results: Sequence[Result], out: Path) -> None:
    """Write the picture to a file, in the form that its suffix says."""
    if out.suffix == ".svg":
        out.write_text(svg(results))
    else:
        _plot(results, out)


def svg(results: Sequence[Result]) -> str:
    """The picture as SVG: nodes to the right (logarithmic), multiples of the floor upwards."""
    sizes = [result.settings.nodes for result in results]
    top = max([1.5, *(max(figures(result)) for result in results)]) * 1.05
    least, most = math.log10(min(sizes)), math.log10(max(sizes))

    def across(nodes: int) -> float:
        return EDGE + (WIDTH - 2 * EDGE) * (math.log10(nodes) - least) / ((most - least) or 1)

    def up(value: float) -> float:
        return HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * value / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">',
        "<style>text { font: 12px sans-serif }</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 20, "Multiples of the floor, by the number of nodes (simulated)"),
    ]
    for value in (0.0, 0.5, 1.0, GOAL, 1.5, 2.0, 3.0, 5.0):
        if value < top:
            dash = ' stroke-dasharray="4 4"' if value == GOAL else ""
            parts.append(
                f'<path d="M{EDGE} {up(value):.1f}H{WIDTH - EDGE}" stroke="#bbb"{dash}/>'
                + _text(EDGE - 20, up(value) + 4, f"{value:g}")
            )
    parts += [_text(across(nodes), HEIGHT - EDGE + 20, f"{nodes:,}") for nodes in sizes]
    for place, (name, colour) in enumerate(LINES):
        points = [(across(r.settings.nodes), up(figures(r)[place])) for r in results]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(EDGE + 90 + place * 170, HEIGHT - 12, name, colour))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, words: str, colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" fill="{colour}">{words}</text>'


def _plot(results: Sequence[Result], out: Path) -> None:
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(8, 5))
    sizes = [result.settings.nodes for result in results]
    for place, (name, colour) in enumerate(LINES):
        axes.plot(sizes, [figures(r)[place] for r in results], "o-", label=name, color=colour)
    axes.axhline(GOAL, linestyle="--", color="#bbb")
    axes.set(xscale="log", xlabel="nodes", ylabel="multiples of the floor", ylim=(0, None))
    axes.legend()
    pyplot.savefig(out, dpi=120)
