"""What a name means to one job on this node, written down for those of the job who come next.

So all ranks of a step run the same image, whatever becomes of a tag meanwhile; and those who come
after the first one ask nobody.

Invariants:
- a record is of one job (or of one ``--join`` key), one name and one platform, and this user's own;
- while the first one finds out what a name means, the others of the job wait;
- what is recorded may be gone by now: who uses a record goes the long way where a file is missing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Final

from registryd.launch.errors import LaunchFailed
from registryd.launch.sharing import own_folder

#: Seconds after which a record is nobody's any more: longer than jobs may be.
OLD: Final = 30 * 86400


@dataclass(frozen=True, slots=True)
class Record:
    """An image as it was found: its name in full, digest, configuration, and its squashfs."""

    name: str
    digest: str
    config: str
    path: str = ""


def recorded(folder: Path, about: str, find: Callable[[], Record]) -> Record:
    """The record about a name, which ``find`` makes where there is none. Raises LaunchFailed."""
    place = own_folder(own_folder(folder) / "names") / sha256(about.encode()).hexdigest()[:32]
    record = _read(place)
    if record is not None:
        return record
    with _locked(place.with_suffix(".lock")):
        record = _read(place)
        if record is None:
            record = find()
            _write(place, record)
    return record


def forget(folder: Path, about: str) -> None:
    """Have the next one find out again."""
    name = sha256(about.encode()).hexdigest()[:32]
    (folder / "names" / name).unlink(missing_ok=True)


def _read(place: Path) -> Record | None:
    try:
        found = json.loads(place.read_bytes())
        return Record(*(str(found[key]) for key in ("name", "digest", "config", "path")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(place: Path, record: Record) -> None:
    """Write it down whole; old ones go. Where the disk does not let us, it is found again."""
    text = json.dumps({name: getattr(record, name) for name in Record.__slots__})
    part = place.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        for each in place.parent.iterdir():
            if each.stat().st_mtime < time() - OLD:
                each.unlink()
        part.write_text(text)
        part.replace(place)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Within this, we are the only one. Raises LaunchFailed."""
    try:
        lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LaunchFailed(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
