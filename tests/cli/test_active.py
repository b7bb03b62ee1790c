"""``cache active``: what is on its way, once and live."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registryd.cli.commands.cache_active import NOTHING, Screen, watch
from registryd.cli.console import Console
from registryd.cli.flights import Pace
from tests.cli.conftest import Outcome
from tests.cli.test_startup import HEAVY, modules
from tests.fakes.daemon import Answer, FakeDaemon

Run = Callable[..., Outcome]

DIGEST, OTHER = ("sha256:" + letter * 64 for letter in "ab")
MIB = 1 << 20
LINE = "aaaaaaaaaaaa up.test/a/b up.test 3.0 MiB 12.0 MiB 25% 1.0 MiB/s 2"


def flight(digest: str = DIGEST, **more: Any) -> dict[str, Any]:
    """A fetch that is a quarter done."""
    return {
        "digest": digest, "repository": "up.test/a/b", "source": "up.test", "offset": 3 * MIB,
        "total": 12 * MIB, "received": 3 * MIB, "seconds": 3.0, "waiters": 2, **more,
    }  # fmt: skip


def scripted(daemon: FakeDaemon, *flights: dict[str, Any]) -> None:
    """Let the daemon have these."""
    daemon.on("GET", "/api/v1/cache/active", Answer.of({"flights": flights}))


def words(line: str) -> str:
    """A line without what aligns it."""
    return " ".join(line.split())


def test_a_table(through: Run, daemon: FakeDaemon) -> None:
    """A row a fetch: how far, of how much, how fast, for how many; the nearest to its end first."""
    scripted(daemon, flight(OTHER, total=None), flight())

    head, first, second = through("cache", "active").out.splitlines()

    assert "FETCHING REPOSITORY SOURCE THERE OF DONE RATE READERS" == words(head)
    assert LINE == words(first)
    assert "bbbbbbbbbbbb up.test/a/b up.test 3.0 MiB - - 1.0 MiB/s 2" == words(second)


def test_nothing(through: Run, daemon: FakeDaemon) -> None:
    """Nothing on its way is no failure: it is said to people, and programs get an empty list."""
    scripted(daemon)

    said = through("cache", "active")

    assert (0, "", f"{NOTHING}\n") == (said.code, said.out, said.err)
    assert {"flights": []} == json.loads(through("cache", "active", "--format", "json").out)


def test_quiet_and_json(through: Run, daemon: FakeDaemon) -> None:
    """-q gives whole digests, JSON what the daemon said."""
    scripted(daemon, flight())

    assert f"{DIGEST}\n" == through("cache", "active", "-q").out
    assert {"flights": [flight()]} == json.loads(through("cache", "active", "--format=json").out)


def test_a_hostile_name_steers_no_terminal(through: Run, daemon: FakeDaemon) -> None:
    """What a registry calls itself is shown without its control characters."""
    scripted(daemon, flight(source="\x1b[2J"))

    assert "\x1b" not in through("cache", "active").out


def test_without_a_daemon_nothing_is_on_its_way(ctl: Run, tmp_path: Path) -> None:
    """A cache that no daemon works on has no fetches of others to show."""
    said = ctl("cache", "active", "--root", str(tmp_path / "root"))

    assert (0, "", f"{NOTHING}\n") == (said.code, said.out, said.err)


def test_a_rate_is_that_since_the_last_look() -> None:
    """The first look has the mean; later ones tell what came between; a new fetch begins anew."""
    pace = Pace()
    looks = [(3, 3.0), (11, 5.0), (11, 6.0), (1, 0.5)]
    rates = [
        pace.rows([flight(received=came * MIB, seconds=seconds)])[0][6] for came, seconds in looks
    ]

    assert ["1.0 MiB/s", "4.0 MiB/s", "0 B/s", "2.0 MiB/s"] == rates


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_watching_draws_in_place() -> None:
    """Each look goes over the one before, also when it is shorter; Ctrl-C is the proper end."""
    out = Terminal()
    looks = iter([{"flights": [flight(), flight(OTHER)]}, {"flights": []}])
    pauses = iter([None, KeyboardInterrupt])

    def pause() -> None:
        if next(pauses) is not None:
            raise KeyboardInterrupt

    screen = Screen(Console(out, io.StringIO(), io.StringIO()), lambda: (80, 24))
    watch(lambda: next(looks), screen, pause)

    first, second = out.getvalue().split("\x1b[3F")
    assert 3 == first.count("\x1b[K\n")
    assert f"{NOTHING}\x1b[K\n\x1b[J" == second


def test_a_narrow_and_low_terminal() -> None:
    """What would wrap or scroll is cut, so that the next look finds its place."""
    out = Terminal()
    screen = Screen(Console(out, io.StringIO(), io.StringIO()), lambda: (20, 3))
    screen({"flights": [flight(letter * 71) for letter in "abc"]})
    lines = out.getvalue().removesuffix("\x1b[J").splitlines()

    assert [19, 19] == [len(line.removesuffix("\x1b[K")) for line in lines]


@pytest.fixture
def watching(daemon: FakeDaemon, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that watches, with its lines as JSON."""
    scripted(daemon, flight())
    line = [sys.executable, "-m", "registryd.cli.main", "cache", "active", "--watch"]
    process = subprocess.Popen(
        [*line, "--format", "json", "--socket", str(daemon.socket)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2], env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_watching_as_json_lines(watching: subprocess.Popen[str], daemon: FakeDaemon) -> None:
    """A line of JSON a look, as it is now; Ctrl-C ends it with 0 and without a word."""
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())
    scripted(daemon)
    later = [json.loads(watching.stdout.readline()) for _ in range(2)]
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=30)

    assert ({"flights": [flight()]}, {"flights": []}) == (first, later[-1])
    assert (0, "") == (watching.returncode, said)


def test_it_is_thin(daemon: FakeDaemon) -> None:
    """A look imports nothing heavy."""
    scripted(daemon, flight())

    assert set() == modules("cache", "active", "--socket", str(daemon.socket)) & HEAVY
