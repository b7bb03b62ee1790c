"""Flags that hold for every command, and the words of other tools for them."""

from __future__ import annotations

import argparse
import signal
import socket
import time
from pathlib import Path

import pytest

from registryd.cli.arguments import DEFAULTS, spelled_out
from registryd.cli.command import Context
from registryd.cli.main import parsed
from registryd.cli.settings import settings
from tests.cli.conftest import Ctl


def options(*words: str) -> argparse.Namespace:
    """What the flags of a command line become."""
    found = argparse.Namespace(**DEFAULTS)
    parsed(spelled_out(words), found)
    return found


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (("tags", "a", "--insecure"), "tls_verify", False),
        (("pull", "a", "--debug"), "verbose", True),
        (("pull", "a", "--no-tty"), "progress", "plain"),
        (("copy", "a", "b", "--no-tty"), "progress", "plain"),
        (("digest", "a", "--registry-config", "f"), "authfile", "f"),
        (("delete", "a", "--retry-times", "0"), "retry_times", 0),
        (("images", "--command-timeout", "1m30s"), "command_timeout", 90.0),
        (
            ("--override-arch", "arm64", "--override-os=linux", "inspect", "a"),
            "platform",
            "linux/arm64",
        ),
        (
            ("copy", "--override-arch", "arm64", "--override-os=linux", "a", "b"),
            "platform",
            "linux/arm64",
        ),
        (("copy", "a", "b", "--insecure-policy", "--tmpdir", "t"), "platform", None),
        (("--insecure-policy", "copy", "a", "b"), "platform", None),
        (("--override-arch", "s390x", "pull", "a", "--platform", "arm64"), "platform", "arm64"),
        (("--command-timeout", "5", "images"), "command_timeout", 5.0),
    ],
)
def test_words(words: tuple[str, ...], name: str, value: object) -> None:
    """They mean what they mean there."""
    assert getattr(options(*words), name) == value


def test_flags_reach_the_configuration(ctl: Ctl, tmp_path: Path) -> None:
    """Retries are one less than tries; an authority is one file."""
    from registryd.cli.console import Console

    words = ("tags", "ghcr.io/a/b", "--retry-times", "2", "--ca-file", str(tmp_path / "ca.pem"))
    console = Console(None, None, None)  # type: ignore[arg-type]
    context = Context(options(*words), console, ctl.environ, ctl.home)

    config = settings(context, registries=("ghcr.io",))

    assert config.transfer.attempts == 3
    assert config.registries["ghcr.io"].ca_file == tmp_path / "ca.pem"


def test_a_command_that_takes_too_long_is_ended(ctl: Ctl) -> None:
    """As by Ctrl-C, but with a line and exit code 6; the clock is put back."""
    before = signal.getsignal(signal.SIGALRM)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        name = f"127.0.0.1:{silent.getsockname()[1]}/a/b"
        began = time.monotonic()

        outcome = ctl("tags", name, "--plain-http", "--command-timeout", "200ms")

        assert time.monotonic() - began < 10
    assert (outcome.code, len(outcome.words)) == (6, 1)
    assert "not done after 0.2 seconds" in outcome.err
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert ctl("version", "--command-timeout", "soon").code == 64
