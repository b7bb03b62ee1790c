"""Quarantine: the files of blobs that were found to be wrong, put aside to be looked at.

Invariants:
- at most ``MOST_FILES`` are kept, of ``MOST_BYTES`` together; what was put aside last is kept
  whatever its size, as its place on the disk is better not used again;
- nothing is ever served from here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cache import layout
from cache.content import Digest
from cache.files import FOLDER_MODE, fsync_folder, os_errors

#: A disk that fails fails in more places than anybody looks at.
MOST_FILES = 64
#: Enough for some layers; more would be room that nobody gave it.
MOST_BYTES = 1 << 30


def put_aside(root: Path, digest: Digest) -> str:
    """Move a blob's file out of ``blobs/``; its path now ("": it was gone). Raises CacheError."""
    source, folder = layout.blob_path(root, digest), root / layout.QUARANTINE
    target = folder / layout.ingest_key(digest)
    with os_errors(str(source)):
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        try:
            source.rename(target)
        except FileNotFoundError:
            return ""
        fsync_folder(source.parent)
        _trim(folder)
    return str(target)


def beyond(files: Sequence[tuple[int, int, str]]) -> list[str]:
    """Which of these (when they came, bytes, name) are too many: the oldest. Pure."""
    total, going = 0, []
    for place, (_, size, name) in enumerate(sorted(files, reverse=True)):
        total += size
        if place and (place >= MOST_FILES or total > MOST_BYTES):
            total -= size
            going.append(name)
    return going


def _trim(folder: Path) -> None:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                # A file's ctime is when it was moved here: its mtime is when it was a blob.
                found.append((status.st_ctime_ns, status.st_blocks * 512, entry.name))
    for name in beyond(found):
        with suppress(FileNotFoundError, IsADirectoryError):
            (folder / name).unlink()
