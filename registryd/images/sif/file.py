"""A SIF as a file: written around a squashfs that is there.

Invariant: a file has its name when it is whole and on disk, and has the modes of a program.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from registryd.images.clone import copy_out
from registryd.images.sif.layout import SifImage, prefix

#: apptainer makes its files executable: the launch line is for the kernel.
_MODE: Final = 0o755


def write_sif(path: Path, image: SifImage, squashfs: int) -> int:
    """Make a SIF of an open squashfs, in place of a file that is there; how many bytes it has.

    Raises DiskFull, PathUnusable.
    """
    before = prefix(image, os.fstat(squashfs).st_size)
    return copy_out(squashfs, path, before=before, mode=_MODE)
