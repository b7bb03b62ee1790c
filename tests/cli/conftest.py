"""registryctl as a call: a command line, an environment, and what came out."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from registryd.cli.console import Console
from registryd.cli.main import program
from tests.fakes.daemon import FakeDaemon, fake_daemon


@dataclass(frozen=True)
class Outcome:
    """How a command line ended."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """stdout as text."""
        return self.raw.decode()

    @property
    def words(self) -> list[str]:
        """The lines of stderr."""
        return self.err.splitlines()


@dataclass(frozen=True)
class Ctl:
    """The program with a home of its own and an environment of the test's."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, typed: str = "") -> Outcome:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        code = program(
            words, Console(out, err, io.StringIO(typed)), {"HOME": str(self.home), **self.environ}
        )
        for stream in (out, err):
            stream.flush()
        return Outcome(code, out.buffer.getvalue(), err.buffer.getvalue().decode())


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    """A scripted daemon."""
    with fake_daemon(tmp_path / "d.sock") as running:
        yield running


@pytest.fixture
def ctl(tmp_path: Path) -> Ctl:
    """The program, which knows of no daemon."""
    home = tmp_path / "home"
    home.mkdir()
    nothing = {"CONTAINERS_REGISTRIES_CONF": "/dev/null"}  # of this machine's own
    return Ctl(home, {"XDG_RUNTIME_DIR": str(home / "run"), "NO_COLOR": "1", **nothing})


@pytest.fixture
def through(ctl: Ctl, daemon: FakeDaemon) -> Callable[..., Outcome]:
    """The program, pointed to the scripted daemon."""
    ctl.environ["REGISTRYD_SOCKET"] = str(daemon.socket)
    return ctl
