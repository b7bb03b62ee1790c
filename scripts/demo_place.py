"""The folder of the demonstration: who may use it, what is in it, which daemons it has begun.

Invariants:
- only a folder that is empty, or that an earlier demonstration made, is ever cleared;
- one demonstration at a time uses a folder (a lock); the daemons of an earlier one are ended first;
- a daemon is on record as soon as it runs, so that ``--down`` finds it whatever happened since.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scripts.demo_daemons import Daemon, DemoFailed, stop

#: The file by which a folder is known to be ours.
RECORD = "demo.json"
LOCK = "lock"
#: Bytes that the path of a unix socket may have (unix(7): 108 with the final zero).
SOCKET_PATH_LIMIT = 107


@dataclass
class Place:
    """The folder, the folder of the sockets, and the daemons on record."""

    root: Path
    sockets: Path
    daemons: list[Daemon] = field(default_factory=list)

    def record(self, daemon: Daemon) -> None:
        """Remember a daemon, or what is known anew of it."""
        self.daemons = [other for other in self.daemons if other.name != daemon.name]
        self.daemons.append(daemon)
        self.save()

    def stop_all(self) -> list[Daemon]:
        """End every daemon on record, the last one first; those that still ran.

        Raises DemoFailed, after all were tried; those that did not end stay on record.
        """
        ended: list[Daemon] = []
        left: list[Daemon] = []
        failures: list[DemoFailed] = []
        for daemon in reversed(self.daemons):
            try:
                if stop(daemon):
                    ended.append(daemon)
            except DemoFailed as failure:
                failures.append(failure)
                left.insert(0, daemon)
        self.daemons = left
        if failures:
            self.save()
            raise failures[0]
        self._drop_sockets()
        self.save()
        return ended

    def _drop_sockets(self) -> None:
        """What killed daemons have left, and the folder that was made for sockets."""
        with suppress(OSError):
            for path in self.sockets.glob("*.sock"):
                path.unlink()
            if self.sockets != self.root:
                self.sockets.rmdir()

    def save(self) -> None:
        """Write the record."""
        state = {"sockets": str(self.sockets), "daemons": [asdict(each) for each in self.daemons]}
        partial = self.root / f"{RECORD}.new"
        partial.write_text(json.dumps(state, indent=2) + "\n")
        os.replace(partial, self.root / RECORD)


@contextmanager
def fresh(root: Path) -> Iterator[Place]:
    """The folder, empty and ours for the time of the block. Raises DemoFailed."""
    with ExitStack() as stack:
        with _said(root):
            root.mkdir(parents=True, exist_ok=True)
            inside = {path.name for path in root.iterdir()} - {LOCK}
            if inside and RECORD not in inside:
                line = f"{root} is not empty, and not of an earlier run (choose another DIR)"
                raise DemoFailed(line)
            stack.enter_context(_locked(root))
            if inside:
                _read(root).stop_all()
            _clear(root)
            place = Place(root, _socket_folder(root))
            place.save()
        yield place


@contextmanager
def earlier(root: Path) -> Iterator[Place]:
    """The folder as an earlier run left it. Raises DemoFailed."""
    if not (root / RECORD).is_file():
        raise DemoFailed(f"{root} is not of a run (there is no {RECORD} in it)")
    with ExitStack() as stack:
        with _said(root):
            stack.enter_context(_locked(root))
            place = _read(root)
        yield place


@contextmanager
def _said(root: Path) -> Iterator[None]:
    """Whatever the system refuses in here becomes DemoFailed."""
    try:
        yield
    except OSError as error:
        raise DemoFailed(f"{root} cannot be used: {error}") from error


def _read(root: Path) -> Place:
    try:
        state = json.loads((root / RECORD).read_text())
        daemons = [Daemon(**each) for each in state["daemons"]]
        return Place(root, Path(state["sockets"]), daemons)
    except (ValueError, LookupError, TypeError) as error:
        raise DemoFailed(f"{root / RECORD} is not what a run writes: {error}") from error


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    with open(root / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoFailed(f"another run is at work in {root} (choose another DIR)") from None
        yield


def _clear(root: Path) -> None:
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _socket_folder(root: Path) -> Path:
    if len(os.fsencode(root / "origin.sock")) <= SOCKET_PATH_LIMIT:
        return root
    return Path(tempfile.mkdtemp(prefix="registryd-"))
