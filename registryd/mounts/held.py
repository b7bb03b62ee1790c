"""One mount of a squashfs per node, user and namespace, for as long as anybody refers to it.

An entry is a folder of the user's runtime folder: ``root`` in it is mounted on, and a shared lock
of the folder itself is a reference. A watcher waits to have that lock alone, and then unmounts.
Invariants:
- a reference ends with its descriptor: whoever inherits that holds it, and the kernel lets go for
  those who die;
- of those who begin at the same time one mounts, and the others find its mount;
- a mount whose squashfuse or watcher has died is found out and made anew by whoever comes next, and
  what nobody will come for (a watcher killed, a node restarted) is cleared away by them;
- a mount belongs to a mount namespace, for it is seen in no other; and to a ``scope`` (a job's
  step), for a scheduler that ends one step's processes ends squashfuse with them.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from registryd.mounts import fuse, kernel, watcher
from registryd.mounts.errors import MountFailed, NotMountable
from registryd.mounts.folder import runtime_folder
from registryd.mounts.found import Found, find_squashfs
from registryd.mounts.locks import door, locked, take, taken

How = Literal["kernel", "squashfuse"]
#: What the name of an entry that is counted by locks begins with.
HELD: Final = "held-"


@dataclass(frozen=True, slots=True)
class Held:
    """A folder with a squashfs in it, there for as long as ``lock`` is open anywhere.

    ``lock`` is inheritable: a program that is executed with it keeps the reference.
    """

    path: Path
    lock: int
    how: How

    def release(self) -> None:
        """Let go; once only."""
        os.close(self.lock)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be mounted: an open file, where its squashfs is, and what it is called."""

    file: int
    found: Found
    key: str

    def label(self) -> str:
        """As the list of mounts has it; a comma would end the option."""
        return self.key.replace(",", "_").replace("\\", "_")


def acquire(
    source: int | Path,
    *,
    key: str = "",
    scope: str = "",
    image: str = "",
    environ: Mapping[str, str],
) -> Held:
    """The contents of a squashfs (or of a SIF) as a folder, mounted where that is not done yet.

    ``source`` is a file or a descriptor of one, which may be closed afterwards (an unlinked file
    stays readable while it is mounted). ``key`` names the contents, as a digest does: the same key
    means the same mount, whoever brings the file. Without it the file itself does. ``image`` is
    what lists call it.
    The kernel mounts for root where it can, and squashfuse for everybody else.
    Raises NotMountable, MountFailed.
    """
    with ExitStack() as files:
        file = opened(source, files)
        name = str(source) if isinstance(source, Path) else key or "the file"
        key = key or identity(file)
        wanted = Wanted(file, find_squashfs(file, name), key)
        home = runtime_folder(environ, os.geteuid())
        entry = home / entry_name(HELD, key, str(wanted.found.offset), scope)
        held = _joined(entry)
        if held is None:
            with door(home):
                sweep(home, environ, besides=entry)
                held = _begun(entry, wanted, image or name, environ)
    return held


def opened(source: int | Path, files: ExitStack) -> int:
    """The file, open for reading. Raises NotMountable."""
    if isinstance(source, int):
        return source
    try:
        # A pipe would keep us until somebody writes to it; of a file it changes nothing.
        file = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NotMountable(f"{source}: {(error.strerror or str(error)).lower()}") from error
    files.callback(os.close, file)
    return file


def identity(file: int) -> str:
    """A key for a file that has no digest: another file or other contents, another key."""
    found = os.fstat(file)
    parts = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    return "file:" + ".".join(str(part) for part in parts)


def entry_name(kind: str, *parts: str) -> str:
    """The name of an entry, which is the same for the same parts in the same mount namespace."""
    words = (*parts, str(namespace()))
    return kind + sha256("\0".join(words).encode(errors="surrogateescape")).hexdigest()[:32]


def namespace() -> int:
    """The mount namespace of this process."""
    return os.stat("/proc/self/ns/mnt").st_ino


def mounted(folder: Path) -> bool:
    """Whether something is mounted on a folder, and answers."""
    try:
        os.statvfs(folder)  # asks squashfuse, where a stat is answered from memory
        return os.stat(folder).st_dev != os.stat(folder.parent).st_dev
    except OSError:
        return False


def mount(
    wanted: Wanted, target: Path, environ: Mapping[str, str], *, beside: Sequence[int] = ()
) -> How:
    """Mount it, by the kernel where that is possible; squashfuse keeps open what is ``beside``.

    Raises MountFailed.
    """
    refused = ""
    if os.geteuid() == 0:
        try:
            kernel.mount_squashfs(wanted.file, wanted.found.offset, target)
        except OSError as error:
            refused = f" (and the kernel did not mount it: {error.strerror or error})".lower()
        else:
            return "kernel"
    try:
        fuse.mount_squashfs(
            wanted.file,
            wanted.found.offset,
            target,
            label=wanted.label(),
            environ=environ,
            beside=beside,
        )
    except MountFailed as failure:
        raise MountFailed(f"{failure}{refused}") from failure
    return "squashfuse"


def sweep(home: Path, environ: Mapping[str, str], *, besides: Path | None = None) -> None:
    """Clear away what nobody refers to and nobody watches; the door must be ours."""
    for entry in home.glob(f"{HELD}*"):
        if entry == besides:
            continue
        with ExitStack() as files, suppress(OSError):
            lock = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            files.callback(os.close, lock)
            if not locked(lock, fcntl.LOCK_EX) or _watched(entry):
                continue
            watcher.detach(str(entry / watcher.MOUNT_POINT), fuse.unmounter(environ))
            watcher.remove(str(entry))


def _joined(entry: Path) -> Held | None:
    """A reference to a mount that is there, is watched and answers."""
    with ExitStack() as files:
        lock = _reference(entry, files, patient=False)
        if lock is None or not mounted(entry / watcher.MOUNT_POINT) or not _watched(entry):
            return None
        held = Held(entry / watcher.MOUNT_POINT, lock, _how(entry))
        os.set_inheritable(lock, True)
        files.pop_all()
    return held


def _begun(entry: Path, wanted: Wanted, image: str, environ: Mapping[str, str]) -> Held:
    """A reference to a mount that is made, or made whole, now; the door must be ours."""
    with ExitStack() as files:
        lock = None
        while lock is None:  # the watcher of the last one may be removing it
            entry.mkdir(mode=0o700, exist_ok=True)
            lock = _reference(entry, files, patient=True)
        target = entry / watcher.MOUNT_POINT
        program = fuse.unmounter(environ)
        _watch(entry, program)
        if not mounted(target):
            watcher.detach(str(target), program)
            target.mkdir(mode=0o700, exist_ok=True)
            how = mount(wanted, target, environ)
            about = {"image": image, "key": wanted.key, "how": how}
            (entry / "about").write_text(json.dumps(about))
        held = Held(target, lock, _how(entry))
        os.set_inheritable(lock, True)
        files.pop_all()
    return held


def _reference(entry: Path, files: ExitStack, *, patient: bool) -> int | None:
    """A shared lock of an entry's folder; None where it is not there, or about to go."""
    try:
        lock = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with ExitStack() as opened_here:
        opened_here.callback(os.close, lock)
        if patient:
            fcntl.flock(lock, fcntl.LOCK_SH)
        elif not locked(lock, fcntl.LOCK_SH):
            return None
        try:
            if os.stat(entry).st_ino != os.fstat(lock).st_ino:
                return None
        except FileNotFoundError:
            return None
        files.push(opened_here.pop_all())
    return lock


def _watched(entry: Path) -> bool:
    """Whether a watcher waits for the last reference to go."""
    try:
        file = os.open(entry / "watch", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return taken(file)
    finally:
        os.close(file)


def _watch(entry: Path, program: str) -> None:
    """Start the watcher, unless there is one. Raises MountFailed."""
    with ExitStack() as files:
        watch = os.open(entry / "watch", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        files.callback(os.close, watch)
        if not take(watch):
            return
        lock = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        files.callback(os.close, lock)
        # The shell ends at once, so that the watcher is nobody's child: we may become a program
        # that waits for no children.
        words = ["/bin/sh", "-c", '"$0" "$@" &', sys.executable, "-I", "-S", watcher.__file__]
        try:
            subprocess.run(
                [*words, str(lock), str(watch), str(entry), program],
                pass_fds=(lock, watch),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise MountFailed(f"the watcher of {entry} could not be started: {error}") from error


def _how(entry: Path) -> How:
    """By what an entry is mounted, as it was written down; squashfuse where that is lost."""
    try:
        found = json.loads((entry / "about").read_text())
        return "kernel" if found["how"] == "kernel" else "squashfuse"
    except (OSError, ValueError, KeyError, TypeError):
        return "squashfuse"
