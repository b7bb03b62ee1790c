"""The steps of a process on a disk: counted, named and struck by a library that it loads.

Invariants:
- nothing of this is in the product: the library stands between the program and libc (``faults.c``);
- only the process that was named is struck, and only while it is told to be.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
#: As in ``faults.c``.
TRACED, NAME = 8192, 32


class Mode(IntEnum):
    """What happens at the step that is asked for; all before it are counted."""

    OFF = 0
    COUNT = 1
    KILL = 2  #: before the call
    TEAR = 3  #: in the middle of it, where it is a write
    FAIL = 4  #: it fails, once
    FAIL_ON = 5  #: it fails, as all that follow


class _Control(ctypes.Structure):
    _fields_ = (
        ("mode", ctypes.c_int32),
        ("error", ctypes.c_int32),
        ("target", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("shift", ctypes.c_double),
        ("pid", ctypes.c_int32),
        ("struck", ctypes.c_int32),
        ("root", ctypes.c_char * 512),
        ("match", ctypes.c_char * NAME),
        ("at", ctypes.c_char * NAME),
        ("trace", (ctypes.c_char * NAME) * TRACED),
    )


def build(folder: Path) -> Path:
    """Compile the library; its file."""
    library = folder / "faults.so"
    command = ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return library


class Steps:
    """The steps of the processes that run with ``environ``."""

    def __init__(self, folder: Path) -> None:
        self._library = build(folder)
        self._file = folder / "control"
        self._file.write_bytes(bytes(ctypes.sizeof(_Control)))
        with self._file.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._control = _Control.from_buffer(self._map)

    @property
    def environ(self) -> Mapping[str, str]:
        """What a program needs in its environment to be counted."""
        return {"LD_PRELOAD": str(self._library), "KILLS_CONTROL": str(self._file)}

    @property
    def place(self) -> tuple[str, int]:
        """The file and the offset where a process writes its id that wants to be counted."""
        return str(self._file), _Control.pid.offset

    def watch(self, pid: int, root: Path) -> None:
        """From now on it is this process (0: the next that says so) and this folder."""
        self._control.pid, self._control.root = pid, os.fsencode(root)

    def arm(self, mode: Mode, target: int = 0, *, match: str = "", error: int = 0) -> None:
        """Count from here on; at the step of this number (of those named ``match``) it happens."""
        control = self._control
        control.mode = Mode.OFF
        control.count, control.struck, control.target, control.error = 0, 0, target, error
        control.match, control.at = match.encode(), b""
        control.mode = mode

    def disarm(self) -> None:
        """Nothing happens any more."""
        self._control.mode = Mode.OFF

    @property
    def count(self) -> int:
        """The steps since it was armed."""
        return int(self._control.count)

    @property
    def struck(self) -> str:
        """The name of the (first) step that was struck, "" for none."""
        return bytes(self._control.at).decode()

    @property
    def strikes(self) -> int:
        """How many steps were struck."""
        return int(self._control.struck)

    def trace(self) -> list[str]:
        """The names of the steps since it was armed to count."""
        control = self._control
        return [bytes(control.trace[n].value).decode() for n in range(min(control.count, TRACED))]

    def shift(self, seconds: float) -> None:
        """Let the wall clock be ahead (or behind) by so much."""
        self._control.shift = seconds
