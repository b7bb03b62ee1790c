"""By which way a command is started, and the image as a folder for those ways that need one."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from registryd.cli.command import Context
from registryd.cli.run_images import Found
from registryd.cli.run_jobs import job_of
from registryd.launch.errors import LaunchFailed
from registryd.launch.start import Rootfs

#: The others, best first, where namespaces are given to certain programs alone.
OTHERS: Final = ("bwrap", "crun", "runc")
#: What must be so that anybody may have namespaces: a file, and the text that forbids it.
_FORBIDDEN: Final = (
    ("/proc/sys/user/max_user_namespaces", "0"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
)


def chosen(asked: str, root: bool) -> str:
    """The way to take: "native" wherever the machine gives us namespaces. Raises LaunchFailed."""
    if asked != "auto":
        if asked != "native" and shutil.which(asked) is None:
            raise LaunchFailed(f"--runtime {asked}: {asked} is not here")
        return asked
    if root or not any(_says(path, no) for path, no in _FORBIDDEN):
        return "native"
    found = next((name for name in OTHERS if shutil.which(name)), None)
    if found is None:
        raise LaunchFailed(
            "this machine gives namespaces to no user's program, and none of"
            f" {', '.join(OTHERS)} is here to have them"
        )
    return found


def _says(path: str, text: str) -> bool:
    with suppress(OSError):
        return Path(path).read_text().strip() == text
    return False


def as_folder(context: Context, found: Found) -> Rootfs:
    """The image as a folder, for as long as this process and what it starts. Raises Fault."""
    if found.folder:
        return Rootfs(folder=found.folder)
    from registryd.mounts.held import acquire

    held = acquire(
        found.open(), key=found.digest, scope=job_of(context.environ), environ=context.environ
    )
    return Rootfs(folder=str(held.path))
