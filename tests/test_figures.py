"""What a bench prints is read back as it was measured."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.all import BENCHES
from bench.figures import page, plot, read, table
from bench.rig import Series, report
from tests.test_floors import ROOT

FLOATS = st.floats(1e-3, 1e6, allow_nan=False)


@given(ours=st.lists(FLOATS, min_size=1, max_size=5), goal=st.floats(0.01, 100))
def test_goals_are_read_back(ours: list[float], goal: float) -> None:
    """A ratio, its spread, its goal and whether it is met are what the bench has printed."""
    series = [
        Series("registryd", lambda: 0.0, ours),
        Series("peer", lambda: 0.0, [1.0] * len(ours)),
    ]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        report("Some title", series, [(0, 1, goal)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.md")
        path.write_text("how\n" + said.getvalue())
        (found,) = read("x", path).goals
    middle = sorted(ours)[len(ours) // 2] if len(ours) % 2 else None

    assert ("Some title", "registryd / peer", True) == (found.title, found.words, found.most)
    assert pytest.approx(max(ours), rel=0.01, abs=0.5) == found.values[2]
    assert middle is None or found.met == (middle <= goal)


def test_pages_of_figures(tmp_path: Path) -> None:
    """The page lists goals and what was not reached; the plot is drawn; README's table is short."""
    kept = tmp_path / "manifests.md"
    kept.write_text(
        "how it was run\n\n### A held manifest\n\n"
        "| registryd / docker-registry (goal at least 5: NOT met) | 3.51 x (3.5 to 1,204) |\n"
        "| peak (goal at most 250: met) | 70.5 MiB (70 to 71) |\n"
    )
    runs = [read("manifests", kept)]
    plot(runs, tmp_path / "x.png")
    text = page(runs)

    assert "| at least 5 x | 3.51 x (3.5 to 1,204) | **not reached** |" in text
    assert "| at most 250 MiB | 70.5 MiB (70 to 71) |  |" in text
    assert b"\x89PNG" == (tmp_path / "x.png").read_bytes()[:4]
    assert table(runs).startswith("| what | measured | goal |")


def test_every_bench_is_in_the_table() -> None:
    """``make bench`` runs each bench there is: what has a main and is no part of others."""
    parts = {"all", "bare", "far", "faulty", "plain", "sim"}
    found = {
        path.stem if path.parent.name == "bench" else path.parent.name
        for path in (*ROOT.glob("bench/*.py"), *ROOT.glob("bench/*/__main__.py"))
        if re.search(r"^if __name__ == .__main__.:", path.read_text(), re.MULTILINE)
    }

    assert set(BENCHES) == found - parts
