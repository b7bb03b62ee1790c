"""``top``: the whole screen of a real terminal, and one look where there is none."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from registryd.cli.overview import Course, Speeds, facts, flight_rows, job_rows
from registryd.cli.top_screen import sparks
from tests.cli.conftest import Outcome
from tests.cli.test_active import DIGEST, MIB, OTHER, flight, words
from tests.cli.test_startup import HEAVY, modules
from tests.fakes.daemon import Answer, FakeDaemon

Run = Callable[..., Outcome]

COLUMNS = ["at", "cache", "passing", "registries", "nodes", "hits", "misses"]
SAMPLES = [[100.0, 0, 0, 0, 0, 0, 0], [110.0, 20 * MIB, 0, 10 * MIB, 0, 3, 1]]
LEAVES = "\x1b[?1049l"
#: Seconds for what a terminal shows, on a busy machine too.
LIMIT = 30.0


def look(*flights: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What the daemon says at one look."""
    return {
        "at": "2026-01-01T00:00:00+00:00", "viewer": "owner",
        "node": {"version": "1.2", "name": "n1", "uptime_seconds": 90.0},
        "cache": {"images": 2, "blobs": 7, "size": 40 * MIB, "used": 52 * MIB, "free": 900 * MIB,
                  "max_size": 100 * MIB, "high": 90 * MIB, "low": 80 * MIB, "min_free": 0},
        "flights": list(flights), "more_flights": 0,
        "now": SAMPLES[-1], "history": {"every": 10.0, "columns": COLUMNS, "samples": SAMPLES},
        "cluster": {"kind": "none", "me": "", "connected": True, "nodes": [], "more": 0,
                    "liars": []},
        "jobs": [], **more,
    }  # fmt: skip


def scripted(daemon: FakeDaemon, **said: Any) -> None:
    """Let the daemon say this."""
    daemon.on("GET", "/api/v1/overview", Answer.of(look(flight(), **said)))


@dataclass
class Screen:
    """A command on a terminal of its own."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = ""

    def until(self, text: str, since: int = 0) -> None:
        """Read until this has been shown."""
        ends = time.monotonic() + LIMIT
        while text not in self.shown[since:]:
            left = ends - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], self.shown
            self.shown += os.read(self.master, 65536).decode()

    def size(self, lines: int, columns: int) -> None:
        """Be another size from now on."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def screen(daemon: FakeDaemon, *flags: str) -> Iterator[Screen]:
    """``top`` on a terminal of 100 columns."""
    master, slave = pty.openpty()
    command = ["-m", "registryd.cli.main", "top", "--socket", str(daemon.socket), *flags]
    environ = {**os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environ.pop(name, None)
    before = termios.tcgetattr(slave)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 130, 0, 0))
    process = subprocess.Popen(
        [sys.executable, *command], stdin=slave, stdout=slave, stderr=slave, env=environ
    )
    try:
        yield Screen(process, master)
        assert before == termios.tcgetattr(slave)
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def test_a_terminal(daemon: FakeDaemon) -> None:
    """It draws, takes another size at once, says when the daemon is away; ``q`` puts all back."""
    hostile = flight(repository="up.test/\x1b[2Jb")
    daemon.on("GET", "/api/v1/overview", Answer.of(look(hostile)))
    with screen(daemon, "--interval", "0.2") as top:
        top.until("aaaaaaaaaaaa")
        top.until("up.test/?[2Jb")
        at = len(top.shown)
        top.size(30, 60)
        top.until("…", at)
        daemon.on("GET", "/api/v1/overview", Answer(b"", 500))
        top.until("no answer", at)
        os.write(top.master, b"q")
        top.until(LEAVES)

        assert 0 == top.process.wait(LIMIT)


def test_ctrl_c(daemon: FakeDaemon) -> None:
    """Ctrl-C is the proper end, while it waits long."""
    scripted(daemon)
    with screen(daemon, "--interval", "600") as top:
        top.until("aaaaaaaaaaaa")
        top.process.send_signal(signal.SIGINT)
        top.until(LEAVES)

        assert 0 == top.process.wait(LIMIT)


def test_one_look(through: Run, daemon: FakeDaemon) -> None:
    """Without a terminal facts and tables come once; JSON is what the daemon said."""
    standing = {"node": "n2", "state": "fetching", "bytes": 5 * MIB, "total": 20 * MIB, "error": ""}
    scripted(daemon, jobs=[{"id": "j1", "standings": [standing], "silent": ["n3"]}])

    said = through("top")
    lines = [words(line) for line in said.out.splitlines()]

    assert 0 == said.code
    assert "cache: 2 images, 7 blobs, 40.0 MiB" in lines
    assert "disk: 52.0 MiB of 100 MiB used (52%), content goes at 90.0 MiB, 900 MiB free" in lines
    assert "hit rate: 75% of 4 blobs" in lines
    assert "aaaaaaaaaaaa up.test/a/b up.test 3.0 MiB 12.0 MiB 25% 1.0 MiB/s 9 seconds" in lines
    assert "j1 n2 fetching 5.0 MiB 20.0 MiB 25%" in lines and "j1 n3 silent - - -" in lines
    assert look(flight())["cache"] == json.loads(through("top", "--format=json").out)["cache"]
    assert "rich" not in modules("top", "--once", "--socket", str(daemon.socket)) & HEAVY


@pytest.mark.parametrize("seconds", ["0", "-1", "a", "1e9"])
def test_intervals(through: Run, seconds: str) -> None:
    """What is no sensible time is refused."""
    assert 64 == through("top", f"--interval={seconds}").code


def test_a_hostile_daemon_steers_no_terminal(through: Run, daemon: FakeDaemon) -> None:
    """Control characters of names and errors are not written, and what lacks is left out."""
    hostile = flight(repository="a\x1b[2Jb", source="\x9b31m")
    daemon.on("GET", "/api/v1/overview", Answer.of({"flights": [hostile]}))

    said = through("top", "--once")

    assert (0, False) == (said.code, any(letter in said.out for letter in "\x1b\x9b"))


def test_speeds_and_courses() -> None:
    """A speed follows what came since the last look; a daemon that began anew begins anew here."""
    speeds, course = Speeds(), Course()
    first = speeds.take([flight()])
    second = speeds.take([flight(offset=11 * MIB, seconds=5.0), flight(OTHER)])
    now = course.take(look())
    later = {"columns": COLUMNS, "samples": [[120.0, 1, 0, 0, 0, 0, 0]]}
    again = course.take({"now": [121.0, 5, 0, 0, 0, 0, 0], "history": later})

    assert ({DIGEST: MIB}, MIB * 0.6 + 4 * MIB * 0.4) == (first, second[DIGEST])
    assert (20 * MIB, 120.0, 4) == (now["cache"], course.newest, course.sums(again)["cache"])
    assert "at most 3.0 MiB/s" in sparks(Course([]).rates(now, 5) or [MIB, 3.0 * MIB])
    assert [] == flight_rows([], {}) == job_rows([])
    assert "no blob was asked for" in dict(facts({}, {}))["hit rate"]
