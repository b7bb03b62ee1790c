"""The records of jobs on a disk: written by root's prolog, read by steps, gone after the epilog.

Invariants:
- a record appears whole or not at all; it is the job's user's to read, and nobody else's;
- no link is followed into the folder, and none in it: root writes here for others;
- nothing here waits: the files are of some hundred bytes in a folder of memory.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache.errors import os_faults
from registryd.schedulers.errors import RecordUnwritable
from registryd.schedulers.record import Record, file_of

#: Steps of any user look into the folder; each reads its own record.
FOLDER_MODE, FILE_MODE = 0o755, 0o400
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def write(folder: Path, job: str, record: Record, *, uid: int) -> None:
    """Let this be the record of a job, whose user is ``uid``. Raises RecordUnwritable, DiskFull."""
    name = f".new-{secrets.token_hex(8)}"
    with os_faults(folder / file_of(job), RecordUnwritable):
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with _opened(folder) as at:
            try:
                number = os.open(name, _NEW, FILE_MODE, dir_fd=at)
                with os.fdopen(number, "w", encoding="utf-8") as file:
                    file.write(record.text())
                    os.fchmod(file.fileno(), FILE_MODE)
                    if os.geteuid() == 0:
                        os.fchown(file.fileno(), uid, -1)
                os.replace(name, file_of(job), src_dir_fd=at, dst_dir_fd=at)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=at)
                raise


def remove(folder: Path, job: str) -> None:
    """Take the record of a job away, if there is one. Raises RecordUnwritable."""
    faults = os_faults(folder / file_of(job), RecordUnwritable)
    with faults, suppress(FileNotFoundError), _opened(folder) as at:
        os.unlink(file_of(job), dir_fd=at)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """The folder, which is ours alone: above it is one that the daemon's user may write to.

    systemd gives that user all that is below when it makes the daemon's folder: root takes it back.
    Raises OSError for a link, which could lead anywhere, and RecordUnwritable.
    """
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(at)
        if os.geteuid() == 0 and found.st_uid != 0:
            os.fchown(at, 0, 0)
            os.fchmod(at, FOLDER_MODE)
        elif found.st_uid != os.geteuid():
            raise RecordUnwritable(f"{folder} is another user's folder")
        yield at
    finally:
        os.close(at)
