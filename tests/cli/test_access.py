"""``access ls`` and ``access revoke``: what they ask a daemon for, and what they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ctl, Outcome
from tests.fakes.daemon import Answer, FakeDaemon

Run = Callable[..., Outcome]


def test_access_ls(through: Run, daemon: FakeDaemon) -> None:
    """Who was let in where, and until when; a login's name is as long as it takes to revoke it."""
    found = [
        {"repository": "ghcr.io/a/b", "principal": "uid:7", "expires": "2030-01-01T00:00:00+00:00"},
        {"repository": "ghcr.io/a/c", "principal": "login:" + "ab" * 32, "expires": "x"},
    ]
    daemon.on("GET", "/api/v1/access", Answer.of({"grants": found}))

    lines = through("access", "ls").out.splitlines()

    assert ["ghcr.io/a/b", "uid:7", "2030-01-01T00:00:00+00:00"] == lines[1].split()
    assert ["ghcr.io/a/c", "login:" + "ab" * 6, "x"] == lines[2].split()
    assert {"grants": found} == json.loads(through("access", "ls", "--format", "json").out)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("ghcr.io/a/b",), {"repository": "ghcr.io/a/b"}),
        (("--principal", "uid:7"), {"whose": "uid:7"}),
        (("ghcr.io/a/b", "--principal", "*"), {"repository": "ghcr.io/a/b", "whose": "*"}),
        (("--all",), {"everything": True}),
        ((), {}),
    ],
)
def test_access_revoke(
    through: Run, daemon: FakeDaemon, words: tuple[str, ...], asked: dict[str, Any]
) -> None:
    """What is given is asked for, and nothing is made up; each grant that is gone has a line."""
    gone = {"repository": "ghcr.io/a/b", "principal": "uid:7", "expires": "x"}
    daemon.on("POST", "/api/v1/access/revoke", Answer.of({"revoked": [gone]}))

    assert "Revoked: ghcr.io/a/b uid:7\n" == through("access", "revoke", *words).out
    assert asked == daemon.requests[-1].body


def test_without_a_daemon(ctl: Ctl, tmp_path: Path) -> None:
    """A cache of one's own can be looked at and cleared as well; by nothing given, nothing ends."""
    root = ("--root", str(tmp_path / "c"))

    assert "REPOSITORY  PRINCIPAL  EXPIRES\n" == ctl(*root, "access", "ls").out
    assert "" == ctl(*root, "access", "revoke", "alpine").out
    assert 64 == ctl(*root, "access", "revoke").code
