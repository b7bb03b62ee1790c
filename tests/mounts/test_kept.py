"""Stories of registryctl mount and unmount on files: by root, and by an ordinary user."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mounts.stage import NOBODY, Stage, open_stage, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces with a fuse")


@pytest.fixture(params=[0, NOBODY], ids=["root", "user"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Where root, and where an ordinary user mounts; the folder they stand in is theirs."""
    with open_stage(request.param) as opened:
        os.chown(opened.home, request.param, request.param)
        yield opened
        opened.ctl("unmount", "--all", "--lazy")
        assert [] == opened.table()


@pytest.fixture
def users() -> Iterator[Stage]:
    """Where an ordinary user mounts."""
    with open_stage(NOBODY) as opened:
        os.chown(opened.home, NOBODY, NOBODY)
        yield opened
        opened.ctl("unmount", "--all", "--lazy")
        assert [] == opened.table()


def told(stage: Stage, code: int, *words: str | Path) -> str:
    """The one line of a command that ends with this code."""
    ended, out, err = stage.ctl(*words)
    assert (code, "") == (ended, out), (ended, out, err)
    assert 1 == len(err.splitlines()), err
    return err.removeprefix("registryctl: ")


def listed(stage: Stage) -> list[tuple[str, str, int]]:
    """Kind, folder and references of what is mounted."""
    mounts = json.loads(stage.ctl("mount", "--format", "json")[1])["mounts"]
    return [(each["kind"], each["folder"], each["references"]) for each in mounts]


def stand_in(stage: Stage, folder: str) -> subprocess.Popen[bytes]:
    """A process of the user that stands in a folder, until its stdin ends."""
    process = subprocess.Popen(
        stage.words("sh", "-c", 'cd "$1" && echo there && exec cat', "sh", folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert b"there\n" == process.stdout.readline()
    return process


def test_mounted_twice_is_unmounted_twice(stage: Stage) -> None:
    """A file is a folder after the command has ended, and until it was unmounted as often; a folder
    that was made for it goes with it, and what it is called does not matter."""
    file = stage.squashfs("a", hello="here\n")
    folder = str(stage.home / "new, dir\\")
    _, own, _ = stage.ctl("mount", file)
    first = stage.ctl("mount", file, folder)
    second = stage.ctl("mount", file, folder)
    text = stage.run("cat", f"{folder}/hello", f"{own}/hello")
    before = listed(stage)
    once = stage.ctl("unmount", folder)
    after = listed(stage)
    twice = stage.ctl("umount", folder)
    by_name = stage.ctl("unmount", "./a.sqsh")
    again = told(stage, 2, "unmount", folder)

    assert (0, folder, "") == first == second
    assert "here\nhere\n" == text
    assert {("kept", folder, 2), ("kept", own, 1)} == set(before)
    assert {("kept", folder, 1), ("kept", own, 1)} == set(after)
    assert (0, "", f"{folder} stays: it was mounted once more") == once
    assert ((0, folder, ""), (0, own, "")) == (twice, by_name)
    assert f"{folder} is not mounted (registryctl mount lists what is)" == again
    assert ([], False) == (stage.entries(), os.path.exists(folder))


def test_what_is_in_use_is_unmounted_lazily_alone(stage: Stage) -> None:
    """Who stands in it is named, and it stays; with --lazy it goes, and they read on."""
    file = stage.squashfs("a", hello="here\n")
    folder = stage.ctl("mount", file)[1]
    with stand_in(stage, folder) as user:
        line = told(stage, 1, "unmount", folder)
        kept = listed(stage)
        lazily = stage.ctl("unmount", "--lazy", folder)
        left = stage.table()
        user.communicate()
    until(lambda: not stage.processes("squashfuse_ll"), "the end of squashfuse")

    assert line == (
        f"{folder} is in use by cat (pid {user.pid})"
        " (--lazy takes it from its place now, and it ends with them)"
    )
    assert [("kept", folder, 1)] == kept
    assert (0, folder, "") == lazily
    assert [] == left


def test_a_dead_squashfuse_is_mounted_anew(users: Stage) -> None:
    """Killed, it is no longer listed; mounting the file again makes the folder whole."""
    file = users.squashfs("a", hello="here\n")
    folder = users.ctl("mount", file, "d")[1]
    (process,) = users.processes("squashfuse_ll")
    os.kill(process, signal.SIGKILL)
    until(lambda: "not connected" in users.run("ls", folder), "the end of squashfuse")
    gone = listed(users)
    again = users.ctl("mount", file, "d")
    text = users.run("cat", f"{folder}/hello")

    assert [] == gone
    assert (0, folder, "") == again
    assert "here\n" == text


def test_records_of_a_restarted_node_are_cleared(stage: Stage) -> None:
    """What is written down and no longer mounted, or only half written, hinders nobody."""
    file = stage.squashfs("a", hello="here\n")
    folder = stage.ctl("mount", file, "d")[1]
    (name,) = stage.entries()
    record = json.loads((stage.mounts / name / "about").read_text())
    stage.ctl("unmount", folder)
    texts = [json.dumps(record), json.dumps(record | {"references": 0, "device": ""}), '{"im', "{}"]
    for number, text in enumerate(texts):
        entry = stage.mounts / (name if not number else f"kept-{number}")
        entry.mkdir()
        (entry / "about").write_text(text)
        for path in (entry, entry / "about"):
            os.chown(path, stage.user, stage.user)
    mounts = listed(stage)
    again = stage.ctl("mount", file, "d")

    assert [] == mounts
    assert (0, folder, "") == again
    assert [name] == stage.entries()


def test_wrong_places_and_files_are_told(users: Stage) -> None:
    """What cannot be mounted, or not there, is one line, and nothing is left of the attempt."""
    file, other = users.squashfs("a", hello="here\n"), users.squashfs("b", hello="there\n")
    (users.home / "c.sqsh").write_bytes(file.read_bytes()[:200])
    os.mkfifo(users.home / "pipe.sqsh", 0o644)
    users.ctl("mount", file, "d")
    before = users.entries()
    lines = [
        told(users, 1, "mount", "./none.sqsh"),
        told(users, 1, "mount", "./pipe.sqsh"),
        told(users, 1, "mount", "c.sqsh", "e"),
        told(users, 1, "mount", other, "d"),
        told(users, 1, "mount", other, "run"),
        told(users, 1, "mount", other, "x/y"),
        told(users, 64, "unmount"),
        told(users, 64, "unmount", "--all", "d"),
    ]
    home = users.home

    assert [
        f"{home}/none.sqsh: no such file or directory",
        f"{home}/pipe.sqsh is no file that holds a squashfs",
        f"{home}/c.sqsh is cut off",
        f"{home}/d has {file} mounted on it: unmount that first",
        f"{home}/run is not empty (name a folder that is, or a new one)",
        f"{home}/x/y: no such file or directory",
        "name an image, a file or a folder, or say --all",
        "name an image, a file or a folder, or say --all",
    ] == [line.partition(": its squashfs has")[0] for line in lines]
    assert before == users.entries()
    assert not (home / "e").exists()


def test_all_of_it_and_one_of_several(users: Stage) -> None:
    """A file on two folders is unmounted by folder; --all ends every mount of the user's."""
    file = users.squashfs("a", hello="here\n")
    places = [users.ctl("mount", file, name)[1] for name in ("d", "e")]
    line = told(users, 64, "unmount", file)
    users.ctl("mount", file, "d")
    code, out, _ = users.ctl("unmount", "--all")

    assert f"{file} is mounted on {places[0]}, {places[1]}: name the folder" == line
    assert (0, set(places)) == (code, set(out.split()))


def test_nothing_of_roots_is_taken_away_for_a_user(users: Stage) -> None:
    """What a job has left is unmounted as its user: a link that they put in its way leads root to
    no mount of the machine's."""
    file = users.squashfs("a", hello="here\n")
    folder = users.ctl("mount", file, "d")[1]
    (process,) = users.processes("squashfuse_ll")
    os.kill(process, signal.SIGKILL)
    (users.home / "way").symlink_to("roots")
    script = (
        'mkdir -p "$1/roots/etc" && mount -t tmpfs none "$1/roots/etc" && exec "$2" -c'
        " 'import sys; from registryd.mounts.dead import clear, take_away;"
        " take_away(sys.argv[1], int(sys.argv[2])); print(clear(int(sys.argv[2])))'"
        ' "$1/way/etc" "$3"'
    )
    python, as_root = users.python()[0], replace(users, user=0)
    cleared = as_root.run("sh", "-c", script, "sh", users.home, python, str(NOBODY))
    table = users.run("cat", "/proc/self/mountinfo")
    as_root.run("umount", users.home / "roots/etc")

    assert f"['{folder}']\n" == cleared
    assert f" {users.home}/roots/etc " in table
    assert f" {folder} " not in table
