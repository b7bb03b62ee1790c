"""Companies of commands: their folders, their locks, and what is left of those that ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registryd.launch.errors import LaunchFailed
from registryd.launch.sharing import FORGOTTEN, Company, own_folder, started, tidy

NOW = 1_000_000.0


def aged(company: Path, seconds: float) -> None:
    """Have a company be this old."""
    os.utime(company / "lock", (NOW - seconds, NOW - seconds))


def test_who_has_ended_is_no_member(tmp_path: Path) -> None:
    """A number that is another process's now, or nobody's, is entered by nobody and forgotten."""
    company = Company(own_folder(tmp_path / "run"), "key")
    ended = subprocess.run([sys.executable, "-c", ""], check=True)
    for name in ("1-0", f"{os.getpid()}-7", "x-y", "999999999-1"):
        (company.folder / "members" / name).touch()

    assert 0 == ended.returncode
    assert False is company.enter()
    assert [] == os.listdir(company.folder / "members")


def test_a_lock_is_had_by_one(tmp_path: Path) -> None:
    """Who comes next waits until the first one has begun its command: exec closes the lock."""
    script = (
        "import os, sys; from pathlib import Path; from registryd.launch.sharing import Company;"
        "company = Company(Path(sys.argv[1]), 'key');"
        "print('in', flush=True); os.read(0, 3);"
        "os.execvp('cat', ['cat'])"
    )
    folder = own_folder(tmp_path / "run")
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    )
    assert first.stdin and first.stdout and second.stdin and second.stdout
    ready = _first_of(first, second)
    other = second if ready is first else first
    assert ready.stdout and ready.stdin and other.stdout
    assert "in\n" == ready.stdout.readline()
    ready.stdin.write("go\nhello\n")
    ready.stdin.flush()

    assert "hello\n" == ready.stdout.readline()  # it is cat now
    assert "in\n" == other.stdout.readline()
    for process in (first, second):
        process.communicate()


def _first_of(*processes: subprocess.Popen[str]) -> subprocess.Popen[str]:
    import select

    outs = {process.stdout: process for process in processes}
    ready, _, _ = select.select(list(outs), [], [], 30)
    assert 1 == len(ready)
    return outs[ready[0]]


def test_what_is_left_goes_after_a_while(tmp_path: Path) -> None:
    """A company that is old and empty goes; one that is young, locked or has a member stays."""
    folder = own_folder(tmp_path / "run")
    old, young, locked, lived = (Company(folder, str(number)) for number in range(4))
    lived.join()
    for company in (old, young, lived):
        os.close(company._lock)
        aged(company.folder, FORGOTTEN + 1 if company is not young else 1)
    aged(locked.folder, FORGOTTEN + 1)
    (old.folder / "members" / "999999999-1").touch()
    (folder / "base").mkdir()
    tidy(folder, NOW)

    kept = {young.folder.name, locked.folder.name, lived.folder.name, "base"}
    assert kept == set(os.listdir(folder))


def test_the_folder_is_ours_alone(tmp_path: Path) -> None:
    """What others may enter, what is a link and what is somebody else's is refused."""
    shared, link = tmp_path / "shared", tmp_path / "link"
    shared.mkdir(mode=0o755)
    link.symlink_to(own_folder(tmp_path / "own"))
    for path in (shared, link):
        with pytest.raises(LaunchFailed, match="yours alone"):
            own_folder(path)


def test_the_folder_above_is_ours_too(tmp_path: Path) -> None:
    """A umask that lets the group write does not count: mount would refuse such a folder."""
    before = os.umask(0o002)
    try:
        own_folder(tmp_path / "registryd" / "run")
    finally:
        os.umask(before)

    assert 0o700 == (tmp_path / "registryd").stat().st_mode & 0o777


def test_when_a_process_began() -> None:
    """A living process has a time of its start, an ended one has none."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    begun = started(process.pid)
    process.communicate()

    assert begun.isdecimal()
    assert int(begun) >= int(started(os.getpid()))
    assert "" == started(process.pid)
