"""The image that a command is to run in: what it says of itself, and where its squashfs is.

Invariants:
- the squashfs is the cache's own file, opened here or by the daemon: it is never copied;
- nothing is said on stderr as long as there is nothing to do.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cache.content import Digest
from registryd.cli.backend import Backend, Event, Report, backend
from registryd.cli.command import Context
from registryd.cli.mounting import BEGINNINGS, ENDINGS
from registryd.cli.own_names import OWN_REGISTRY
from registryd.cli.platforms import own
from registryd.launch.errors import LaunchFailed
from registryd.launch.image_mount import PROGRAMS
from registryd.oci.errors import UsageError
from registryd.oci.image_config import ImageConfig
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from registryd.secrets import Login

#: States of a blob that need no telling, and no time.
_IDLE = ("waiting", "held")
_FORMS = ("squashfs:", "sif:", "rootfs:")
#: What holds layers, which have to be made one file first.
_PACKED = ("oci:", "oci-archive:", "docker-archive:", "dir:")


@dataclass(frozen=True, slots=True)
class Found:
    """An image by what it says of itself, and where its files are: a folder, a file, or not known.

    ``opened`` is a descriptor of the file, if that is open already; ``raw`` is the configuration.
    Where nobody has that, the image is ``scripted``: what it holds says what to do.
    """

    name: str
    digest: str
    config: ImageConfig
    reference: Reference | None = None
    folder: str = ""
    file: Path | None = None
    offset: int = 0
    opened: int = -1
    raw: bytes = b""
    scripted: bool = False

    def open(self) -> int:
        """A descriptor of its file. Raises LaunchFailed."""
        return self.opened if self.opened >= 0 else _open(Path(str(self.file)))


def found_file(text: str) -> Found | None:
    """The image in a file or folder that was named instead of a reference. Raises UsageError."""
    if text.startswith(_PACKED):
        raise UsageError(
            f"{text} is not started as it is: registryctl import {text} NAME comes first"
        )
    form = next((form for form in _FORMS if text.startswith(form)), "")
    is_path = text.startswith(BEGINNINGS)
    if not form and not is_path and not (text.endswith(ENDINGS) and Path(text).is_file()):
        return None
    path = Path(text.removeprefix(form)).absolute()
    if not path.exists():
        raise UsageError(f"{path}: there is no such file or folder")
    nothing = ImageConfig(platform=own())  # the scripts in it know more
    found = os.stat(path)
    identity = f"{found.st_dev}:{found.st_ino}:{found.st_mtime_ns}"
    if path.is_dir():
        return Found(str(path), identity, nothing, folder=str(path), scripted=True)
    return Found(str(path), identity, nothing, file=path, offset=_offset(path), scripted=True)


def _offset(path: Path) -> int:
    """Where the squashfs begins in a file. Raises NotMountable where it has none."""
    from registryd.mounts.found import find_squashfs

    file = _open(path)
    try:
        return find_squashfs(file, str(path)).offset
    finally:
        os.close(file)


def login_to(context: Context, reference: Reference) -> Login | None:
    """What the user would show an image's registry; the node's own wants nothing. Raises Fault."""
    if reference.registry == OWN_REGISTRY:
        return None
    from registryd.cli.logins import login_for

    return login_for(context, reference.registry, reference.repository)


def program() -> Path:
    """The program that serves a squashfs. Raises LaunchFailed."""
    for name in PROGRAMS:
        path = shutil.which(name)
        if path is not None:
            return Path(path)
    raise LaunchFailed(f"neither {' nor '.join(PROGRAMS)} is here (install squashfuse)")


def with_squashfs(context: Context, found: Found) -> Found:
    """The image with its squashfs open, which is made the first time. Raises Fault."""
    if found.reference is None or found.file is not None or found.opened >= 0:
        return found
    login = login_to(context, found.reference)
    with backend(context, found.reference.registry) as cache:
        return opened_by(cache, context, found, found.reference, login)


def opened_by(
    cache: Backend, context: Context, found: Found, reference: Reference, login: Login | None
) -> Found:
    """The same by a backend that is at hand, for this login. Raises Fault."""
    exact = str(reference.with_digest(Digest.parse(found.digest)))
    with _when_needed(context) as show:
        done = cache.stream("convert", {"reference": exact, "form": "squashfs"}, show, login)
    file = cache.opened(exact, str(done["blob"]), login)
    path = Path(os.readlink(f"/proc/self/fd/{file}"))
    return replace(found, opened=file, file=path if os.access(path, os.R_OK) else None)


@contextmanager
def _when_needed(context: Context) -> Iterator[Report]:
    """Shows events from the first one on that tells of work."""
    waiting: list[Event] = []
    shown: list[Report] = []
    with ExitStack() as stack:

        def report(event: Event) -> None:
            waiting.append(event)
            if shown or not _idle(event):
                if not shown:
                    from registryd.cli import progress

                    show = stack.enter_context(progress.shown(context))
                    shown.append(progress.warned(context, show))
                for each in waiting:
                    shown[0](each)
                waiting.clear()

        yield report


def _idle(event: Event) -> bool:
    """Whether an event tells of nothing that takes time."""
    return event.get("event") in ("resolved", "done") or event.get("state") in _IDLE


def _open(path: Path) -> int:
    """A descriptor of a file. Raises LaunchFailed."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe keeps nobody
    except OSError as error:
        raise LaunchFailed(f"{path}: {error.strerror}") from error
