"""--format json: every command that prints has it, with the members that docs/json.md promises."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registryd.cli.command import COMMANDS
from tests.cli.conftest import Ctl
from tests.cli.test_copy import ARM, DIGEST, write_layout
from tests.fakes.daemon import Answer, FakeDaemon
from tests.real.registry import RealRegistry, basic_registry
from tests.test_floors import ROOT

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that knows ann."""
    with basic_registry(tmp_path_factory.mktemp("registry"), {"ann": "s3cret"}) as running:
        yield running


def promised() -> dict[str, tuple[str, ...]]:
    """By command the members in the table of docs/json.md."""
    rows = re.findall(r"^\| `([^|]+)` \| (.*) \|$", (ROOT / "docs/json.md").read_text(), re.M)
    return {
        name: tuple(re.findall(r"`([a-z_A-Z]+)`", re.sub(r"\(.*?\)", "", members)))
        for names, members in rows
        for name in names.split("`, `")
    }


def check(command: str, printed: str) -> None:
    """What a command has printed has the members that are promised of it."""
    value = json.loads(printed)
    assert isinstance(value, dict), command
    missing = [key for key in promised().get(command, ()) if key not in value]
    assert missing == [], (command, sorted(value))
    for key, member in _members(value):
        if key == "digest":
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", str(member)), (command, member)
        elif key in ("last_used", "until", "since"):
            assert TIME.fullmatch(str(member)), (command, key, member)
        elif key == "size":
            assert isinstance(member, int), (command, member)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """All members in a value, however deep."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield key, member
            yield from _members(member)
    elif isinstance(value, list):
        for member in value:
            yield from _members(member)


def lines(name: str, folder: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Command lines in which one leads to the next, each with its command."""
    host, own, layer = name.partition("/")[0], "localhost/app:1", str(folder / "layer")
    archive = str(folder / "a.tar")
    yield "login", (host, "-u", "ann", "-p", "s3cret")
    yield "auth get", (host,)
    yield "auth explain", (host,)
    yield "push", (f"oci:{folder / 'layout'}:v1", name)
    yield "copy", (name, f"oci:{folder / 'copied'}:x")
    yield "pull", (name, "--platform", "linux/arm64")
    yield "import", (f"oci:{folder / 'layout'}:v1", own)
    yield "tag", (own, "localhost/app:2")
    yield "images", ()
    yield "cache pin", (own, "--as", "mine")
    yield "cache pins", ()
    yield "cache quota", ()
    yield "cache unpin", ("--as", "mine")
    yield "cache df", ()
    yield "cache gc", ("--dry-run",)
    yield "cache verify", (own,)
    yield "cache export-store", (str(folder / "shared"),)
    yield "cache repair", ("--dry-run",)
    yield "cache ls", ()
    yield "cache active", ()
    yield "access ls", ()
    yield "status", ()
    yield "export", (own, "-o", f"oci-archive:{folder / 'b.tar'}")
    yield "save", (own, "-o", archive)
    yield "load", ("-i", archive)
    yield "inspect", (name,)
    yield "config", (name,)
    yield "manifest", (name,)
    yield "manifest get", (name,)
    yield "manifest head", (name,)
    yield "digest", (name,)
    yield "history", (name,)
    yield "validate", (name,)
    yield "tags", (name.rpartition(":")[0],)
    yield "catalog", (host,)
    yield "blob put", (name.rpartition(":")[0], layer)
    exact = f"{name.rpartition(':')[0]}@{_digest(Path(layer))}"
    yield "blob head", (exact,)
    yield "blob get", (exact, "-o", f"{layer}.back")
    yield "attach", (name, layer, "--artifact-type", "text/x.note")
    yield "referrers", (name,)
    yield "blob delete", (exact,)
    yield "manifest diff", (name, name)
    (folder / "list.yml").write_text(
        f'{{"version": 1, "sync": [{{"source": "{name}", "target": "{name}s", "type": "image"}}]}}'
    )
    yield "sync", (str(folder / "list.yml"),)
    yield "manifest put", (str(folder / "manifest"), f"{name}x")
    yield "manifest delete", (f"{name.rpartition(':')[0]}@{ARM}",)
    yield "delete", (name,)
    yield "ratelimit", (host, "--plain-http")
    yield "rmi", (own,)
    yield "logout", (host,)
    yield from of_the_machine(folder)


def of_the_machine(folder: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Command lines that are about no image."""
    yield "setup", ("podman", "--dry-run")
    yield "doctor", ()
    yield "modules", ()
    yield "mount", ()
    yield "unmount", ("--all",)
    yield "cluster init", (str(folder / "hpc"), "--name", "hpc")
    yield "cluster add", (str(folder / "hpc"), "n1")
    yield "cluster show", (str(folder / "hpc"),)
    yield "completion", ("bash",)
    yield "version", ()


def _digest(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


#: Commands that need a daemon: what it is asked, what it says.
DAEMON = {
    "nodes": (("nodes",), "GET", "nodes", {"kind": "none", "nodes": []}),
    "cache whohas": (
        ("cache", "whohas", DIGEST),
        "GET",
        "cache/whohas",
        {"holders": [{"name": "n1"}]},
    ),
    "jobs": (("jobs",), "GET", "jobs", {"jobs": []}),
    "top": (("top",), "GET", "overview", {"flights": [], "jobs": []}),
    "jobs cancel": (("jobs", "cancel", "j1"), "POST", "jobs/cancel", {}),
    "limits": (("limits",), "GET", "limits", {}),
    "gateway lookup": (("gateway", "lookup", "a:1"), "GET", "gateway/lookup", {"id": "0"}),
    "gateway show": (("gateway", "show", "a:1"), "GET", "gateway/show", {"state": "READY"}),
    "gateway images": (("gateway", "images"), "GET", "gateway/images", {"images": []}),
    "gateway queue": (("gateway", "queue"), "GET", "gateway/queue", {"imports": []}),
    "gateway expire": (("gateway", "expire", "a:1"), "POST", "gateway/expire", {"expired": []}),
    "gateway autoexpire": (("gateway", "autoexpire"), "POST", "gateway/autoexpire", {}),
    "gateway metrics": (("gateway", "metrics"), "GET", "gateway/metrics", {"lookups": []}),
    "access revoke": (("access", "revoke", "a/b"), "POST", "access/revoke", {}),
}


def test_every_command_has_it(
    ctl: Ctl, daemon: FakeDaemon, registry: RealRegistry, tmp_path: Path
) -> None:
    """What is printed is one JSON object, with the members that are promised."""
    write_layout(tmp_path / "layout", "v1")
    (tmp_path / "layer").write_bytes(b"a note")
    arm = ARM.partition(":")[2]
    (tmp_path / "manifest").write_bytes((tmp_path / "layout/blobs/sha256" / arm).read_bytes())
    (tmp_path / "run").mkdir(mode=0o700)
    ctl.environ["REGISTRYD_ROOT"] = str(tmp_path / "root")
    ctl.environ["XDG_RUNTIME_DIR"] = str(tmp_path / "run")
    # The stories of the first two have it; the others print what their command prints.
    seen = {"prefetch", "convert", "run", "exec", "shell"}
    # What Slurm runs prints nothing on stdout.
    seen |= {"slurm prolog", "slurm epilog", "slurm stage-in"}
    # Their stories have it.
    seen |= {"gateway pull", "gateway import"}
    for command, words in lines(f"{registry.name}/json/app:1", tmp_path):
        outcome = ctl(*command.split(), *words, "--format", "json", "--progress", "json")
        # The sample has a config without diff IDs.
        assert outcome.code == (1 if command == "validate" else 0), (command, outcome)
        check(command, outcome.out)
        seen.add(command)
    for command, (words, method, path, said) in DAEMON.items():
        daemon.on(method, f"/api/v1/{path}", Answer.of(said))
        outcome = ctl(*words, "--format", "json", "--socket", str(daemon.socket))
        assert outcome.code == 0, (command, outcome)
        assert json.loads(outcome.out) == said
        seen.add(command)

    assert seen == set(COMMANDS)
