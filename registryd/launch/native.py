"""The usual way: namespaces of our own, made in this very process, which then becomes the command.

So the command has this process's number, terminal, open files and signals, and ends with its own
status. As an ordinary user it has a user namespace in which it is who it was; root needs none.

Invariants:
- mounts are private to the command: nothing of them is seen outside, nothing is left when it ends;
- no privilege is left when the command begins, but what docker leaves to root;
- once the old root is gone nothing more of Python is loaded: all that is needed is imported above.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from registryd.launch import kernel
from registryd.launch.errors import LaunchFailed
from registryd.launch.identity import Identity
from registryd.launch.plan import Launch
from registryd.launch.view import Step
from registryd.oci.capabilities import ROOT_KEEPS

#: Exit codes of shells for a command that is not there, and for one that cannot be run.
NOT_FOUND: Final = 127
NOT_RUN: Final = 126
#: What else is to be said of a command that the kernel does not run.
_HINTS: Final = {
    errno.ENOEXEC: f" (it is for another machine than {os.uname().machine}, or a script without #!)"
}


def leave() -> None:
    """Give this process mounts of its own. Raises LaunchFailed where it may not have them.

    In a user namespace it is root of it for now: what it mounts then belongs to the caller.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid != 0 or not _unshared(kernel.NEWNS):
            kernel.unshare(kernel.NEWUSER | kernel.NEWNS)
            _map((0, uid), (0, gid))
        kernel.mount("none", "/", flags=kernel.REC | kernel.SLAVE)
    except OSError as error:
        who = "root" if uid == 0 else f"user {uid}"
        raise LaunchFailed(f"this machine gives {who} no namespaces: {error.strerror}") from error


def _unshared(flags: int) -> bool:
    try:
        kernel.unshare(flags)
    except PermissionError:  # root in name only, as in a container
        return False
    return True


def _map(uid: tuple[int, int], gid: tuple[int, int]) -> None:
    """Say which id of the namespace above the first of each pair is. Raises OSError."""
    lines = (
        ("setgroups", "deny"),
        ("uid_map", f"{uid[0]} {uid[1]} 1"),
        ("gid_map", f"{gid[0]} {gid[1]} 1"),
    )
    for name, line in lines:
        with open(f"/proc/self/{name}", "wb", buffering=0) as file:
            file.write(line.encode())


def furnish(base: str) -> str:
    """Make an empty folder of ours the place where the view is built; where the image is mounted.

    Raises LaunchFailed.
    """
    try:
        kernel.mount("none", base, "tmpfs", kernel.NOSUID | kernel.NODEV, "mode=0755")
        for name in ("image", "root", "files", "upper", "work"):
            os.mkdir(f"{base}/{name}", 0o755)
    except OSError as error:
        raise LaunchFailed(f"{base}: {error.strerror}") from error
    return f"{base}/image"


def build(steps: Sequence[Step], base: str) -> None:
    """Make the view, and enter it. Raises LaunchFailed."""
    try:
        for number, step in enumerate(steps):
            _do(step, base, number)
        kernel.pivot_root(f"{base}/root")
    except OSError as error:
        where = str(error.filename or "a mount").removeprefix(f"{base}/root")
        raise LaunchFailed(f"{where or '/'}: {error.strerror}") from error


def _do(step: Step, base: str, number: int) -> None:
    """Carry out one step. Raises OSError."""
    path = f"{base}/root{step.target.rstrip('/')}"
    if step.action == "bind":
        kernel.mount(step.source, path, flags=kernel.BIND | kernel.REC)
        read_only = kernel.RDONLY if step.read_only else 0
        if not step.devices:
            kernel.restrict(path, kernel.NOSUID | kernel.NODEV | read_only, recursive=True)
    elif step.action == "overlay":
        layers = f"lowerdir={step.source},upperdir={base}/upper,workdir={base}/work"
        _overlay(path, layers)
    elif step.action == "tmpfs":
        kernel.mount("none", path, "tmpfs", kernel.NOSUID | kernel.NODEV, f"mode={step.mode:o}")
    elif step.action == "seal":
        kernel.restrict(path, kernel.RDONLY, recursive=False)
    elif step.action == "folder":
        _mkdir(path, step.mode)
    elif step.action == "point":
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    elif step.action == "link":
        os.symlink(step.text, path)
    elif step.action == "write":
        file = f"{base}/files/{number}"
        with open(file, "w", encoding="utf-8", errors="surrogateescape") as written:
            written.write(step.text)
        kernel.mount(file, path, flags=kernel.BIND)
        kernel.restrict(path, kernel.RDONLY, recursive=False)


def _overlay(path: str, layers: str) -> None:
    """A layer in memory over the image; in a user namespace its marks are user.* attributes."""
    flags = kernel.NOSUID | kernel.NODEV
    try:
        kernel.mount("overlay", path, "overlay", flags, f"{layers},userxattr")
    except OSError:  # Linux before 5.11 knows only the other kind
        kernel.mount("overlay", path, "overlay", flags, layers)


def _mkdir(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise


def become(user: Identity) -> None:
    """Be this user from now on. Raises LaunchFailed.

    Real root becomes it; others are seen as it in one more namespace, and stay who they are.
    """
    try:
        if kernel.outermost():
            if (user.uid, user.gid) != (os.geteuid(), os.getegid()):
                os.setgroups([user.gid])
                os.setresgid(user.gid, user.gid, user.gid)
                os.setresuid(user.uid, user.uid, user.uid)
        elif (user.uid, user.gid) != (0, 0):
            kernel.unshare(kernel.NEWUSER)
            _map((user.uid, 0), (user.gid, 0))
    except OSError as error:
        raise LaunchFailed(f"cannot become user {user.uid}: {error.strerror}") from error


def give_up() -> None:
    """Lose every privilege, but for what docker leaves to root. Raises LaunchFailed."""
    root = os.geteuid() == 0 and kernel.outermost()
    kept = frozenset(ROOT_KEEPS.values()) & kernel.capabilities() if root else frozenset[int]()
    try:
        kernel.drop_privileges(kept)
        kernel.set_capabilities(kept)
        kernel.stay_visible()
    except OSError as error:
        raise LaunchFailed(f"privileges cannot be given up: {error.strerror}") from error


def begin(launch: Launch) -> NoReturn:
    """Become the command. Raises LaunchFailed, with shells' exit codes."""
    folder = _entered(launch.folders)
    signal.setitimer(signal.ITIMER_REAL, 0)  # how long it took to get here was limited, not this
    if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()):  # it was to be ignored
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would keep that
        signal.signal(number, signal.SIG_DFL)
    raise _begun(launch.argv, {**launch.env, "PWD": folder})


def _entered(folders: Sequence[str]) -> str:
    """Go to the first of these that lets us in, and say which. Raises CommandNotRun."""
    why = ""
    for folder in folders:
        try:
            os.chdir(folder)
        except OSError as error:
            why = why or f"{folder}: {error.strerror}"
        else:
            return folder
    raise CommandNotRun(f"there is no folder to begin in: {why}")


def _begun(argv: Sequence[str], env: Mapping[str, str]) -> LaunchFailed:
    """Why the command could not be begun."""
    name = argv[0]
    places = [""] if "/" in name else [f"{each or '.'}/" for each in env["PATH"].split(":")]
    why: OSError | None = None
    there = False
    for place in places:
        try:
            os.execve(place + name, tuple(argv), env)  # noqa: S606 - no shell is wanted
        except (FileNotFoundError, NotADirectoryError):
            there = there or os.path.exists(place + name)
        except OSError as error:
            why = error
    if why is None and there:
        return CommandMissing(
            f"{name}: cannot be run: what it is run by (the program after its #!, or its loader) is"
            " not in the image"
        )
    if why is None:
        return CommandMissing(f"{name}: there is no such command in the image")
    hint = _HINTS.get(why.errno or 0, "")
    return CommandNotRun(f"{name}: cannot be run: {why.strerror}{hint}")


class CommandMissing(LaunchFailed):
    """Raised when the image has no such command."""

    exit_code = NOT_FOUND


class CommandNotRun(LaunchFailed):
    """Raised when the command is there, and the kernel does not run it."""

    exit_code = NOT_RUN
