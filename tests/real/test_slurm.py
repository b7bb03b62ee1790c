"""Story: jobs of Slurm ask for images, on four nodes of one machine; all tests share one cluster.

What upstream has sent is counted by its own log; what nodes have pinned is asked of each.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.cluster import blob_bytes, more_bytes, push_image, push_tree
from tests.real.conftest import PASSWORD, USER
from tests.real.registry import RealRegistry, basic_registry, open_registry
from tests.real.runtimes import Ran, Skopeo, need, plain_environ, succeed
from tests.real.slurm_nodes import NODES, USERS, SlurmRig, lacking, slurm_rig
from tests.real.stories import UP

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking())

MIB = 1 << 20
#: A registry that wants a login.
PRIVATE = "private.test"
PROGRAMS = Path(__file__).with_name("programs")


@dataclass(frozen=True)
class Site:
    """The cluster and its upstreams; for the second one ann has a login, the nodes have none."""

    rig: SlurmRig
    registry: RealRegistry
    guarded: RealRegistry

    def push(self, name: str, *sizes: int, seed: int = 1) -> dict[str, int]:
        """A new image ``lib/NAME:1``; its blobs with their sizes."""
        return push_image(self.registry, f"lib/{name}", sizes or (MIB,), seed)

    def exact(self, name: str) -> str:
        """The image by the digest that it has now."""
        return self.rig.ok("root", *self._ctl("digest", "--full-ref", f"{UP}/lib/{name}:1")).strip()

    def _ctl(self, *words: str) -> tuple[str, ...]:
        return (str(self.rig.program), *words)

    @property
    def look(self) -> str:
        """A shell's words: the node, the image that it was told, and that as the node has it."""
        listed = f'{self.rig.program} images --format "{{{{.Repository}}}}@{{{{.Digest}}}}"'
        held = f'$({listed} | grep -xF "$REGISTRYD_IMAGE")'
        return f'echo "$SLURMD_NODENAME $REGISTRYD_IMAGE {held}"'

    def submit(self, user: str, script: str, *words: str) -> str:
        """sbatch of a script in the user's home; the job's id."""
        path = self.rig.home(user) / "job.sh"
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)
        return self.rig.ok(user, "sbatch", "--parsable", *words, str(path)).strip()

    def reason(self, job: str) -> str:
        """Why a job waits."""
        return self.rig.ok("root", "squeue", "-h", "-j", job, "-o", "%r")

    def pyxis(self, step: str, *words: str) -> Ran:
        """The importer as pyxis calls it for ann."""
        job = {"SLURM_JOB_ID": "70", "SLURM_STEP_ID": step, "SLURM_JOB_UID": str(USERS["ann"])}
        folder = {"REGISTRYD_PYXIS_FOLDER": str(self.rig.home("ann") / "squash")}
        program = str(self.rig.program.with_name("registryd-pyxis-importer"))
        pyxis = {"PYXIS_RUNTIME_PATH": "/run/pyxis", "PYXIS_VERSION": "0.24.0"}
        return self.rig.run("ann", program, *words, environ=job | folder | pyxis)

    def pins(self) -> dict[str, list[str]]:
        """By node, the names of its pins."""
        return {
            name: [pin["name"] for pin in node.ask("pins")["pins"]]
            for name, node in self.rig.nodes.items()
        }

    def holders(self, exact: str) -> list[str]:
        """The nodes that have an image, by its digest."""
        return [
            name
            for name, node in self.rig.nodes.items()
            if exact in {f"{i['name']}@{i['digest']}" for i in node.ask("images")["images"]}
        ]

    def until_unpinned(self) -> None:
        """Wait until no job keeps anything anywhere, and all nodes are idle."""
        self.rig.until(lambda: not any(self.pins().values()))
        self.rig.until(lambda: set(self.rig.states().values()) == {"idle"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("slurm")
    with (
        open_registry(folder / "open") as registry,
        basic_registry(folder / "guarded", {USER: PASSWORD}) as guarded,
    ):
        ends = {UP: {"endpoint": registry.url}, PRIVATE: {"endpoint": guarded.url}}
        with slurm_rig({"registries": ends}) as rig:
            yield Site(rig, registry, guarded)


def test_an_image_is_there_before_the_step(site: Site) -> None:
    """srun --image: before their first task all nodes of the job hold the image by the digest of
    submit, in REGISTRYD_IMAGE too; upstream has sent each byte once; afterwards nothing is pinned.
    """
    blobs = site.push("first", 3 * MIB, 12345, seed=11)
    before = blob_bytes(site.registry)
    name = f"{UP}/lib/first:1"

    said = site.rig.ok("ann", "srun", "-N4", f"--image={name}", "sh", "-c", site.look)

    exact = site.exact("first")
    assert [f"{node} {exact} {exact}" for node in NODES] == sorted(said.splitlines())
    assert blobs == more_bytes(before, blob_bytes(site.registry))
    site.until_unpinned()


def test_a_tag_that_moves_after_submit(site: Site) -> None:
    """A job that waits starts the image that its tag meant at submit, on all nodes, though another
    one is there by then. It is pinned on just its nodes until it ends, and rmi says so."""
    rig, name = site.rig, f"{UP}/lib/moving:1"
    site.push("moving", seed=21)
    old = site.exact("moving")
    script = (
        f'{site.look} >"$HOME/ran.$SLURMD_NODENAME"; until [ -e "$HOME/go" ]; do sleep 0.1; done'
    )
    words = ("-H", "-N2", "-w", "n[2-3]", f"--image={name}")
    job = site.submit("ann", f"#SBATCH -o out\nsrun sh -c '{script}'\n", *words)
    site.push("moving", seed=22)
    rig.ok("root", "scontrol", "release", job)
    ran = [rig.home("ann") / f"ran.{node}" for node in ("n2", "n3")]
    rig.until(lambda: all(path.exists() and path.read_text() for path in ran))
    pins = site.pins()
    refused = rig.ctl("root", "rmi", old, on="n2")
    (rig.home("ann") / "go").touch()

    assert old != site.exact("moving")
    assert [f"n2 {old} {old}\n", f"n3 {old} {old}\n"] == [path.read_text() for path in ran]
    assert {"n1": [], "n2": [f"job:{job}"], "n3": [f"job:{job}"], "n4": []} == pins
    assert (1, True) == (refused.code, f"is pinned by job:{job} until" in refused.err), refused
    site.until_unpinned()
    assert 0 == rig.ctl("root", "rmi", old, on="n2").code


def test_a_comment_is_enough(site: Site) -> None:
    """With no plugin, --comment=image=NAME asks for an image; other words in it are left alone."""
    site.push("said", seed=31)
    comment = f"--comment=project=7,image=docker://{UP}/lib/said:1 and more"

    said = site.rig.ok("eve", "srun", "-N1", "-w", "n4", comment, "sh", "-c", site.look)

    exact = site.exact("said")
    assert f"n4 {exact} {exact}\n" == said
    site.until_unpinned()


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (f"{UP}/lib/none:1", f"registryd: {UP}/lib/none:1 could not be brought to n1: "),
        ("UPPER//x", "registryd: its image could not be brought to n1: "),
    ],
)
def test_an_image_that_cannot_be_had(site: Site, asked: str, line: str) -> None:
    """The step fails with one clear line a node and starts nothing; no node is drained for it, and
    the next job runs."""
    words = ("srun", "-N2", "-n4", "-w", "n[1-2]", f"--comment=image={asked}", "echo", "started")
    ran = site.rig.run("ann", *words)

    assert 1 == ran.code, ran
    assert 2 == len(ran.out.splitlines())
    assert any(each.startswith(line) for each in ran.out.splitlines()), ran
    site.until_unpinned()
    assert "started\n" == site.rig.ok("ann", "srun", "-w", "n1", "echo", "started")


def test_submit_refuses_what_is_not_there(site: Site) -> None:
    """--image of a name that its registry does not know is told at once, and nothing is queued."""
    ran = site.rig.run("ann", "sbatch", f"--image={UP}/lib/none:1", "--wrap", "true")

    assert ran.code != 0
    assert "registryctl: " in ran.err
    assert "nothing is submitted" in ran.err
    assert "" == site.rig.ok("ann", "squeue", "-h")


def test_stage_in_while_the_job_is_pending(site: Site) -> None:
    """#BB_LUA image=NAME: before a job has nodes its image is on all of them, once from upstream;
    the job is let start that very digest."""
    blobs = site.push("staged", 2 * MIB, seed=41)
    before = blob_bytes(site.registry)
    script = f"#BB_LUA image={UP}/lib/staged:1\nsrun sh -c '{site.look}'\n"
    job = site.submit("ann", script, "-N1", "-o", "staged")
    out = site.rig.home("ann") / "staged"
    site.rig.until(lambda: out.exists() and out.read_text())

    exact = site.exact("staged")
    assert blobs == more_bytes(before, blob_bytes(site.registry))
    assert exact in out.read_text()
    assert f"Comment=image={exact}" in site.rig.ok("root", "scontrol", "show", "job", job)
    assert list(NODES) == site.holders(exact)
    site.until_unpinned()


def test_stage_in_of_what_cannot_be_had(site: Site) -> None:
    """The job does not start, and squeue says why."""
    job = site.submit("ann", f"#BB_LUA image={UP}/lib/none:2\ntrue\n", "-N1")
    site.rig.until(lambda: "registryctl" in site.reason(job))
    said = site.reason(job)
    site.rig.ok("ann", "scancel", job)

    assert f"{UP}/lib/none:2" in said


def test_pyxis(site: Site) -> None:
    """The importer gives a user a squashfs in a folder of their own for each step, one file for all
    steps of an image; it and its pin stay until release, which can be said twice."""
    push_tree(site.registry, "lib/tree", {"app/hello": b"hello from the image"})
    uri = f"docker://ann@{UP}#lib/tree:1"

    first, second = site.pyxis("0", "get", uri), site.pyxis("1", "get", uri)
    assert (0, 0) == (first.code, second.code), (first.err, second.err)
    paths = [Path(ran.out.rstrip("\n")) for ran in (first, second)]
    inodes = {(path.stat().st_ino, path.stat().st_uid) for path in paths}
    hello = site.rig.ok("ann", "unsquashfs", "-cat", str(paths[1]), "app/hello")
    assert ([f"{path}\n" for path in paths], "hello from the image") == (
        [ran.out for ran in (first, second)],
        hello,
    )
    assert {USERS["ann"]} == {uid for _, uid in inodes}
    assert 1 == len(inodes)
    assert 0o700 == paths[0].parent.stat().st_mode & 0o777
    assert ["pyxis:70.0", "pyxis:70.1"] == site.pins()["n1"]
    assert site.rig.run("eve", "head", "-c1", str(paths[0])).code != 0

    assert [0, 0] == [site.pyxis("0", "release").code for _ in range(2)]
    assert [False, True] == [path.exists() for path in paths]
    assert 0 == site.pyxis("1", "release").code
    assert ([], []) == (list(paths[0].parent.iterdir()), site.pins()["n1"])


@pytest.mark.parametrize(
    ("uri", "code"), [(f"docker://{UP}#lib/none:1", 2), ("dockerd://x", 64), ("docker://#x", 64)]
)
def test_pyxis_of_what_cannot_be_had(site: Site, uri: str, code: int) -> None:
    """One line on stderr, nothing on stdout, and nothing left."""
    ran = site.pyxis("2", "get", uri)

    assert (code, "", 1) == (ran.code, ran.out, len(ran.err.splitlines()))
    assert ran.err.startswith("registryd-pyxis-importer: ")
    assert [] == site.pins()["n1"]


def test_a_step_in_a_bundle(site: Site) -> None:
    """srun --container starts what export has written as a bundle, as an ordinary user, by the
    oci.conf of setup."""
    busybox = Path(need("busybox")).read_bytes()
    push_tree(site.registry, "lib/box", {"bin/busybox": busybox, "app/word": b"inside"})
    bundle = site.rig.home("eve") / "bundle"
    exported = site.rig.ctl("eve", "export", f"{UP}/lib/box:1", "-o", f"bundle:{bundle}")
    assert 0 == exported.code, exported.err

    words = ("srun", "-N2", f"--container={bundle}", "/bin/busybox", "cat", "/app/word")
    assert "insideinside" == site.rig.ok("eve", *words)


def test_an_image_that_only_its_user_may_have(site: Site, skopeo: Skopeo) -> None:
    """The nodes' own logins do not open it: no step fails for that, and it is fetched with the
    login of who starts it; another user's step gets nothing, though the node has it by then."""
    push_tree(site.registry, "lib/word", {"app/busybox": Path(need("busybox")).read_bytes()})
    target = f"docker://{site.guarded.name}/lib/word:1"
    skopeo.copy(
        f"docker://{site.registry.name}/lib/word:1", target, f"--dest-creds={USER}:{PASSWORD}"
    )
    login = site.rig.home("ann") / ".docker" / "config.json"
    login.parent.mkdir(exist_ok=True)
    word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    login.write_text(json.dumps({"auths": {PRIVATE: {"auth": word}}}))
    name = f"{PRIVATE}/lib/word:1"
    command = (str(site.rig.program), "exec", "-q", name, "--", "/app/busybox", "echo", "inside")
    words = ("srun", "-w", "n4", f"--comment=image={name}", *command)

    ann, eve = site.rig.run("ann", *words), site.rig.run("eve", *words)
    resolved = site.rig.run("ann", "srun", "-w", "n4", f"--image={name}", *command)

    assert (0, "inside\n") == (ann.code, ann.out), ann
    assert (3, "") == (eve.code, eve.out), eve
    assert (0, "inside\n") == (resolved.code, resolved.out), resolved
    site.until_unpinned()


def test_mpi_in_an_image(site: Site, tmp_path: Path) -> None:
    """Four ranks of an ordinary user on two nodes, each in the image by registryctl: their sum is
    right, ranks of a node share its namespaces (and so its memory), and nothing runs on."""
    before = running_as(USERS["ann"])
    program = tmp_path / "allreduce"
    environ = plain_environ(tmp_path / "home")
    succeed(["mpicc", "-o", str(program), str(PROGRAMS / "allreduce.c")], environ)
    needed = re.findall(r"(/\S+) \(", succeed(["ldd", str(program)], environ))
    files = {path.lstrip("/"): Path(path).read_bytes() for path in needed}
    push_tree(site.registry, "lib/mpi", files | {"app/allreduce": program.read_bytes()})
    command = f"exec {site.rig.program} exec $REGISTRYD_IMAGE -- /app/allreduce"
    words = ("srun", "--mpi=pmi2", "-N2", "-n4", "-w", "n[1-2]", f"--image={UP}/lib/mpi:1")

    with site.rig.told_apart():
        said = site.rig.ok("ann", *words, "sh", "-c", command)

    lines = sorted(line.split() for line in said.splitlines())
    assert ["n1", "n1", "n2", "n2"] == [line[0] for line in lines]
    assert {(str(USERS["ann"]), "6")} == {(line[1], line[-1]) for line in lines}
    assert {"0/4", "1/4", "2/4", "3/4"} == {line[3] for line in lines}
    assert 2 == len({line[2] for line in lines})
    assert lines[0][2] == lines[1][2] != lines[2][2] == lines[3][2]
    site.until_unpinned()
    site.rig.until(lambda: running_as(USERS["ann"]) <= before)


def test_the_epilog_clears_dead_mounts(site: Site) -> None:
    """What a job has mounted, and whose squashfuse ended with the job's processes, is not left."""
    push_tree(site.registry, "lib/left", {"app/word": b"inside"})
    name = f"{UP}/lib/left:1"
    command = f"""
    folder=$({site.rig.program} mount {name}) && cat "$folder/app/word"
    for each in /proc/[0-9]*; do
        read -r called <"$each/comm" || continue
        case $called in squashfuse*) kill -9 "${{each#/proc/}}" ;; esac
    done 2>/dev/null
    grep -c "$folder" /proc/self/mounts
    """
    said = site.rig.ok("ann", "srun", "-w", "n3", f"--image={name}", "sh", "-c", command)

    assert "inside1\n" == said
    site.until_unpinned()
    table = Path(f"/proc/{site.rig.nodes['n3'].holder}/mountinfo").read_text()
    assert "squashfuse" not in table


def running_as(uid: int) -> set[str]:
    """The processes of a user, on any node."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if path.stat().st_uid == uid:
                found.add(path.name)
    return found
