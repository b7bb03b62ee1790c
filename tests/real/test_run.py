"""Story: commands in an image, as root and as an ordinary user, with one daemon for both.

The ordinary user has no entry in the machine's user database, and a /dev/fuse that is open to all:
both by a mount namespace of each command's own.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.conftest import Upstream
from tests.real.run_image import make_run_image
from tests.real.run_people import NAME, NOBODY, USER, Me, person, servers
from tests.real.runtimes import Skopeo
from tests.real.stories import Daemon, daemon, toml
from tests.real.test_users import readable_code

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be an ordinary user")


@pytest.fixture(scope="module")
def node(
    tmp_path_factory: pytest.TempPathFactory, everyones: Upstream, skopeo: Skopeo
) -> Iterator[Daemon]:
    """A daemon whose upstream has the image, and whose socket everybody reaches."""
    layout = make_run_image(tmp_path_factory.mktemp("run"))
    skopeo.copy(f"oci:{layout}:run", f"docker://{everyones.registry.name}/lib/run:1")
    with tempfile.TemporaryDirectory(prefix="rd", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with daemon(Path(folder) / "n", everyones.sections) as running:
            yield running


@pytest.fixture(scope="module")
def code(node: Daemon) -> Path:
    """What registryctl is made of, where everybody may read it."""
    code = readable_code(node.folder)
    own = [code / "registryd", code / "cache"]
    subprocess.run([sys._base_executable, "-m", "compileall", "-q", *own], check=True)  # type: ignore[attr-defined]
    return code


@pytest.fixture(params=["root", "user"])
def me(request: pytest.FixtureRequest, node: Daemon, code: Path) -> Me:
    """Both kinds of people; the image is there for each."""
    return person(USER if request.param == "user" else 0, node, code)


@pytest.fixture
def ordinary(node: Daemon, code: Path) -> Me:
    """An ordinary user."""
    return person(USER, node, code)


def test_entrypoint_and_command(ordinary: Me) -> None:
    """run is entrypoint and arguments, else CMD; --entrypoint drops both; exec knows neither.
    What docker's users type besides is no error; an image for another platform is one."""
    said = {
        words: ordinary.ok(*words)
        for words in (
            ("run", NAME),
            ("run", NAME, "--", "a", "--", "b"),
            ("run", NAME, "a", "--env"),
            ("run", "--entrypoint", "/bin/sh", NAME, "-c", "echo $0 $PWD"),
            ("run", "--entrypoint", "", NAME, "linked"),
            ("exec", NAME, "--", "linked"),
            ("exec", "-it", "--rm", "--platform", "linux/amd64", NAME, "linked"),
        )
    }
    other = ordinary("run", "--platform", "linux/arm64", NAME)

    assert [
        "entry cmd\n",
        "entry a -- b\n",
        "entry a --env\n",
        f"/bin/sh {ordinary.home}\n",
        "linked\n",
        "linked\n",
        "linked\n",
    ] == list(said.values())
    assert (2, "") == (other.code, other.out)
    assert "there is no image for linux/arm64 in sha256:" in other.err
    assert "sh /bin/sh\n" == ordinary("shell", NAME, typed="echo sh $SHELL").out


def test_how_it_ends(me: Me) -> None:
    """The command's own status is ours: a code, a signal, and what shells say of no command."""
    ended = {
        shlex.join(words): me("exec", NAME, *words).code
        for words in (
            ("sh", "-c", "exit 7"),
            ("sh", "-c", "(kill -TERM $$); sleep 9"),
            ("nothing-there",),
            ("/etc/motd",),
        )
    }

    assert [7, -signal.SIGTERM, 127, 126] == list(ended.values()), ended
    assert "SigIgn:\t0000000000000000\n" == me.ok(
        "exec", NAME, "grep", "SigIgn", "/proc/self/status"
    )


def test_a_signal_and_a_descriptor_reach_the_command(me: Me) -> None:
    """The command is the very process that was begun: its number, its signals, its open files."""
    read, write = os.pipe()
    script = f"trap 'echo ended; exit 3' TERM; echo $$ >&{write}; while :; do sleep 0.02; done"
    os.set_inheritable(write, True)
    environ = me.environment()
    with subprocess.Popen(
        me.command("exec", NAME, "sh", "-c", script),
        env=environ,
        cwd=me.home,
        stdout=subprocess.PIPE,
        pass_fds=(write,),
    ) as process:
        os.close(write)
        with os.fdopen(read) as pipe:
            number = int(pipe.readline())
            process.terminate()
            out, _ = process.communicate(timeout=30)

    assert (process.pid, b"ended\n", 3) == (number, out, process.returncode)


def test_the_environment(ordinary: Me) -> None:
    """The image wins over the caller, --env over --env-file over the image; --clearenv forgets."""
    file = ordinary.home / "env"
    file.write_text("# a comment\nOF_FILE=file\nBOTH=file\nHERE\n")
    here = ordinary.with_environ(HERE="here", BOTH="caller", LD_LIBRARY_PATH="/x", SLURM_PROCID="3")
    names = (
        "HERE",
        "BOTH",
        "LD_LIBRARY_PATH",
        "SLURM_PROCID",
        "OF_IMAGE",
        "OF_FILE",
        "PATH",
        "HOME",
    )

    def seen(*flags: str) -> list[str]:
        found = here.ok("exec", *flags, NAME, "env").splitlines()
        pairs = dict(line.partition("=")[::2] for line in found)
        return [pairs.get(name, "-") for name in names]

    home, path = str(ordinary.home), "/bin:/own"
    assert ["here", "image", "-", "3", "image", "-", path, home] == seen()
    given = ("--env-file", str(file), "--env", "OF_IMAGE=flag", "-e", "LD_LIBRARY_PATH=/y")
    assert ["here", "file", "-", "3", "image", "file", path, home] == seen(*given[:2])
    assert ["here", "file", "/y", "3", "flag", "file", path, home] == seen(*given)
    assert ["-", "image", "-", "-", "image", "-", path, home] == seen("--clearenv")
    prefixed = here.with_environ(REGISTRYD_ENV_BOTH="prefix")
    assert "prefix\n" == prefixed.ok("exec", NAME, "sh", "-c", "echo $BOTH")


def test_what_it_sees(me: Me) -> None:
    """Home and folder are there to write in; the image is read only, all its files readable; the
    user has a name; whatever is made is the caller's."""
    script = "id -un; pwd; cat /data/secret /etc/motd; echo mine > made; stat -c %u made /data; "
    script += "touch /data/x; ls /mnt/none"
    ran = me("exec", NAME, "sh", "-c", script)
    name = "root" if me.uid == 0 else f"user{me.uid}"

    assert f"{name}\n{me.home}\nroot's\nhello\n{me.uid}\n{me.uid}\n" == ran.out
    assert "Read-only file system" in ran.err
    assert (b"mine\n", me.uid) == (
        (me.home / "made").read_bytes(),
        (me.home / "made").stat().st_uid,
    )


def test_nothing_gives_it_a_right(me: Me) -> None:
    """No file of the image or of a bind is a device or gives a right, and no program gives more:
    an ordinary user's command has no capability, root's those that docker leaves."""
    shown = me.home / "with-rights"
    shown.mkdir(exist_ok=True)
    words = (
        "-v",
        f"{shown}:/data/rights",
        NAME,
        "cat",
        "/proc/self/status",
        "/proc/self/mountinfo",
    )
    lines = [line.split() for line in me.ok("exec", *words).splitlines()]
    status = {line[0]: line[1] for line in lines if line[0].endswith(":") and len(line) == 2}
    mounts = {line[4]: set(line[5].split(",")) for line in lines if line[0].isdecimal()}
    open_to = [
        path
        for path, options in mounts.items()
        if not f"{path}/".startswith("/dev/") and not {"nosuid", "nodev"} <= options
    ]

    assert "1" == status["NoNewPrivs:"]
    allowed = 0 if me.uid else 0xA80425FB
    assert {allowed} == {int(status[f"Cap{each}:"], 16) for each in ("Bnd", "Prm", "Eff")}
    assert {"0" * 16} == {status["CapInh:"], status["CapAmb:"]}
    assert {"/", "/data/rights"} <= set(mounts)
    assert [] == open_to


def test_writing_and_being_somebody_else(me: Me) -> None:
    """--writable-tmpfs takes everything, and forgets it; --user is seen as that user."""
    script = "echo 1 > /data/x; rm /etc/motd; mkdir /new /opt/tool/y; ls / /opt/tool"
    written = me.ok("exec", "--writable-tmpfs", NAME, "sh", "-c", script).split()
    again = me.ok("exec", NAME, "cat", "/etc/motd")
    seen = {user: me.ok("exec", "--user", user, NAME, "id") for user in ("0", "web", "7:8")}

    assert {"new", "y"} <= set(written)
    assert "hello\n" == again
    assert ["uid=0(root) gid=0", "uid=33(web) gid=34", "uid=7(user7) gid=8"] == [
        " ".join(text.split()[:2]).removesuffix("(root)").split("(group")[0]
        for text in seen.values()
    ]
    assert 64 == me("exec", "--user", "nobody-here", NAME, "id").code


def test_binds(ordinary: Me) -> None:
    """A bind has any place, through the image's links too; ro is read only; what would hide the
    system is refused in a line."""
    place = ordinary.home / "place"
    place.mkdir(exist_ok=True)
    os.chown(place, ordinary.uid, ordinary.uid)
    (place / "file").write_text("bound\n")
    flags = ("-v", f"{place}:/new/deep/place", "-B", f"{place}:/run/linked:ro,{place}/file:/opt/f")
    script = "cat /new/deep/place/file /data/linked/file /opt/f; ls /opt; touch /new/deep/place/w; "
    ran = ordinary("exec", *flags, NAME, "sh", "-c", script + "touch /run/linked/r")

    assert "bound\nbound\nbound\nf\ntool\n" == ran.out, ran
    assert ["file", "w"] == sorted(os.listdir(place))
    for bind, said in (
        (f"{place}:/etc", "nothing is bound to /etc"),
        ("/not/there:/x", "/not/there is not there"),
        (f"{place}:/tmp/none/x", "has no none/x"),
    ):
        refused = ordinary("exec", "--bind", bind, NAME, "true")
        assert (64, 1, True) == (
            refused.code,
            len(refused.err.splitlines()),
            said in refused.err,
        ), refused


def test_as_little_as_possible(ordinary: Me) -> None:
    """--no-mounts shows nothing of the caller's, begins where the image says, and /tmp is empty."""
    script = f"pwd; ls /tmp {ordinary.home}; echo x > /tmp/x && cat /tmp/x"
    ran = ordinary("exec", "--no-mounts", NAME, "sh", "-c", script)

    assert "/data\n/tmp:\nx\n" == ran.out
    assert "No such file" in ran.err


def test_ranks_share_memory(me: Me) -> None:
    """Commands of one job and image are in the same namespaces, and meet in a segment; the next
    ones are too while one of them runs. Another job's, and who asks for none, are not."""
    job = me.with_environ(SLURM_JOB_ID="42", SLURM_STEP_ID="0")
    meeting = me.home / "meeting"
    meeting.mkdir()
    os.chown(meeting, me.uid, me.uid)
    key = str(7000 + me.uid % 1000)
    ranks = [
        job.begin("exec", NAME, "rank", *words, str(meeting))
        for words in (("put", key, "ping"), ("get", key, "pong"))
    ]
    said = [rank.communicate(timeout=60)[0] for rank in ranks]

    assert ["pong\n", "ping\n"] == said
    spaces = "readlink /proc/self/ns/user; readlink /proc/self/ns/mnt; "
    wait = f"echo > {meeting}/up; until test -e {meeting}/end; do sleep 0.02; done"
    first = job.begin("exec", NAME, "sh", "-c", spaces + wait)
    while not (meeting / "up").exists():
        assert first.poll() is None
        os.sched_yield()
    crowd = [job.begin("exec", NAME, "sh", "-c", spaces) for _ in range(3)]
    together = {rank.communicate(timeout=60)[0] for rank in crowd}
    others = {
        me.ok("exec", NAME, "sh", "-c", spaces),
        job.ok("exec", "--no-join", NAME, "sh", "-c", spaces),
        me.with_environ(SLURM_JOB_ID="43").ok("exec", NAME, "sh", "-c", spaces),
    }
    (meeting / "end").touch()
    alone = {first.communicate(timeout=60)[0]}

    assert alone == together
    assert together.isdisjoint(others)


def test_what_is_killed_is_no_hindrance(me: Me, node: Daemon) -> None:
    """Neither a rank that is killed as it stands, nor the program that serves the image to others
    that still run, hinders the next one of the same job."""
    job = me.with_environ(PBS_JOBID="9.host")
    up = me.home / "up"

    def begun() -> subprocess.Popen[str]:
        up.unlink(missing_ok=True)
        rank = job.begin("exec", NAME, "sh", "-c", f"echo > {up}; sleep 60")
        while not up.exists():
            assert rank.poll() is None
            os.sched_yield()
        return rank

    first = begun()
    first.kill()
    first.communicate()
    second = begun()
    serving = servers(node.root)
    for server in serving:
        os.kill(server, signal.SIGKILL)
    third = job.ok("exec", NAME, "echo", "again")
    second.kill()
    second.communicate()

    assert serving
    assert "again\n" == third


def test_what_a_job_found_and_is_no_more(me: Me) -> None:
    """The image that a job has found may be gone: that is said once, and then found out anew."""
    job = me.with_environ(LSB_JOBID="5", XDG_RUNTIME_DIR=str(me.home / "gone"))
    (me.home / "gone").mkdir(mode=0o700)
    os.chown(me.home / "gone", me.uid, me.uid)
    job.ok("exec", NAME, "true")
    names = me.home / "gone/registryd/run/names"
    (record,) = (path for path in names.iterdir() if not path.suffix)
    said = json.loads(record.read_text())
    record.write_text(json.dumps({**said, "digest": f"sha256:{0:064}", "path": ""}))
    lost = job("exec", NAME, "true")

    assert (2, 1) == (lost.code, lost.err.count("\n")), lost
    assert "" == job.ok("exec", NAME, "true")


@pytest.mark.parametrize("uid", [0, NOBODY])
@pytest.mark.parametrize("runtime", ["bwrap", "runc"])
def test_other_runtimes(uid: int, runtime: str, node: Daemon, code: Path) -> None:
    """Where another program is to start the command, it sees the same, and a signal reaches it."""
    me = person(uid, node, code)
    place = me.home / "shown"
    place.mkdir(exist_ok=True)
    script = "pwd; echo /new/deep/*; cat /data/../etc/motd; touch /new/deep/x /etc/x; exit 9"
    flags = ("--runtime", runtime, "-v", f"{place}:/new/deep/shown:ro")
    ran = me("exec", *flags, NAME, "sh", "-c", script)
    waiting = me.begin(
        *("exec", "--runtime", runtime, NAME, "sh", "-c"),
        "trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done",
    )
    assert waiting.stdout is not None
    assert "up\n" in iter(waiting.stdout.readline, "")
    waiting.terminate()
    waiting.communicate(timeout=30)

    assert (9, f"{me.home}\n/new/deep/shown\nhello\n") == (ran.code, ran.out), ran
    assert 2 == ran.err.count("Read-only file system")
    assert 5 == waiting.returncode
    assert 64 == me("exec", "--runtime", runtime, "--writable-tmpfs", NAME, "true").code


def test_a_crowd_without_a_daemon(node: Daemon, everyones: Upstream, code: Path) -> None:
    """Sixteen ranks that begin at once in one job, where no daemon runs: the image is fetched and
    made once, all are in one user namespace, and all end well."""
    me = person(USER, node, code)
    alone = me.with_environ(REGISTRYD_ROOT=str(me.home / "own-cache"), SLURM_JOB_ID="16")
    config = me.home / ".config/registryd/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(toml(everyones.sections))
    gate = me.home / "gate"
    script = f"readlink /proc/self/ns/user; until test -e {gate}; do sleep 0.05; done"
    ranks = [alone.begin("exec", "-q", NAME, "sh", "-c", script) for _ in range(16)]
    said = [rank.stdout.readline() for rank in ranks if rank.stdout is not None]
    gate.touch()
    ends = [(rank.communicate(timeout=60)[0], rank.returncode) for rank in ranks]

    assert 1 == len(set(said)), set(said)
    assert {("", 0)} == set(ends)
    assert said[0].startswith("user:[")
