"""An image as a squashfs file, made by tar2sqfs from one stream: nothing is unpacked anywhere.

Invariants:
- the same layers give the same bytes with the same tar2sqfs and libraries, whoever makes them and
  with however many processors;
- the file has its name when the program ended well, says itself that it is whole and has as many
  files as the plan, and is on disk; a failure leaves nothing.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import shutil
import struct
import subprocess
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import Final, Literal

from cache.errors import DiskFull, Fault
from registryd.images.errors import NotMade, path_faults
from registryd.images.files import HOP, PARTIAL, in_thread, sync_folder
from registryd.images.layers.contents import Opener
from registryd.images.layers.plan import Plan
from registryd.images.layers.stream import write_tar

Compressor = Literal["zstd", "gzip"]

PROGRAM: Final = "tar2sqfs"
#: Of coreutils: a thread's own niceness cannot be set before its program starts.
_NICE: Final = "nice"
#: zstd's third level is 22 times as fast as gzip's ninth, for a file larger by 3 %.
_COMPRESSION: Final[Mapping[Compressor, Sequence[str]]] = {
    "zstd": ("--compressor", "zstd", "--comp-extra", "level=3"),
    "gzip": ("--compressor", "gzip"),
}
#: Threads that compress: one that reads the layers keeps fewer of them busy, and each takes memory.
_MOST_JOBS: Final = 8
#: Of the program's words, as many are kept; the last line is shown.
_WORDS_LIMIT: Final = 64 << 10
#: What of the environment it needs; SOURCE_DATE_EPOCH would change what it makes.
_VARIABLES: Final = ("PATH", "LD_LIBRARY_PATH")
#: Seconds that it may take to say its version.
_ANSWER: Final = 30.0
#: The beginning of a squashfs 4.0: magic, inodes, then bytes used at 40.
_SUPERBLOCK: Final = struct.Struct("<4sI32xQ")
_MAGIC: Final = b"hsqs"
#: A disk that does not take this is full: the program writes blocks of 128 KiB.
_ROOM: Final = 256 << 10
_NO_SPACE: Final = os.strerror(errno.ENOSPC).lower()


async def write_squashfs(
    plan: Plan,
    openers: Sequence[Opener],
    where: str,
    path: Path,
    *,
    compressor: Compressor,
    environ: Mapping[str, str],
) -> None:
    """Make the file, in place of one that is there.

    Raises NotMade, DiskFull, PathUnusable, NotAnImage.
    """
    partial = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}")
    files = ExitStack()
    try:
        await in_thread(_create, files, partial, path)
        terms = Squashed(compressor, environ)
        await make_squashfs(plan, openers, where, partial, terms)
        await in_thread(_publish, partial, path)
    finally:
        await in_thread(files.close)


@dataclass(frozen=True, slots=True)
class Squashed:
    """How the program is run: ``nice`` is how far it stands back behind others."""

    compressor: Compressor
    environ: Mapping[str, str]
    nice: int = 0


async def make_squashfs(
    plan: Plan, openers: Sequence[Opener], where: str, path: Path, terms: Squashed
) -> None:
    """Write it into a file that is there and empty, and has no name yet; not to disk.

    Raises NotMade, DiskFull, PathUnusable, NotAnImage.
    """
    with ExitStack() as files:
        # Held open: the program removes what it could not finish, and the disk were not full then.
        held = await in_thread(_hold, files, path)
        await _run(plan, openers, where, path, terms, held)
        await in_thread(_check, path, plan.inodes)


def _hold(files: ExitStack, path: Path) -> RawIOBase:
    with path_faults(path):
        return files.enter_context(open(path, "r+b", buffering=0))


def _create(files: ExitStack, partial: Path, path: Path) -> None:
    with path_faults(path):
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    os.close(file)
    files.callback(partial.unlink, missing_ok=True)


async def _run(
    plan: Plan,
    openers: Sequence[Opener],
    where: str,
    partial: Path,
    terms: Squashed,
    held: RawIOBase,
) -> None:
    reading, writing = os.pipe()
    with suppress(OSError):  # a user may have only so much in pipes: it works with less
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, HOP)
    try:
        process = await _started(partial, terms, reading)
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    try:
        async with asyncio.TaskGroup() as tasks:
            words = tasks.create_task(_words(process))
            ended = tasks.create_task(_ended(process))
            tasks.create_task(in_thread(_feed, plan, openers, where, writing))
    except BaseExceptionGroup as several:
        failure = _first(several)
    else:
        if not ended.result():
            return
        failure = await in_thread(_failure, words.result(), ended.result(), partial, held)
    raise failure


async def _started(partial: Path, terms: Squashed, reading: int) -> Process:
    known = {name: terms.environ[name] for name in _VARIABLES if name in terms.environ}
    flags = ("--quiet", "--force", "--no-skip", *_COMPRESSION[terms.compressor])
    jobs = str(min(_MOST_JOBS, len(os.sched_getaffinity(0))))
    target = str(partial) if partial.is_absolute() else f"./{partial}"  # never a flag
    words = (*flags, "--num-jobs", jobs, target)
    found = await in_thread(program, terms.environ)
    back = _on_path(terms.environ, _NICE) if terms.nice else None
    before = () if back is None else (back, "-n", str(terms.nice))
    try:
        return await asyncio.create_subprocess_exec(
            *before, found, *words, stdin=reading, stdout=DEVNULL, stderr=PIPE, env=known
        )
    except OSError as error:
        raise NotMade(f"{found} cannot be started: {error.strerror}") from error


def program(environ: Mapping[str, str]) -> str:
    """The program on the PATH that we were given. Raises NotMade where it is not there."""
    found = _on_path(environ, PROGRAM)
    if found is None:
        raise NotMade(f"{PROGRAM} is not on the PATH (Debian: squashfs-tools-ng)")
    return found


async def version(environ: Mapping[str, str]) -> str:
    """What the program calls itself. Raises NotMade."""
    found = await in_thread(program, environ)
    words = await in_thread(_output, [found, "--version"], environ)
    return words.partition("\n")[0].strip()[:140] or PROGRAM


def _output(words: Sequence[str], environ: Mapping[str, str]) -> str:
    known = {name: environ[name] for name in _VARIABLES if name in environ}
    try:
        ran = subprocess.run(
            words, env=known, stdin=DEVNULL, capture_output=True, timeout=_ANSWER, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMade(f"{words[0]} does not say its version: {error}") from error
    return ran.stdout[:_WORDS_LIMIT].decode(errors="replace")


def _on_path(environ: Mapping[str, str], name: str) -> str | None:
    return shutil.which(name, path=environ.get("PATH", os.defpath))


def _feed(plan: Plan, openers: Sequence[Opener], where: str, pipe: int) -> None:
    """Write the stream; that the program left before its end is told by how it ended."""
    with suppress(BrokenPipeError), open(pipe, "wb", buffering=HOP) as out:
        write_tar(plan, openers, where, out)


async def _words(process: Process) -> str:
    """What it said, which is read to the end, so that it is never kept waiting."""
    assert process.stderr is not None  # noqa: S101 (it was asked for)
    said = b""
    while piece := await process.stderr.read(HOP):
        said = (said + piece)[-_WORDS_LIMIT:]
    return said.decode(errors="replace").strip()


async def _ended(process: Process) -> int:
    """How it ended; one that nobody waits for any more is killed, so that no thread feeds it."""
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())


def _failure(words: str, code: int, partial: Path, held: RawIOBase) -> Fault:
    """What went wrong. Raises DiskFull, PathUnusable.

    Of a full disk, or a quota that is used up, the program says only that it could not write: that
    is seen by writing a little more.
    """
    if _NO_SPACE in words.lower():
        return DiskFull(f"{partial.parent}: {_NO_SPACE}; free some space and try again")
    with path_faults(partial.parent):
        held.seek(0, os.SEEK_END)
        left = _ROOM
        while left:
            left -= held.write(bytes(left)) or 0
    line = words.splitlines()[-1][:300] if words else "it says nothing"
    how = f"status {code}" if code > 0 else f"signal {-code}"
    return NotMade(f"{PROGRAM} ended with {how}: {line.removeprefix(f'{partial}: ')}")


def _check(path: Path, inodes: int) -> None:
    with path_faults(path), open(path, "rb") as file:
        magic, found, used = _SUPERBLOCK.unpack(file.read(_SUPERBLOCK.size).ljust(48, b"\0"))
        size = os.fstat(file.fileno()).st_size
        whole = magic == _MAGIC and used <= size
        if not whole or found != inodes:
            there = f"{found} files of {inodes}" if whole else "no whole squashfs"
            raise NotMade(f"{PROGRAM} ended well, but made {there}")


def _publish(partial: Path, path: Path) -> None:
    with path_faults(path), open(partial, "rb") as file:
        os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure, out of the group."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
