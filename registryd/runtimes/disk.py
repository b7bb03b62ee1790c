"""Files of ours on a disk: look, write, take away.

Invariants:
- a file that is not ours, or was changed since, is never opened for writing, replaced or removed;
- a new file appears whole or not at all, and never in the place of one that came in between;
- nothing is written through a link that leads out of the prefix.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from registryd.runtimes.errors import SetupBlocked
from registryd.runtimes.mark import mark_line, mark_of
from registryd.runtimes.plan import BESIDE, File, Seen

#: Everybody's programs read these files.
FILE_MODE, PROGRAM_MODE, FOLDER_MODE = 0o644, 0o755, 0o755


@dataclass(frozen=True, slots=True)
class Step:
    """A file to be, and what stands there now (None: nothing)."""

    path: str
    before: str | None
    after: str
    beside: str | None = None
    mode: int = FILE_MODE

    @property
    def state(self) -> str:
        """``new``, ``changed`` or ``same``."""
        if self.before is None:
            return "new"
        return "same" if self.before == self.after else "changed"


@dataclass(frozen=True, slots=True)
class Own:
    """A file that we wrote: how many folders were made for it, and whether it is still ours."""

    path: str
    folders: int
    unchanged: bool
    beside: bool


def look(prefix: Path, patterns: Sequence[str]) -> Seen:
    """What these patterns match below the prefix. Raises SetupBlocked."""
    files: dict[str, str] = {}
    folders, links = set(), set()
    with _told("read", prefix):
        for path in sorted({path for pattern in patterns for path in prefix.glob(pattern)}):
            name = str(path.relative_to(prefix))
            if path.is_symlink():
                links.add(name)
            if path.is_dir():
                folders.add(name)
            else:
                files[name] = _text(path)
    return Seen(files, frozenset(folders), frozenset(links))


def _text(path: Path) -> str:
    """The file's text; of a link that leads nowhere, or of what is no file, none."""
    return path.read_bytes().decode(errors="surrogateescape") if path.is_file() else ""


def steps(prefix: Path, files: Iterable[File], seen: Seen) -> list[Step]:
    """What writing these files means; each is absent or ours. Raises SetupBlocked."""
    return [_step(prefix, file, seen) for file in files]


def _step(prefix: Path, file: File, seen: Seen) -> Step:
    _refuse_way_out(prefix, file.path)
    before, beside = seen.files.get(file.path), seen.files.get(file.path + BESIDE)
    mark = None if before is None else mark_of(before, beside)
    folders = _missing(prefix / file.path) if mark is None else mark.folders
    line = mark_line(file.content, folders)
    mode = PROGRAM_MODE if file.executable else FILE_MODE
    if file.comments:
        return Step(file.path, before, line + file.content, mode=mode)
    return Step(file.path, before, file.content, beside=line, mode=mode)


def _missing(path: Path) -> int:
    """How many folders must be made for this file."""
    return sum(not parent.exists() for parent in path.parents)


def _refuse_way_out(prefix: Path, name: str) -> None:
    if not (prefix / name).parent.resolve().is_relative_to(prefix.resolve()):
        raise SetupBlocked(f"{prefix / name} is behind a link that leads out of {prefix}")


def write(prefix: Path, step: Step) -> None:
    """Make a step that is new or changed. Raises SetupBlocked."""
    path = prefix / step.path
    with _told("write", path):
        made = _make_folders(path.parent)
        try:
            if step.beside is not None:
                _put(path.with_name(path.name + BESIDE), step.beside, FILE_MODE, fresh=False)
            _put(path, step.after, step.mode, fresh=step.before is None)
        except OSError:
            if step.beside is not None and step.before is None:
                path.with_name(path.name + BESIDE).unlink(missing_ok=True)
            _remove_folders(path, made)
            raise


def _put(path: Path, text: str, mode: int, *, fresh: bool) -> None:
    """Let the file appear with this text; a fresh one never replaces another."""
    number, name = tempfile.mkstemp(prefix=".registryd-", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
            os.fchmod(file.fileno(), mode)
        if fresh:
            os.link(name, path)
        else:
            os.replace(name, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _make_folders(folder: Path) -> int:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir()
        each.chmod(FOLDER_MODE)  # whatever the umask is
    return len(missing)


def owned(seen: Seen) -> list[Own]:
    """The files of ours among those seen, in the order in which they can be taken away."""
    found = []
    for path, text in seen.files.items():
        beside = seen.files.get(path + BESIDE)
        mark = None if path in seen.links or path.endswith(BESIDE) else mark_of(text, beside)
        if mark is not None:
            found.append(Own(path, mark.folders, mark.unchanged, beside is not None))
    return sorted(found, key=lambda each: (each.folders, each.path))


def remove(prefix: Path, own: Own) -> None:
    """Take away a file that is ours still, and the folders that were made for it.

    Raises SetupBlocked.
    """
    _refuse_way_out(prefix, own.path)
    path = prefix / own.path
    with _told("remove", path):
        path.unlink()
        if own.beside:
            path.with_name(path.name + BESIDE).unlink()
        _remove_folders(path, own.folders)


def _remove_folders(path: Path, count: int) -> None:
    """Remove so many folders above a path, as far as they are empty."""
    for folder in list(path.parents)[:count]:
        try:
            folder.rmdir()
        except OSError:
            return


@contextmanager
def _told(verb: str, path: Path) -> Iterator[None]:
    """What the system refuses becomes SetupBlocked."""
    try:
        yield
    except OSError as error:
        place = error.filename2 or error.filename or path
        denied = isinstance(error, PermissionError) or error.errno == 30  # read-only
        cure = " (run as root, or with --prefix DIR)" if denied else ""
        raise SetupBlocked(f"cannot {verb} {place}: {error.strerror}{cure}") from error
