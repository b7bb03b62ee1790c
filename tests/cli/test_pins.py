"""``cache pin``, ``unpin`` and ``pins``: what they ask a daemon for, and what they say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cli.conftest import Ctl, Outcome
from tests.cli.test_copy import DIGEST
from tests.fakes.daemon import Answer, FakeDaemon

Run = Callable[..., Outcome]
PIN = {"name": "job:1", "owner": "root", "reference": "a.io/b:1", "digest": DIGEST}


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("a.io/b",), {"reference": "a.io/b:latest"}),
        (
            ("a.io/b:1", "--for", "2h", "--as", "job:1"),
            {"reference": "a.io/b:1", "lasting": "2h", "name": "job:1"},
        ),
    ],
)
def test_cache_pin(
    through: Run, daemon: FakeDaemon, words: tuple[str, ...], asked: dict[str, str]
) -> None:
    """What is given is asked for; stdout is the digest; what is not here yet has a word."""
    daemon.on("POST", "/api/v1/cache/pin", Answer.of({**PIN, "held": False}))
    outcome = through("cache", "pin", *words)

    assert f"{DIGEST}\n" == outcome.out
    assert "not here yet" in outcome.err
    assert asked == daemon.requests[-1].body


def test_cache_unpin_and_pins(through: Run, daemon: FakeDaemon) -> None:
    """A pin ends by its image or by its name; the list has each with its end."""
    daemon.on("POST", "/api/v1/cache/unpin", Answer.of({"unpinned": [PIN]}))
    daemon.on("GET", "/api/v1/cache/pins", Answer.of({"pins": [{**PIN, "expires": None}]}))

    assert f"Unpinned: a.io/b:1 {DIGEST}\n" == through("cache", "unpin", "a.io/b:1").out
    assert {"reference": "a.io/b:1"} == daemon.requests[-1].body
    through("cache", "unpin", "--as", "job:1")
    assert {"name": "job:1"} == daemon.requests[-1].body
    row = through("cache", "pins").out.splitlines()[1].split()
    assert ["job:1", "root", "a.io/b:1", "never"] == [*row[:3], row[-1]]


def test_one_of_the_two(ctl: Ctl) -> None:
    """An image and a name at once, or neither, is wrong usage."""
    assert 64 == ctl("cache", "unpin").code
    assert 64 == ctl("cache", "unpin", "a.io/b", "--as", "x").code
