"""Stories of mounts that are held: by root, whom the kernel mounts for, and by an ordinary user."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from registryd.mounts.folder import outer
from tests.mounts.stage import NOBODY, Stage, open_stage, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces with a fuse")


@pytest.fixture(params=[0, NOBODY], ids=["root", "user"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Where root, and where an ordinary user mounts."""
    with open_stage(request.param) as opened:
        yield opened


@pytest.fixture
def users() -> Iterator[Stage]:
    """Where an ordinary user mounts."""
    with open_stage(NOBODY) as opened:
        yield opened


def test_one_mount_for_as_long_as_anybody_holds_it(stage: Stage) -> None:
    """Two holders have one mount, read-only and harmless; it goes when the last is killed."""
    file = stage.squashfs("a", hello="here\n")
    first = stage.hold(file, "sha256:aa").read()
    second = stage.hold(file, "sha256:aa").read()
    (line,) = stage.table()
    first.end()
    text = stage.run("cat", second.path / "hello")
    second.kill()
    until(lambda: not stage.table() and not stage.entries(), "unmounting")

    assert first.path == second.path
    assert "here\n" == text
    assert {"ro", "nosuid", "nodev"} <= set(line.split()[5].split(","))
    assert ("squashfuse" if stage.user else "kernel") == first.how == second.how
    assert [] == stage.processes("squashfuse_ll")


def test_racers_make_one_mount(stage: Stage) -> None:
    """Eight that begin at the same time find one mount, and all of them see what is in it."""
    file = stage.squashfs("a", hello="here\n")
    stage.environ["WAIT"] = "for each other"
    racers = [stage.hold(file, "sha256:aa") for _ in range(8)]
    for racer in racers:
        assert racer.process.stdout is not None
        assert "waiting\n" == racer.process.stdout.readline()
    for racer in racers:
        racer.go()
    places = {racer.read().path for racer in racers}
    (line,) = stage.table()
    text = stage.run("cat", racers[7].path / "hello")
    for racer in racers:
        racer.kill()
    until(lambda: not stage.table(), "unmounting")

    assert 1 == len(places)
    assert str(racers[0].path) in line
    assert "here\n" == text


def test_a_reference_passes_to_the_program_that_is_executed(users: Stage) -> None:
    """Who becomes another program holds the mount until that ends; and so does its child."""
    file = users.squashfs("a", hello="here\n")
    holder = users.hold(file, "k", "", "sh", "-c", "cat; cat $0/hello", "placeholder").read()
    other = users.hold(file, "k").read()
    other.kill()
    kept = users.table()
    holder.end()
    until(lambda: not users.table(), "unmounting")

    assert 1 == len(kept)


def test_a_job_step_has_a_mount_of_its_own(users: Stage) -> None:
    """What a scheduler may end with its step is nobody else's mount."""
    file = users.squashfs("a", hello="here\n")
    one = users.hold(file, "k", "7.0").read()
    two = users.hold(file, "k", "7.1").read()

    assert one.path != two.path
    assert 2 == len(users.table())


def test_a_dead_squashfuse_is_replaced(users: Stage) -> None:
    """Whoever comes after squashfuse was killed finds the contents at the same place."""
    file = users.squashfs("a", hello="here\n")
    first = users.hold(file, "k").read()
    (process,) = users.processes("squashfuse_ll")
    os.kill(process, signal.SIGKILL)
    until(lambda: "not connected" in users.run("ls", first.path), "the end of squashfuse")
    second = users.hold(file, "k").read()
    text = users.run("cat", second.path / "hello")
    first.kill()
    second.kill()
    until(lambda: not users.table() and not users.entries(), "unmounting")

    assert first.path == second.path
    assert "here\n" == text


def test_what_a_killed_watcher_leaves_is_cleared_by_the_next(stage: Stage) -> None:
    """Without its watcher a mount stays; whoever mounts another image takes it away."""
    file, other = stage.squashfs("a", hello="here\n"), stage.squashfs("b", hello="there\n")
    holder = stage.hold(file, "a").read()
    (watcher,) = stage.processes("watcher.py")
    os.kill(watcher, signal.SIGKILL)
    until(lambda: not stage.processes("watcher.py"), "the end of the watcher")
    holder.kill()
    left = stage.table()
    last = stage.hold(other, "b").read()
    (line,) = stage.table()

    assert 1 == len(left)
    assert str(last.path) in line
    assert [last.path.parent.name] == stage.entries()


def test_a_mount_without_its_watcher_gets_a_new_one(users: Stage) -> None:
    """The next who joins it sees that nobody would take it away, and mends that."""
    file = users.squashfs("a", hello="here\n")
    first = users.hold(file, "a").read()
    (watcher,) = users.processes("watcher.py")
    os.kill(watcher, signal.SIGKILL)
    until(lambda: not users.processes("watcher.py"), "the end of the watcher")
    second = users.hold(file, "a").read()
    mounts = users.table()
    first.kill()
    second.kill()
    until(lambda: not users.table() and not users.entries(), "unmounting")

    assert 1 == len(mounts)


def test_leftovers_of_a_restart_are_no_hindrance(stage: Stage) -> None:
    """Folders without mounts, of a node that was restarted, are used again or cleared away."""
    file = stage.squashfs("a", hello="here\n")
    path = stage.hold(file, "a").read().path
    stage.files.close()
    until(lambda: not stage.entries(), "unmounting")
    for name in (path.parent.name, "held-0000"):
        folder = stage.mounts / name
        (folder / "root").mkdir(parents=True)
        (folder / "about").write_text("{")
        (folder / "watch").touch()
        for each in (folder, *folder.iterdir()):
            os.chown(each, stage.user, stage.user)
    again = stage.hold(file, "a").read()
    text = stage.run("cat", again.path / "hello")

    assert again.path == path
    assert "here\n" == text
    assert [path.parent.name] == stage.entries()


def test_a_shell_that_stands_in_it_is_not_thrown_out(users: Stage) -> None:
    """Without a reference a mount goes from its place, but who uses it may read on to the end."""
    file = users.squashfs("a", hello="here\n")
    holder = users.hold(file, "a").read()
    script = "import os, sys; os.chdir(sys.argv[1]); print(flush=True); sys.stdin.read();"
    words = users.words(*users.python("-c", script + "print(open('hello').read())", holder.path))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        holder.kill()
        until(lambda: not users.entries(), "unmounting")
        said, _ = shell.communicate()
    until(lambda: not users.processes("squashfuse_ll"), "the end of squashfuse")

    assert "here" == said.strip()


def test_root_without_loop_devices_has_squashfuse() -> None:
    """Where the kernel does not mount it squashfuse does, as harmless and for all users."""
    with open_stage(0) as stage:
        file = stage.squashfs("a", hello="here\n")
        enter = ["nsenter", "--mount", f"--target={stage.namespace}"]
        hide = "mount --bind /dev/null /dev/loop-control"
        subprocess.run([*enter, "sh", "-c", hide], check=True)
        holder = stage.hold(file, "k").read()
        (line,) = stage.table()
        for folder in ("run", "run/registryd", "run/registryd/mounts", holder.path.parent):
            (stage.home / folder).chmod(0o711)
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        text = stage.run(*become, "cat", holder.path / "hello")

    assert "squashfuse" == holder.how
    assert {"ro", "nosuid", "nodev"} <= set(line.split()[5].split(","))
    assert "here\n" == text


HIDDEN = "for p in {}; do mount --bind /dev/null $(command -v $p); done"
REFUSED = [
    (HIDDEN.format("squashfuse_ll squashfuse"), "squashfuse_ll is not on the PATH (Debian: squash"),
    (HIDDEN.format("fusermount3"), "fusermount3 is not on the PATH (Debian: fuse3)"),
    ("umount /dev/fuse", "/dev/fuse cannot be opened by this user: permission denied (the ad"),
    ("mkdir run/registryd; chmod 777 run/registryd", "is not a folder that is of user 65534 alone"),
    ("ln -s / run/registryd", "is not a folder that is of user 65534 alone"),
]


@pytest.mark.parametrize(("before", "said"), REFUSED)
def test_what_a_machine_lacks_is_one_line(users: Stage, before: str, said: str) -> None:
    """A missing program, a closed /dev/fuse, a folder that is not ours: what to do is said."""
    file = users.squashfs("a", hello="here\n")
    enter = ["nsenter", "--mount", f"--target={users.namespace}", f"--wd={users.home}"]
    subprocess.run([*enter, "sh", "-c", before], check=True)
    holder = users.hold(file, "a")

    assert said in holder.failed()
    assert not users.table()


def test_root_of_a_user_namespace_mounts_for_it(users: Stage) -> None:
    """Without fusermount3 a user mounts in a namespace of their own, and it is seen there alone."""
    file = users.squashfs("a", hello="here\n")
    enter = ["nsenter", "--mount", f"--target={users.namespace}"]
    command = HIDDEN.format("fusermount3")
    subprocess.run([*enter, "sh", "-c", command], check=True)
    script = 'printf "%s " "$0"; cat "$0"/*/root/hello'
    then = ("sh", "-c", script, str(users.mounts))
    holder = users.hold(file, "a", "", *then, within=["unshare", "--map-root-user", "--mount"])
    said, _ = holder.process.communicate()
    until(lambda: not users.entries(), "unmounting")

    assert said.split()[-2:] == [str(users.mounts), "here"]
    assert not users.table()


@pytest.mark.parametrize(
    ("table", "user", "expected"),
    [
        ("         0          0 4294967295\n", 1000, 1000),
        ("0 1000 1\n", 0, 1000),
        ("0 1000 1\n1 100000 65536\n", 7, 100006),
        ("0 1000 1\n", 5, 5),
    ],
)
def test_whose_folder_it_is_in_a_user_namespace(table: str, user: int, expected: int) -> None:
    """Root of a namespace takes the place of the user who made it, and not root's."""
    assert expected == outer(table, user)
