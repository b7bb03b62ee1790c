"""Mounting by squashfuse: for everybody, where /dev/fuse may be opened.

Invariants:
- what is mounted is read-only, and nothing in it is a device or gives a right;
- whatever is missing on this machine is one line that says what to do.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from registryd.mounts.errors import MountFailed

#: squashfuse_ll serves in several threads and holds inodes in place of paths: it is the fast one.
PROGRAMS: Final = ("squashfuse_ll", "squashfuse")
UNMOUNTERS: Final = ("fusermount3", "fusermount")
DEVICE: Final = Path("/dev/fuse")
#: It reads a superblock and some tables; one that needs longer (seconds) hangs.
PATIENCE: Final = 30.0
#: Where libfuse looks for fusermount3 too, whatever the PATH is.
_USUAL: Final = ("/usr/bin", "/bin")
#: What of the environment it needs.
_VARIABLES: Final = ("PATH", "LD_LIBRARY_PATH")


def mount_squashfs(
    file: int,
    offset: int,
    target: Path,
    *,
    label: str,
    environ: Mapping[str, str],
    beside: Sequence[int] = (),
) -> None:
    """Mount the squashfs at this offset of an open file. Raises MountFailed."""
    program = program_of(environ, *PROGRAMS)
    if program is None:
        raise MountFailed("squashfuse_ll is not on the PATH (Debian: squashfuse)")
    options = f"ro,nosuid,nodev,fsname={label},subtype=squashfuse,offset={offset}"
    if os.geteuid() == 0:
        # As the kernel's own mount would be: for all users, by the rights of the files.
        options += ",allow_other,default_permissions"
    words = (program, "-o", options, f"/proc/self/fd/{file}", str(target))
    known = {name: environ[name] for name in _VARIABLES if name in environ}
    try:
        done = subprocess.run(
            words,
            pass_fds=(file, *beside),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=known,
            timeout=PATIENCE,
            check=False,
        )
    except OSError as error:
        raise MountFailed(f"{program} cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise MountFailed(f"{program} has not mounted {label} in {PATIENCE:g} s") from None
    if done.returncode or not os.path.ismount(target):
        raise MountFailed(reason(done.stderr.decode(errors="replace"), program, environ))


def reason(words: str, program: str, environ: Mapping[str, str]) -> str:
    """Why squashfuse did not mount, and what to do."""
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        what = (error.strerror or str(error)).lower()
        return (
            f"{DEVICE} cannot be opened by this user: {what}"
            " (the administrator loads the module fuse and gives the device mode 0666)"
        )
    if os.geteuid() and program_of(environ, "fusermount3") is None:
        return (
            "fusermount3 is not on the PATH (Debian: fuse3), and without it no user may mount"
            " outside a user namespace"
        )
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    said = "; ".join(lines)[:300] or "it says nothing"
    if "compression" in said:
        said += " (convert the image with --compat gzip)"
    return f"{Path(program).name} could not mount: {said}"


def unmounter(environ: Mapping[str, str]) -> str:
    """The program by which users unmount, or nothing."""
    return program_of(environ, *UNMOUNTERS) or ""


def program_of(environ: Mapping[str, str], *names: str) -> str | None:
    """The first of these programs that is on the PATH, or where systems have it."""
    folders = [*environ.get("PATH", os.defpath).split(os.pathsep), *_USUAL]
    for name in names:
        for folder in folders:
            candidate = os.path.join(folder or ".", name)
            if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
                return candidate
    return None
