"""Commands of one job that share namespaces, so that the ranks of MPI share memory.

There is nobody who holds the namespaces but the commands themselves: the first one makes them, the
next ones enter those of any that still runs, and with the last one they are gone. So there is no
holder that could be killed or left behind.

A key has a folder: ``lock``, and ``members/`` with one empty file for each command, called
``PID-STARTTIME`` (the start time makes sure that the number was not given to another process).

Invariants:
- who makes or enters namespaces holds the lock until its command has begun: no two are made for one
  key, and nobody enters what is half built;
- a member that has ended is no member: its file is taken away by the next one that comes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from registryd.launch import kernel
from registryd.launch.errors import LaunchFailed

#: Seconds after which a company that nobody is in is forgotten: the steps of a job come and go.
FORGOTTEN: Final = 3600.0
#: Kinds of namespaces that are entered, in this order.
_MOUNTS: Final = "mnt"
_USERS: Final = "user"


def own_folder(path: Path) -> Path:
    """A folder that nobody else can look into or change, made if need be. Raises LaunchFailed."""
    try:
        # The one above too, whatever the umask: mounts of this user are in it.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LaunchFailed(f"{path}: {error.strerror}") from error
    if not is_own(path):
        raise LaunchFailed(
            f"{path} is not a folder of yours alone (remove it, or chmod 700, or set"
            " XDG_RUNTIME_DIR to one that is)"
        )
    return path


def is_own(path: Path) -> bool:
    """Whether this is a real folder of ours that nobody else can look into or change."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return ours and not found.st_mode & 0o077


class Company:
    """The commands of one key on this node; locked from its making until this process is another.

    The descriptor of the lock is closed by exec: that is when the next one may come.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / sha256(key.encode()).hexdigest()[:32]
        try:
            self._lock = _locked(self.folder)
            # By a descriptor, as the path may mean nothing in the view of files that is entered.
            members = own_folder(self.folder / "members")
            self._members = os.open(members, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise LaunchFailed(f"{self.folder}: {error.strerror}") from error

    def enter(self) -> bool:
        """Enter the namespaces of a member, if one runs; whether that was so."""
        for member in sorted(os.listdir(self._members)):
            if _entered(member):
                return True
            with suppress(OSError):
                os.unlink(member, dir_fd=self._members)
        return False

    def join(self) -> None:
        """Have this process be a member. Raises LaunchFailed."""
        name = f"{os.getpid()}-{started(os.getpid())}"
        try:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=self._members))
        except OSError as error:
            raise LaunchFailed(f"{self.folder}: {error.strerror}") from error


def _locked(folder: Path) -> int:
    """The lock of a company's folder, which is made if need be. Raises OSError, LaunchFailed."""
    while True:
        own_folder(folder)
        try:
            lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.stat(folder / "lock").st_ino == os.fstat(lock).st_ino:
                os.utime(lock)
                return lock
        except FileNotFoundError:  # it was tidied away in between
            continue
        os.close(lock)


def tidy(folder: Path, now: float) -> None:
    """Take away the folders of companies that ended a while ago."""
    for company in folder.glob(32 * "[0-9a-f]"):
        with suppress(OSError):
            if company.joinpath("lock").stat().st_mtime < now - FORGOTTEN:
                _take_away(company)


def _take_away(company: Path) -> None:
    """Remove a company's folder, unless somebody is there. Raises OSError."""
    lock = os.open(company / "lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        members = list((company / "members").iterdir())
        if any(started(int(each.name.partition("-")[0])) for each in members):
            return
        for each in members:
            each.unlink()
        for name in ("members", "base"):
            with suppress(FileNotFoundError):
                (company / name).rmdir()
        (company / "lock").unlink()
        company.rmdir()
    finally:
        os.close(lock)


def _entered(member: str) -> bool:
    """Enter the namespaces of a member; False where it runs no more."""
    number, _, began = member.partition("-")
    if not number.isdecimal() or started(int(number)) != began:
        return False
    opened: list[int] = []
    try:
        for kind in (_MOUNTS, _USERS):
            path = f"/proc/{number}/ns/{kind}"
            opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        if started(int(number)) != began or not _answers(f"/proc/{number}/root"):
            _close(opened)
            return False
        opened.append(kernel.owner_of(opened[0]))
    except OSError:
        _close(opened)
        return False
    try:
        _into(*opened)
    except OSError as error:
        raise LaunchFailed(f"the namespaces of process {number}: {error.strerror}") from error
    finally:
        _close(opened)
    return True


def _answers(root: str) -> bool:
    """Whether all that is seen from a root is there: the program that serves it may be dead."""
    try:
        paths = [root, *(entry.path for entry in os.scandir(root))]
        for path in paths:
            os.statvfs(path)
    except OSError as error:
        return error.errno != errno.ENOTCONN
    return True


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _into(mounts: int, users: int, owner: int) -> None:
    """Enter the mounts, by way of the user namespace that owns them. Raises OSError."""
    own = _inode_of("/proc/self/ns/user")
    if os.fstat(owner).st_ino != own:
        kernel.setns(owner, kernel.NEWUSER)
    kernel.setns(mounts, kernel.NEWNS)
    if os.fstat(users).st_ino not in (os.fstat(owner).st_ino, own):
        kernel.setns(users, kernel.NEWUSER)


def _inode_of(path: str) -> int:
    return os.stat(path).st_ino


def started(pid: int) -> str:
    """When a process began, in ticks since the machine's start; nothing when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if rest[0] in (b"Z", b"X") else rest[19].decode("latin-1")
