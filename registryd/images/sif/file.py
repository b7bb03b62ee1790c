"""SIF as files: written around a squashfs that is there, and read back.

Invariants:
- the squashfs is copied by the kernel, which shares its blocks where the file system can;
- a file has its name when it is whole and on disk, and has the modes of a program.
"""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from registryd.images.clone import copy_range
from registryd.images.errors import NotAnImage, path_faults
from registryd.images.files import PARTIAL, sync_folder, write_all
from registryd.images.sif.layout import Partition, SifImage, find_partition, prefix

#: apptainer makes its files executable: the launch line is for the kernel.
_MODE: Final = 0o755


def write_sif(path: Path, image: SifImage, squashfs: int) -> int:
    """Make a SIF of an open squashfs, in place of a file that is there; how many bytes it has.

    Raises DiskFull, PathUnusable.
    """
    partial = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    with path_faults(path), ExitStack() as files:
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        files.callback(partial.unlink, missing_ok=True)
        files.callback(os.close, file)
        size = os.fstat(squashfs).st_size
        before = prefix(image, size)
        write_all(file, before)
        copy_range(squashfs, file, size)
        os.fsync(file)
        partial.replace(path)
        sync_folder(path.parent)
    return len(before) + size


def read_sif(file: int, where: str) -> Partition:
    """Where the image is in an open SIF. Raises NotAnImage, PathUnusable."""
    with path_faults(Path(where)):
        length = os.fstat(file).st_size
        return find_partition(lambda at, count: os.pread(file, count, at), length, where)


def read_config(file: int, partition: Partition, where: str) -> bytes | None:
    """The image's configuration in an open SIF, where there is one. Raises as read_sif does."""
    if partition.config is None:
        return None
    offset, size = partition.config
    with path_faults(Path(where)):
        found = os.pread(file, size, offset)
    if len(found) != size:
        raise NotAnImage(f"{where}: it is cut off")
    return found
