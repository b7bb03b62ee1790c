"""What a short command imports: little. Time itself is for the benches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.daemon import Answer, FakeDaemon

HEAVY = {
    "aiohttp",
    "asyncio",
    "click",
    "cryptography",
    "logging",
    "msgspec",
    "registryd.operations",
    "registryd.remote.credentials",
    "registryd.services",
    "rich",
    "tomllib",
    "typing_extensions",
    "uvloop",
}
PROGRAM = """
import json, sys
from registryd.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def modules(*words: str) -> set[str]:
    """What is imported when this command line has run well."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True
    )
    code, names = json.loads(done.stderr)
    assert code == 0
    return set(names)


@pytest.mark.parametrize(
    "words", [("images",), ("status",), ("rmi", "-q", "a"), ("tag", "a", "localhost/b:1")]
)
def test_the_thin_path_is_thin(daemon: FakeDaemon, words: tuple[str, ...]) -> None:
    """A command over a socket that needs no credential imports nothing heavy."""
    for method, path in (("GET", "images"), ("GET", "status"), ("POST", "rmi"), ("POST", "tag")):
        daemon.on(method, f"/api/v1/{path}", Answer.of({}))

    assert modules(*words, "--socket", str(daemon.socket)) & HEAVY == set()


def test_a_daemon_in_its_usual_place_is_found_as_thinly(
    daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To know where daemons are, nothing of the configuration is read or imported."""
    daemon.on("GET", "/api/v1/images", Answer.of({}))
    (tmp_path / "registryd").mkdir()
    (tmp_path / "registryd/registryd.sock").symlink_to(daemon.socket)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("REGISTRYD_SOCKET", raising=False)
    monkeypatch.delenv("REGISTRYD_ROOT", raising=False)

    assert modules("images") & {*HEAVY, "registryd.config"} == set()


def test_only_the_command_that_runs_is_imported(daemon: FakeDaemon) -> None:
    """The other commands stay on the disk."""
    daemon.on("GET", "/api/v1/images", Answer.of({}))

    loaded = modules("images", "--socket", str(daemon.socket))

    commands = {name for name in loaded if name.startswith("registryd.cli.commands.")}
    assert commands == {"registryd.cli.commands.images"}


def test_a_pull_over_a_socket_has_no_aiohttp(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Reading the user's credentials does not bring the client of registries along."""
    daemon.on("POST", "/api/v1/pull", Answer.events({"event": "done"}))

    loaded = modules("pull", "a", "--socket", str(daemon.socket), "--progress", "none")

    assert loaded & {"aiohttp", "rich", "msgspec", "asyncio"} == set()
