"""The pages of docs/: made by what they tell of, whole, and with no link that leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import api_page, dashboard, errors_page
from scripts.error_cures import CURES
from tests.real.runtimes import need
from tests.test_floors import ROOT

DOCS = ROOT / "docs"
MONITORING = DOCS / "monitoring"
_METRIC = re.compile(r"\bregistryd_[a-z_]+")
#: What Prometheus adds to a family's name.
_ENDINGS = re.compile(r"_(total|bucket|sum|count)$")


@pytest.mark.parametrize(
    ("path", "made"),
    [
        (errors_page.PAGE, errors_page.page),
        (api_page.PAGE, api_page.page),
        (dashboard.PAGE, dashboard.text),
    ],
    ids=["errors", "api", "dashboard"],
)
def test_pages_are_in_step(path: Path, made: Callable[[], str]) -> None:
    """A page that is written by a program is what the program writes now (python -m scripts.X)."""
    assert made() == path.read_text()


def test_every_error_has_its_cure() -> None:
    """What one does about an error stands in scripts/error_cures.py, and for no other."""
    assert sorted(CURES) == [each.__name__ for each in errors_page.errors()]


def _families(text: str) -> set[str]:
    return {_ENDINGS.sub("", name) for name in _METRIC.findall(text)}


def _known() -> set[str]:
    sources = sorted((ROOT / "registryd/server").glob("metric*.py"))
    found = re.findall(r'"(registryd_[a-z_]+)"', "".join(each.read_text() for each in sources))
    return set(found)


def test_every_metric_is_told() -> None:
    """docs/metrics.md has each metric of the daemon, and none that it has not."""
    assert _known() == _families((DOCS / "metrics.md").read_text())


def test_dashboard_and_rules_ask_for_what_there_is() -> None:
    """What Grafana and Prometheus are told to look at are metrics of the daemon."""
    asked = " ".join(dashboard.expressions()) + (MONITORING / "alerts.yml").read_text()

    assert set() == _families(asked) - _known()


def test_prometheus_takes_rules_and_expressions(tmp_path: Path) -> None:
    """promtool understands every expression, and each rule fires when it should and not before."""
    need("promtool")
    rules = "".join(
        f"      - {{record: 'a:b{at}', expr: {each!r}}}\n"
        for at, each in enumerate(dashboard.expressions())
    )
    (tmp_path / "all.yml").write_text(f"groups:\n  - name: all\n    rules:\n{rules}")
    for words in (
        ["check", "rules", str(tmp_path / "all.yml")],
        ["test", "rules", "alerts_test.yml"],
    ):
        done = subprocess.run(
            ["promtool", *words], cwd=MONITORING, capture_output=True, text=True, timeout=60
        )

        assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_tests_that_are_named_are_there(path: Path) -> None:
    """A page that says what proves it names tests that exist."""
    named = re.findall(r"`((?:tests/)?[a-z_/]*test_\w+\.py|tests/[a-z_/]+)`", path.read_text())
    places = [ROOT if each.startswith("tests/") else ROOT / "tests/real" for each in named]

    assert [] == [
        each for place, each in zip(places, named, strict=True) if not (place / each).exists()
    ]


def test_site_has_no_broken_link(tmp_path: Path) -> None:
    """The pages become a site without one warning: links, anchors, pages that nothing leads to."""
    words = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    done = subprocess.run(
        [*words, "-c", "docs", "-d", str(tmp_path / "trees"), ".", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert (0, "") == (done.returncode, done.stderr)
    assert (tmp_path / "site/README.html").is_file()
