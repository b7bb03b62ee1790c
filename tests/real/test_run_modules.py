"""Story: a site's modules and devices in commands that root and an ordinary user run in an image.

The image is a folder, so that neither daemon nor registry is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.mpi_image import MPICH, THERE, make_mpi_image, own_mpi
from tests.real.runtimes import attempt, need, plain_environ
from tests.real.test_run import USER, Me
from tests.real.test_users import readable_code

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be an ordinary user"),
    pytest.mark.skipif(not THERE, reason="needs libmpich-dev"),
]
MODULES = {
    "mpi": f"""
default: true
when: {{env: {{SLURM_MPI_TYPE: pmi2}}}}
libraries: {{abi: full, replace: [{{path: {MPICH}, as: libmpi.so.12}}]}}
""",
    "site": "binds: ['${HOME}/data:/site/data:ro']\nenv: {prepend: {PATH: /site/bin}}",
    "lacking": "binds: [/none/at/all]",
    "strict": f"libraries: {{abi: strict, replace: [{{path: {MPICH}, as: libmpi.so.12}}]}}",
}
DEVICE = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.com/class",
    "devices": [
        {
            "name": "0",
            "containerEdits": {
                "env": ["GPU=0"],
                "deviceNodes": [{"path": "/dev/vendor/gpu0", "hostPath": "/dev/zero"}],
            },
        }
    ],
    "containerEdits": {
        "mounts": [
            {"hostPath": "/etc/passwd", "containerPath": "/opt/vendor/people", "options": ["ro"]}
        ],
        "hooks": [{"hookName": "createContainer", "path": "/usr/bin/vendor-hook"}],
    },
}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that everybody may look into, with an image, a site's files and the code."""
    with tempfile.TemporaryDirectory(prefix="rd", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        shell = make_mpi_image(folder / "image") / "bin/sh"
        shutil.copy(need("busybox"), shell)
        for kind in ("modules", "cdi"):
            (folder / kind).mkdir()
        for module, words in MODULES.items():
            (folder / f"modules/{module}.yaml").write_text(words)
        (folder / "cdi/vendor.json").write_text(json.dumps(DEVICE))
        code = readable_code(folder)
        own = [code / "registryd", code / "cache"]
        subprocess.run([sys._base_executable, "-m", "compileall", "-q", *own], check=True)  # type: ignore[attr-defined]
        yield folder


@pytest.fixture(params=["root", "user"])
def me(request: pytest.FixtureRequest, place: Path) -> Me:
    """Both kinds of people."""
    return person(place, USER if request.param == "user" else 0)


@pytest.fixture
def user(place: Path) -> Me:
    """An ordinary user."""
    return person(place, USER)


def person(place: Path, uid: int) -> Me:
    """Somebody whose own file says where the site's are."""
    home = place / f"home-{uid}"
    if not home.exists():
        plain_environ(home)
        own = home / ".config/registryd/config.toml"
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(f'[run]\nmodules = "{place}/modules"\ncdi = ["{place}/cdi"]\n')
        (home / "data").mkdir()
        (home / "data/file").write_text("of the home\n")
        for path in (home, *home.rglob("*")):
            os.chown(path, uid, uid)
        home.chmod(0o700)  # its runtime folder too: what a job has found is not of another run
    environ = {"XDG_CONFIG_HOME": str(home / ".config")}
    return Me(uid, home, place / "no-socket", place / "code", environ)


def image(me: Me) -> str:
    """The image, by its folder."""
    return f"rootfs:{me.home.parent}/image"


def test_whose_mpi(me: Me) -> None:
    """The image's own, but where a module says so: by the flag, or by itself in such a job."""
    job = me.with_environ(SLURM_MPI_TYPE="pmi2")

    assert "of the image\n" == me.ok("exec", image(me), "/bin/version")
    assert "MPICH Version:" in me.ok("exec", "--module", "mpi", image(me), "/bin/version")
    assert "MPICH Version:" in job.ok("run", image(me), "/bin/version")
    assert "of the image\n" == job.ok("exec", "--module", "none", image(me), "/bin/version")


def test_ranks_of_one_job(user: Me, place: Path) -> None:
    """Ranks that share what they see find the machine's library there, also in our own folder."""
    bare = place / f"bare-{user.uid}"
    shutil.copytree(place / "image", bare, symlinks=True)
    own_mpi(bare).unlink()
    job = user.with_environ(SLURM_JOB_ID=f"7{user.uid}", SLURM_MPI_TYPE="pmi2")
    fifo = user.home / "go"
    os.mkfifo(fifo)
    os.chown(fifo, user.uid, user.uid)
    words = ("exec", "--verbose", f"rootfs:{bare}", "/bin/sh", "-c")

    first = job.begin(*words, f"/bin/version; read x < {fifo}")
    assert first.stdout is not None
    with first, first.stdout as stdout:
        seen = [stdout.readline(), stdout.readline()]
        second = job(*words, f"/bin/version; echo go > {fifo}")

    assert ("runtime: native\n", True) == (seen[0], "MPICH Version:" in seen[1])
    assert "with the others of the same job" in second.err
    assert "MPICH Version:" in second.out
    assert 0 == first.returncode


def test_ranks_add_up(me: Me) -> None:
    """Two ranks that mpiexec begins are one job by the machine's library; by the image's each is
    alone."""
    job = me.with_environ(SLURM_JOB_ID=f"9{me.uid}", SLURM_MPI_TYPE="pmi2")
    mpiexec = ["mpiexec.hydra", "-launcher", "fork", "-n", "2"]
    who = ["setpriv", "--reuid", str(me.uid), "--regid", str(me.uid), "--clear-groups"]

    def said(*flags: str) -> list[str]:
        command = Me(0, me.home, me.socket, me.code).command("exec", *flags, image(me), "/bin/sum")
        there = ["sh", "-c", 'cd "$0" && exec "$@"', str(me.home)]
        ran = attempt([*there, *mpiexec, *who, *command], job.environment())
        assert (0, "") == (ran.code, ran.err), ran
        return sorted(ran.out.splitlines())

    assert ["0 of 1: 1", "0 of 1: 1"] == said("--module", "none")
    assert ["0 of 2: 3", "1 of 2: 3"] == said()


def test_a_module_with_folders_and_variables(user: Me) -> None:
    """A module's binds and variables are there; the caller's home is what it says."""
    script = "cat /site/data/file; echo $PATH; echo x > /site/data/file"

    ran = user("exec", "-m", "site", image(user), "/bin/sh", "-c", script)

    assert "of the home\n/site/bin:" == ran.out[:22]
    assert "Read-only file system" in ran.err


def test_a_device(user: Me) -> None:
    """A device brings its node under its own name, its files and variables; the machine's other
    devices stay; a hook that is not run is one line."""
    script = "echo $GPU; head -c 2 /dev/vendor/gpu0 | wc -c; head -n 1 /opt/vendor/people"
    script += "; echo x > /dev/null; readlink /dev/fd"
    people = Path("/etc/passwd").read_text().splitlines()[0]

    ran = user("exec", "--device", "vendor.com/class=all", image(user), "/bin/sh", "-c", script)

    assert f"0\n2\n{people}\n/proc/self/fd\n" == ran.out
    assert "warning: hooks of devices are not run: /usr/bin/vendor-hook\n" == ran.err


def test_refused(user: Me) -> None:
    """What cannot be had is one line, before anything starts."""
    for flags, said in {
        "--device vendor.com/class=7": "there is no device vendor.com/class=7 (there is vendor",
        "--device /dev/nope": "--device /dev/nope is not on this machine",
        "--module gpu": "there is no module gpu (there is lacking, mpi, site, strict; see",
        "--module lacking": "module lacking: /none/at/all is not on this machine (write /none",
        "--module strict": f"module strict: {MPICH.resolve()} of this machine cannot replace",
    }.items():
        ran = user("exec", *flags.split(), image(user), "/bin/version")

        assert (64, "", 1) == (ran.code, ran.out, len(ran.err.splitlines()))
        assert ran.err.startswith(f"registryctl: {said}")
