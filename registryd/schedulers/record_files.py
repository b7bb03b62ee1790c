"""The records of jobs on a disk: written by root's prolog, read by steps, gone after the epilog.

Invariants:
- a record appears whole or not at all; it is the job's user's to read, and nobody else's;
- nothing here waits: the files are of some hundred bytes in a folder of memory.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from cache.errors import os_faults
from registryd.schedulers.errors import RecordUnwritable
from registryd.schedulers.record import Record, file_of

#: Steps of any user look into the folder; each reads its own record.
FOLDER_MODE, FILE_MODE = 0o755, 0o400


def write(folder: Path, job: str, record: Record, *, uid: int) -> None:
    """Let this be the record of a job, whose user is ``uid``. Raises RecordUnwritable, DiskFull."""
    path = folder / file_of(job)
    with os_faults(path, RecordUnwritable):
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=".new-", dir=folder)
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(record.text())
                os.fchmod(file.fileno(), FILE_MODE)
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), uid, -1)
            os.replace(name, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise


def remove(folder: Path, job: str) -> None:
    """Take the record of a job away, if there is one. Raises RecordUnwritable."""
    path = folder / file_of(job)
    with os_faults(path, RecordUnwritable):
        path.unlink(missing_ok=True)
