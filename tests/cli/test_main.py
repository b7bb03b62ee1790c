"""The frame: finding the command, shared flags, exit codes and words."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from cache.errors import DigestMismatch, Fault
from registryd import __version__
from registryd.cli.arguments import spelled_out
from registryd.cli.command import ALIASES, COMMANDS, load
from registryd.cli.console import Console
from registryd.cli.errors import DaemonRefused, Partly, ending
from registryd.cli.main import program
from registryd.oci.errors import ManifestUnknown, RateLimited, ReferenceInvalid, Unauthorized
from registryd.ports import TransportError
from tests.cli.conftest import Ctl, Outcome
from tests.fakes.daemon import Answer, FakeDaemon


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Fault("x"), 1),
        (ManifestUnknown("x"), 2),
        (Unauthorized("x"), 3),
        (RateLimited("x"), 4),
        (DigestMismatch("x"), 5),
        (TransportError("x"), 6),
        (Partly("x"), 7),
        (ReferenceInvalid("x"), 64),
        (DaemonRefused("x", ends_with=4), 4),
        (BaseExceptionGroup("g", [ExceptionGroup("h", [ManifestUnknown("x")])]), 2),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    """Each fault ends with its own code, and its line is its text; groups end as what is in."""
    assert ending(error) == (code, "x")


def test_an_unexpected_error_in_a_group_comes_first() -> None:
    """A fault beside a defect does not hide the defect."""
    code, line = ending(ExceptionGroup("g", [ManifestUnknown("x"), KeyError("k")]))

    assert code == 1
    assert line.startswith("unexpected KeyError: 'k'")


def test_interrupts_and_broken_pipes_have_the_shells_codes() -> None:
    """130 with a word, 141 without."""
    assert ending(KeyboardInterrupt()) == (130, "interrupted")
    assert ending(BrokenPipeError()) == (141, "")


def test_a_line_stays_one_line() -> None:
    """Line breaks and escape sequences from outside do not reach the terminal."""
    assert ending(Fault("a\n  b\x1b[31m\x9b c"))[1] == "a b?[31m? c"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "no command (see registryctl --help)"),
        (("dance",), "there is no command 'dance'"),
        (("cache",), "cache needs one of its commands: cache df"),
        (("cache", "dance"), "cache needs one of its commands: cache df"),
        (("--dance", "images"), "unrecognized arguments: --dance"),
        (("images", "--dance"), "unrecognized arguments: --dance"),
        (("images", "--form", "json"), "unrecognized arguments: --form"),
        (("tags", "a", "--format", "xml"), "invalid choice: 'xml'"),
        (("images", "--format", "xml"), "xml is neither json nor a template"),
        (("tag", "a"), "arguments are required: NEW-NAME"),
        (("pull", "a", "--tls-verify=perhaps"), "neither true nor false"),
        (("pull", "a", "-j", "0"), "not a number from 1 up"),
        (("pull", "a", "--creds", "x", "--no-creds"), "not allowed with argument"),
        (("pull", "A/b:::"), "registryctl: "),
        (("pull", "a", "b", "-o", "dir:x"), "--output takes one image"),
        (("pull", "a", "-o", "b"), "is not a file form"),
        (("push", "oci:dir"), "a file has no name in a registry"),
        (("images", "--root", "x", "--socket", "y"), "give one of the two"),
        (("tags", "alpine:3.20"), "(use docker.io/library/alpine)"),
        (("login", "not a host"), "is not a registry"),
        (("login", "ghcr.io", "--password-stdin"), "needs --username"),
    ],
)
def test_wrong_usage_ends_64_with_one_line(ctl: Ctl, words: tuple[str, ...], line: str) -> None:
    """Usage errors of the parser and of commands look alike."""
    outcome = ctl(*words)

    assert (outcome.code, outcome.out, len(outcome.words)) == (64, "", 1)
    assert outcome.words[0].startswith("registryctl: ")
    assert line in outcome.words[0]


def test_the_overview_names_every_command() -> None:
    """--help lists each command and alias, and the exit codes."""
    shown = _run("--help").stdout

    for name in (*COMMANDS, *ALIASES, "exit codes"):
        assert name in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_whole(name: str) -> None:
    """Each command in the list can be loaded, and has its help."""
    command = load(name)

    assert callable(command.run)
    assert importlib.import_module(command.__name__).__doc__.startswith(f"``{name}``: ")  # type: ignore[attr-defined]
    assert f"usage: registryctl {name}" in _run(*name.split(), "--help").stdout


def test_the_version(ctl: Ctl) -> None:
    """--version, version, and version as JSON."""
    assert _run("--version").stdout == f"registryctl {__version__}\n"
    assert ctl("version").out == f"registryctl {__version__}\n"
    assert ctl("--format", "json", "version").out == f'{{\n  "version": "{__version__}"\n}}\n'


def test_shared_flags_stand_before_or_after_and_after_wins(
    through: Callable[..., Outcome], daemon: FakeDaemon
) -> None:
    """A shared flag means the same on both sides of the command."""
    daemon.on("GET", "/api/v1/images", Answer.of({"images": []}))

    assert through("images", "--format", "json").out == '{\n  "images": []\n}\n'
    assert through("--format", "json", "images").out == '{\n  "images": []\n}\n'
    assert through("--format", "json", "images", "--format", "table").out.startswith("NAME")


def test_flags_may_stand_among_arguments(through: Callable[..., Outcome]) -> None:
    """``rmi a -q b`` takes both names."""
    outcome = through("rmi", "a", "-q", "b")

    assert len(outcome.words) == 3
    assert outcome.code == 1


def test_a_switch_takes_no_value_but_after_an_equals_sign() -> None:
    """``--tls-verify alpine`` is a switch and a name; behind -- nothing is a switch."""
    words = ["--tls-verify", "alpine", "--dest-tls-verify=false", "--", "--tls-verify"]

    assert spelled_out(words) == [
        "--tls-verify=true",
        "alpine",
        "--dest-tls-verify=false",
        "--",
        "--tls-verify",
    ]


def test_an_unexpected_error_is_one_line_and_v_shows_the_traceback() -> None:
    """A defect ends with 1 and says how to see more."""

    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise RuntimeError("boom")

    for words, lines in ((["version"], 1), (["version", "-v"], 5)):
        err = io.StringIO()

        assert program(words, Console(Broken(), err, io.StringIO()), {}) == 1
        said = err.getvalue().splitlines()
        assert said[-1].startswith("registryctl: unexpected RuntimeError: boom (run with -v")
        assert (len(said) == 1) == (lines == 1)


def test_a_reader_that_leaves_is_no_error_to_talk_of() -> None:
    """stdout closed at the other end: exit 141, and not a word."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "registryd.cli.main", "version"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        # Buffered, as it is for people: what is left would be flushed at the very end.
        env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
    )
    os.close(write)

    assert (done.returncode, done.stderr) == (141, "")


def test_the_program_ends_with_its_exit_codes() -> None:
    """The process's own exit code is the table's."""
    assert _run("images", "--socket", "/nonexistent.sock").returncode == 6
    assert _run("dance").returncode == 64
    assert _run().returncode == 64


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "registryd.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("redirected", "code", "line"),
    [
        ("> /dev/full", 1, "registryctl: stdout: no space left on device\n"),
        (">&-", 1, "registryctl: stdout: bad file descriptor\n"),
        ("2>&-", 0, ""),
        ("<&-", 0, ""),
        ("| true", 141, ""),
    ],
)
def test_standard_streams_that_take_nothing(redirected: str, code: int, line: str) -> None:
    """A full or closed stdout is one line and exit 1; other streams may be closed."""
    command = f"{sys.executable} -m registryd.cli.main completion bash {redirected}"
    shell = ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)

    assert (code, line) == (done.returncode, done.stderr)
