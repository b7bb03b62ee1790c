"""``setup`` on the command line: what it says, what it leaves, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registryd.runtimes import containerd, docker, podman
from tests.cli.conftest import Ctl
from tests.fakes.daemon import Answer, FakeDaemon
from tests.test_floors import ROOT

ADDRESS = ("--address", "127.0.0.1:6000")
#: What setup writes for Slurm where slurm.conf has a Prolog.
HOOKS = (("Epilog", "epilog"), ("TaskProlog", "task_prolog"))


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An empty tree."""
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def test_a_second_run_has_nothing_to_do(ctl: Ctl, prefix: Path) -> None:
    """Set up, again, elsewhere, undo, again."""
    words = ("setup", "podman", "--prefix", str(prefix))
    path = prefix / podman.OWN

    assert f"new: {path}\n" == ctl(*words, *ADDRESS).out
    assert "nothing to do: podman is set up\n" == ctl(*words, *ADDRESS).out
    assert f"changed: {path}\n" == ctl(*words, "--address", "127.0.0.1:1").out
    assert 'location = "127.0.0.1:1/docker.io"' in path.read_text()
    assert f"removed: {path}\n" == ctl(*words, "--undo").out
    assert "nothing to do: setup has written nothing for podman\n" == ctl(*words, "--undo").out
    assert [] == list(prefix.rglob("*"))


@pytest.mark.parametrize("name", ["containerd", "podman", "docker", "buildkit"])
def test_a_dry_run_shows_and_writes_nothing(ctl: Ctl, prefix: Path, name: str) -> None:
    """The whole content is in the difference; nothing is on the disk, and undo takes nothing."""
    words = ("setup", name, "--prefix", str(prefix))

    dry = ctl(*words, *ADDRESS, "--dry-run")

    assert [] == list(prefix.rglob("*"))
    assert "+++ " in dry.out
    ctl(*words, *ADDRESS)
    files = [path for path in prefix.rglob("*") if path.is_file()]
    content = "".join(p.read_text() for p in files if p.suffix != ".registryd")
    assert set(content.splitlines()) <= {line[1:] for line in dry.out.splitlines()}
    assert ctl(*words, "--undo", "--dry-run").out.startswith("would remove: ")
    assert files == [path for path in prefix.rglob("*") if path.is_file()]


def test_the_address_is_the_running_daemons(ctl: Ctl, daemon: FakeDaemon, prefix: Path) -> None:
    """Where --address is not given, the daemon says where it listens."""
    status = {"listeners": ["unix:/x", "127.0.0.1:7777"]}
    daemon.on("GET", "/api/v1/status", Answer.of(status))

    ctl("setup", "docker", "--prefix", str(prefix), "--socket", str(daemon.socket))

    wanted = {"registry-mirrors": ["http://127.0.0.1:7777"]}
    assert wanted == json.loads((prefix / docker.PATH).read_text())


def test_anothers_file_is_left_with_a_line(ctl: Ctl, prefix: Path) -> None:
    """Exit code 1 and one line that says what to put where."""
    path = prefix / docker.PATH
    path.parent.mkdir(parents=True)
    path.write_text('{"debug": true}')

    ran = ctl("setup", "docker", "--prefix", str(prefix), *ADDRESS, "-q")

    assert (1, "") == (ran.code, ran.out)
    assert 1 == len(ran.words)
    assert 'put "registry-mirrors": ["http://127.0.0.1:6000"] into it' in ran.words[0]
    assert '{"debug": true}' == path.read_text()


def test_a_part_is_exit_code_7(ctl: Ctl, prefix: Path) -> None:
    """The rest is written, and each thing that is left has its line."""
    for name in ("a.io", "b.io"):
        (prefix / containerd.CERTS / name).mkdir(parents=True)

    ran = ctl("setup", "containerd", "--prefix", str(prefix), *ADDRESS, "-q")

    assert 7 == ran.code
    assert (prefix / containerd.CERTS / "_default/hosts.toml").exists()
    first, second, last = ran.words
    assert "a.io" in first
    assert "b.io" in second
    assert "2 things are left" in last


def test_undo_leaves_what_was_changed(ctl: Ctl, prefix: Path) -> None:
    """It says so, and ends with 1."""
    words = ("setup", "crio", "--prefix", str(prefix))
    ctl(*words, *ADDRESS)
    path = prefix / podman.OWN
    path.write_text(path.read_text() + "# mine\n")

    ran = ctl(*words, "--undo")

    assert 1 == ran.code
    assert "was changed since it was written, and stays as it is" in ran.err
    assert path.exists()


def test_apptainer_says_what_to_type(ctl: Ctl, prefix: Path) -> None:
    """There is no file to write: exit code 0, and the command."""
    ran = ctl("setup", "singularity", "--prefix", str(prefix), *ADDRESS)

    assert (0, []) == (ran.code, list(prefix.rglob("*")))
    command = "apptainer pull --no-https docker://127.0.0.1:6000/docker.io/library/alpine"
    assert command in ran.out


def test_json(ctl: Ctl, prefix: Path) -> None:
    """Stable keys."""
    words = ("setup", "containerd", "--prefix", str(prefix), "--format", "json")

    done = json.loads(ctl(*words, *ADDRESS, "--registry", "ghcr.io").out)

    assert {"runtime", "address", "dry_run", "files", "commands", "todo", "notes"} == set(done)
    path = str(prefix / containerd.CERTS / "ghcr.io/hosts.toml")
    assert [(path, "new")] == [(file["path"], file["state"]) for file in done["files"]]
    assert {"runtime": "containerd", "removed": [path], "todo": []} == json.loads(
        ctl(*words, "--undo").out
    )


@pytest.mark.parametrize(
    "words",
    [
        ("setup", "rkt"),
        ("setup",),
        ("setup", "podman", "--prefix", "/nowhere/at/all"),
        ("setup", "podman", "--prefix", "/tmp", "--dry-run", "--address", "10.0.0.1:1"),
        ("setup", "podman", "--prefix", "/tmp", "--dry-run", *ADDRESS, "--registry", "a b"),
        ("doctor", "--prefix", "/nowhere/at/all"),
    ],
)
def test_wrong_usage(ctl: Ctl, words: tuple[str, ...]) -> None:
    """Exit code 64 and one line."""
    ran = ctl(*words)

    assert (64, 1) == (ran.code, len(ran.words))


def test_slurm(ctl: Ctl, prefix: Path) -> None:
    """Scripts that call this registryctl, lines that name them; what slurm.conf lacks is said, and
    a Prolog of its own stays. Undo takes everything away."""
    slurm = prefix / "etc/slurm"
    slurm.mkdir(parents=True)
    (slurm / "slurm.conf").write_text("ClusterName=x\nProlog=/etc/slurm/mine.sh\n")
    words = ("setup", "slurm", "--prefix", str(prefix))
    before = {path: path.read_text() for path in prefix.rglob("*") if path.is_file()}

    first = ctl(*words, "--program", "/opt/r/bin/registryctl")
    assert "has a Prolog of its own: let /etc/slurm/mine.sh call" in first.err
    assert "put the line 'include /etc/slurm/registryd.conf' at the end" in first.err
    assert f"make -C {ROOT / 'slurm'} install" in first.err
    scripts = ["epilog.sh", "prolog.sh", "task_prolog.sh"]
    assert scripts == sorted(p.name for p in (slurm / "registryd").glob("*.sh"))
    assert {0o755} == {p.stat().st_mode & 0o777 for p in (slurm / "registryd").glob("*.sh")}
    for path in (slurm / "registryd/prolog.sh", slurm / "registryd/epilog.sh"):
        assert "\nregistryctl=/opt/r/bin/registryctl\n" in path.read_text()
    assert 'registryctl = "/opt/r/bin/registryctl"\n' in (slurm / "burst_buffer.lua").read_text()
    lines = (slurm / "registryd.conf").read_text().splitlines()[1:]
    own = [f"{hook}=/etc/slurm/registryd/{name}.sh" for hook, name in HOOKS]
    assert [*own, "PrologFlags=Alloc"] == lines

    plugin = prefix / "usr/local/lib/slurm/spank_registryd.so"
    plugin.parent.mkdir(parents=True)
    plugin.write_bytes(b"\x7fELF")
    (slurm / "slurm.conf").write_text("Include /etc/slurm/registryd.conf\n")
    (slurm / "plugstack.conf").write_text("include /etc/slurm/plugstack.conf.d/*.conf\n")
    assert 0 == ctl(*words).code
    line = (slurm / "plugstack.conf.d/registryd.conf").read_text().splitlines()[1]
    assert line.startswith("optional /usr/local/lib/slurm/spank_registryd.so registryctl=/")
    assert "Prolog=/etc/slurm/registryd/prolog.sh" in (slurm / "registryd.conf").read_text()

    assert 0 == ctl(*words, "--undo").code
    left = {path for path in prefix.rglob("*") if path.is_file()}
    assert {*before, plugin, slurm / "plugstack.conf"} == left


@pytest.mark.parametrize(
    ("flags", "said"),
    [("Contain,X11", False), ("alloc", False), ("Serial", True)],
)
def test_slurm_s_prolog_flags_stay(ctl: Ctl, prefix: Path, flags: str, said: bool) -> None:
    """Slurm reads the last line of a key: what a site's flags do is not taken away by ours."""
    slurm = prefix / "etc/slurm"
    slurm.mkdir(parents=True)
    (slurm / "slurm.conf").write_text(f"PrologFlags={flags}\n")

    done = ctl("setup", "slurm", "--prefix", str(prefix))

    assert "PrologFlags" not in (slurm / "registryd.conf").read_text()
    assert said == (f"has PrologFlags={flags}: let it have Alloc too" in done.err)


def test_slurm_wants_a_plain_path(ctl: Ctl, prefix: Path) -> None:
    """A path that a shell would read in another way is refused, and nothing is written."""
    refused = ctl("setup", "slurm", "--prefix", str(prefix), "--program", "/a b/$(id)")

    assert (1, []) == (refused.code, list(prefix.rglob("*")))
