"""Where an archive is written to: a file that is there when it is whole, or a stream.

Invariants:
- the file has its name when it is whole and on disk, and not before; a failure leaves nothing;
- a file that is there is not written over unless that was wished.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from registryd.images.archive import unnamed
from registryd.images.archive_sink import ArchiveWriter, Form
from registryd.images.errors import path_faults
from registryd.images.files import HOP, PARTIAL, in_thread, sync_folder, write_all
from registryd.images.words import STREAM
from registryd.oci.errors import UsageError
from registryd.oci.platform import Platform

_DEVICES: Final = Path("/dev")


@asynccontextmanager
async def open_writer(
    path: Path,
    form: Form,
    *,
    spool: Path,
    platform: Platform | None = None,
    replace: bool = False,
) -> AsyncIterator[ArchiveWriter]:
    """An archive to write to; it gets its name when the block ends well, with an image in it.

    ``-`` and what is no regular file (a pipe) get the whole archive at the end, which is in
    ``spool`` meanwhile. ``platform`` is whose image of an index manifest.json names.
    Raises UsageError where the file exists and is not to be replaced; DiskFull, PathUnusable.
    """
    files = ExitStack()
    partial: Path | None = None
    try:
        streamed = await in_thread(_check_target, path, replace)
        if streamed:
            file = await in_thread(unnamed, files, spool)
        else:
            partial = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
            file = await in_thread(_create, files, partial, path)
        writer = ArchiveWriter(file, path, form, platform)
        yield writer
        if writer.written:
            await in_thread(writer.finish)
            if partial is None:
                await _stream(file, path)
            else:
                await in_thread(_publish, partial, path, replace)
    finally:
        await in_thread(files.close)


def _check_target(path: Path, replace: bool) -> bool:
    """Whether the target is a stream. Raises UsageError for a file that must stay."""
    if str(path) == STREAM or _DEVICES in path.absolute().parents:
        return True  # /dev/stdout may be a file, but nothing is renamed over it
    with path_faults(path):
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{path} is a folder, and an archive is a file")
    if stat.S_ISREG(status.st_mode) and status.st_size and not replace:
        raise UsageError(
            f"{path} exists, and an archive is not added to; remove it first (export: --force)"
        )
    return not stat.S_ISREG(status.st_mode)


def _create(files: ExitStack, partial: Path, path: Path) -> int:
    with path_faults(path):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        file = os.open(partial, flags, 0o666)
    files.callback(partial.unlink, missing_ok=True)
    files.callback(os.close, file)
    return file


def _publish(partial: Path, path: Path, replace: bool) -> None:
    _check_target(path, replace)  # somebody may have put a file there meanwhile
    with path_faults(path):
        partial.replace(path)
        sync_folder(path.parent)


async def _stream(file: int, path: Path) -> None:
    """Give out a whole archive in order."""
    files = ExitStack()
    try:
        target = await in_thread(_open_stream, files, path)
        offset = 0
        while count := await in_thread(_pass_on, file, target, offset, path):
            offset += count
    finally:
        await in_thread(files.close)


def _open_stream(files: ExitStack, path: Path) -> int:
    with path_faults(path):
        if str(path) == STREAM:
            target = os.dup(1)
        else:
            target = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
    files.callback(os.close, target)
    return target


def _pass_on(file: int, target: int, offset: int, path: Path) -> int:
    """The next bytes. Raises BrokenPipeError where the reader left, which is no fault of a path."""
    with path_faults(path):
        piece = os.pread(file, HOP, offset)
        try:
            write_all(target, piece)
            return len(piece)
        except BrokenPipeError as error:
            left = error
    raise left
