"""The scripts of the folder ``slurm``: sound shell, and what a task is told by its job's record."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from registryd.runtimes.slurm import script
from registryd.schedulers.errors import RecordUnwritable
from registryd.schedulers.record import FOLDER, Record, file_of
from registryd.schedulers.record_files import remove, write
from tests.real.dockerd import needs_root
from tests.real.runtimes import need
from tests.test_floors import ROOT

SCRIPTS = sorted((ROOT / "slurm").rglob("*.sh"))
EXACT = f"a.io/b@sha256:{'0' * 64}"
EXPORT = f"export REGISTRYD_IMAGE={EXACT}\n"
FAILED = "print registryd: a.io/b:1 could not be brought to n1: "


def test_shell_is_sound() -> None:
    """shellcheck has nothing to say of any."""
    assert SCRIPTS
    done = subprocess.run([need("shellcheck"), *map(str, SCRIPTS)], capture_output=True, text=True)

    assert (0, "") == (done.returncode, done.stdout)


def test_hooks_are_python() -> None:
    """Hooks of other schedulers compile (their schedulers are not here to run them)."""
    hooks = sorted((ROOT / "slurm").rglob("*.py"))
    assert hooks
    for path in hooks:
        compile(path.read_text(), str(path), "exec")


@pytest.mark.parametrize(
    ("record", "environ", "code", "said"),
    [
        (None, {}, 0, ""),
        (Record("ready", "a.io/b:1", EXACT), {}, 0, EXPORT),
        (Record("ready", "a.io/b:1", EXACT), {"REGISTRYD_IMAGE": EXACT}, 0, EXPORT),
        (Record("ready", "a.io/b:1", EXACT), {"REGISTRYD_IMAGE": "a.io/b:1"}, 0, EXPORT),
        (Record("ready", "a.io/b:1", EXACT), {"REGISTRYD_IMAGE": "a.io/c:1"}, 0, ""),
        (Record("failed", "a.io/b:1", code=2, error="no  such"), {}, 1, f"{FAILED}no such\n"),
        (Record("failed", "a.io/b:1", code=2, error="x"), {"SLURM_LOCALID": "1"}, 1, ""),
        (Record("failed", "a.io/b:1", code=2, error="x"), {"REGISTRYD_IMAGE": "c"}, 0, ""),
        (Record("failed", "a.io/b:1", code=3, error="no access"), {}, 0, ""),
        (Record("failed", "a.io/b:1", code=2, error="`id` $(id) \\n*"), {}, 1,
         f"{FAILED}`id` $(id) \\n*\n"),
        (Record("fetching", "a.io/b:1", EXACT), {}, 1, f"{FAILED}it was not here in time\n"),
    ],
)  # fmt: skip
def test_what_a_task_is_told(
    tmp_path: Path, record: Record | None, environ: dict[str, str], code: int, said: str
) -> None:
    """A job's image is in REGISTRYD_IMAGE by its digest; what could not be had ends its tasks, and
    the first on each node says so; a step's own image, and what only the user may fetch, passes."""
    script = tmp_path / "task_prolog.sh"
    script.write_text((ROOT / "slurm/task_prolog.sh").read_text().replace(FOLDER, str(tmp_path)))
    if record is not None:
        write(tmp_path, "7", record, uid=0)
    task = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "SLURM_LOCALID": "0", **environ}
    done = subprocess.run(["/bin/sh", str(script)], env=task, capture_output=True, text=True)

    assert (code, said, "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("code", [1, 127])
@pytest.mark.parametrize("hook", ["prolog", "epilog"])
def test_no_hook_drains_its_node(tmp_path: Path, hook: str, code: int) -> None:
    """Whatever registryctl ends with, or where it is not, Slurm is told 0; it was called once."""
    program, said = tmp_path / "registryctl", tmp_path / "said"
    if code == 1:
        program.write_text(f'#!/bin/sh\necho "$@" >>{said}\nexit {code}\n')
        program.chmod(0o755)
    (tmp_path / "job-7").touch()
    path = tmp_path / "hook.sh"
    path.write_text(script(f"{hook}.sh", str(program)).replace(FOLDER, str(tmp_path)))
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_COMMENT": "image=a.io/b:1"}
    done = subprocess.run(["/bin/sh", str(path)], env=job, capture_output=True)

    assert 0 == done.returncode
    assert code != 1 or said.read_text().startswith(f"slurm {hook}")


def test_a_record_goes(tmp_path: Path) -> None:
    """Its folder is made, its end is quiet also where there is none, and it is its user's alone."""
    write(tmp_path / "s", "7", Record("fetching", "a"), uid=61011)
    mode = (tmp_path / "s" / file_of("7")).stat().st_mode
    for _ in range(2):
        remove(tmp_path / "s", "7")

    assert (0o400, []) == (mode & 0o777, list((tmp_path / "s").iterdir()))


def test_a_record_follows_no_link(tmp_path: Path) -> None:
    """Where somebody has put a link in place of the folder, root writes and removes nothing behind
    it."""
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / file_of("7")).write_text("theirs")
    (tmp_path / "s").symlink_to("else")
    with pytest.raises(RecordUnwritable):
        write(tmp_path / "s", "7", Record("fetching", "a"), uid=61011)
    with pytest.raises(RecordUnwritable):
        remove(tmp_path / "s", "7")

    assert [(file_of("7"), "theirs")] == [
        (each.name, each.read_text()) for each in (tmp_path / "else").iterdir()
    ]


@needs_root
def test_a_record_s_folder_is_root_s(tmp_path: Path) -> None:
    """One that was given to the daemon's user with all that is in its own is taken back."""
    folder = tmp_path / "s"
    folder.mkdir(mode=0o777)
    os.chown(folder, 61011, 61011)
    write(folder, "7", Record("fetching", "a"), uid=61012)
    seen = folder.stat()

    assert (0, 0, 0o755) == (seen.st_uid, seen.st_gid, seen.st_mode & 0o777)
    assert 61012 == (folder / file_of("7")).stat().st_uid
