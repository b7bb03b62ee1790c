"""Completion: what the program offers, and that bash, zsh and fish ask it and take the answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Ctl
from tests.fakes.daemon import Answer, FakeDaemon
from tests.real.runtimes import need
from tests.test_floors import ROOT

IMAGES = [
    {"reference": "docker.io/library/alpine:3.20", "tag": "3.20"},
    {"reference": "ghcr.io/org/app:1", "tag": "1"},
    {"reference": "ghcr.io/org/app", "tag": ""},
]


@pytest.fixture
def asked(ctl: Ctl, daemon: FakeDaemon) -> Ctl:
    """The program beside a daemon that holds two images with tags."""
    daemon.on("GET", "/api/v1/images", Answer.of({"images": IMAGES}))
    ctl.environ["REGISTRYD_SOCKET"] = str(daemon.socket)
    return ctl


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("registryctl man", "manifest"),
        ("registryctl manifest d", "delete diff docker.io/library/alpine:3.20"),
        ("registryctl cache d", "df"),
        ("registryctl --socket /x imag", "images"),
        ("registryctl --form", "--format"),
        ("registryctl pull --progress ", "auto json none plain"),
        ("registryctl pull --progress=n", "--progress=none"),
        ("registryctl pull -q --platform linux/amd64 al", "alpine:3.20"),
        ("registryctl pull alpine:3.20 ghcr.io/", "ghcr.io/org/app:1"),
        ("registryctl tag --tls-verify ghcr", "ghcr.io/org/app:1"),
        ("registryctl nodes --format ", "json table"),
        ("registryctl completion z", "zsh"),
        ("registryctl images gh", "ghcr.io/org/app:1"),
        ("registryctl login --authfile ", ":files"),
        ("registryctl blob put a/b ", ":files"),
        ("registryctl images x", ""),
        ("registryctl nonsense --f", ""),
        ("", ""),
    ],
)
def test_what_could_come_next(asked: Ctl, line: str, words: str) -> None:
    """Commands, groups, flags, their values, names of images; files are left to the shell."""
    asked.environ["REGISTRYCTL_LINE"] = line
    outcome = asked("completion", "words")

    assert (outcome.code, outcome.err) == (0, "")
    if line:
        assert outcome.out.split() == words.split()


def test_a_daemon_that_is_away_completes_no_names(ctl: Ctl) -> None:
    """Nothing is said and nothing fails."""
    ctl.environ.update({"REGISTRYD_SOCKET": "/nowhere", "REGISTRYCTL_LINE": "registryctl pull "})

    assert ctl("completion", "words").raw == b""


BASH = """
source <(registryctl completion bash)
COMP_WORDBREAKS=$' \\t\\n=:'
for COMP_LINE in "$@"; do
    COMP_POINT=${#COMP_LINE}
    _registryctl
    echo "${COMPREPLY[@]}"
done
"""
ZSH = """
compadd() { print -- ${(P)2} }
_files() { print -- files }
compset() { }
source <(registryctl completion zsh)
for line in $@; do
    words=(${(z)line}) CURRENT=${#words}
    _registryctl
done
"""
FISH = """
registryctl completion fish | source
for line in $argv
    echo (complete -C $line)
end
"""
LINES = (
    "registryctl tag ghcr.io/org/app:",
    "registryctl pull --progress=p",
    "registryctl login --authfile pl",
)


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        (("bash", "--norc", "-c", BASH, "bash"), "bash"),
        (("zsh", "-f", "-c", ZSH, "zsh"), "zsh"),
        (("fish", "--no-config", "-c", FISH, "--"), "fish"),
    ],
    ids=["bash", "zsh", "fish"],
)
def test_shells(asked: Ctl, tmp_path: Path, shell: tuple[str, ...], script: str) -> None:
    """Each shell is given the words by its script; bash without what it thinks is done already."""
    need(script)
    program = tmp_path / "bin/registryctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m registryd.cli.main "$@"\n')
    program.chmod(0o755)
    (tmp_path / "home/place").mkdir()
    environ = asked.environ | {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HOME": str(asked.home),
    }

    done = subprocess.run(
        (*shell, *LINES), env=environ, cwd=asked.home, capture_output=True, text=True, check=True
    )

    whole = ["ghcr.io/org/app:1", "--progress=plain"]
    expected = {
        "bash": ["1", "plain", "place"],
        "zsh": [*whole, "files"],
        "fish": [*whole, "place/"],
    }
    assert (done.stderr, done.stdout.splitlines()) == ("", expected[script])
