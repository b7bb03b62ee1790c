"""``limits``: what it asks a daemon for, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ctl, Outcome
from tests.fakes.daemon import Answer, FakeDaemon

Run = Callable[..., Outcome]
LIMITS = {"up": 0, "down": 2 << 20, "registries": {"ghcr.io": 125_000_000}}


def test_the_limits_are_shown(through: Run, daemon: FakeDaemon) -> None:
    """One line each; for programs, the exact numbers."""
    daemon.on("GET", "/api/v1/limits", Answer.of(LIMITS))

    lines = [line.split(maxsplit=1) for line in through("limits").out.splitlines()]

    assert [["up:", "no limit"], ["down:", "2.0 MiB/s"], ["from", "ghcr.io:  119 MiB/s"]] == lines
    assert json.loads(through("limits", "--format", "json").out) == LIMITS


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("--up", "1Gbit/s"), {"up": "1Gbit/s"}),
        (("--up", "0", "--down", "0"), {"up": "0", "down": "0"}),
        (
            ("--registry", "ghcr.io=1MB", "--registry", "quay.io=0"),
            {"registries": ["ghcr.io=1MB", "quay.io=0"]},
        ),
    ],
)
def test_what_is_named_is_changed(
    through: Run, daemon: FakeDaemon, words: tuple[str, ...], asked: dict[str, Any]
) -> None:
    """What is given is asked for, and nothing is made up; what holds then is shown."""
    daemon.on("POST", "/api/v1/limits", Answer.of(LIMITS))

    assert "down:" in through("limits", *words).out
    assert asked == daemon.requests[-1].body


def test_without_a_daemon(ctl: Ctl, tmp_path: Path) -> None:
    """A cache of one's own has the limits of its configuration, and nobody whose to change."""
    root = ("--root", str(tmp_path / "c"))
    refused = ctl(*root, "limits", "--up", "1MB")

    assert ["up: no limit", "down: no limit"] == [
        " ".join(line.split()) for line in ctl(*root, "limits").out.splitlines()
    ]
    assert (64, True) == (refused.code, "no daemon" in refused.err)
