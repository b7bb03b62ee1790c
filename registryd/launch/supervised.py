"""Commands that another program starts for us: signals go on to them, and their status is ours.

Invariant: a signal that a terminal sends reaches the command by itself; it is not sent twice.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from registryd.launch import bubblewrap, bundle
from registryd.launch.errors import LaunchFailed
from registryd.launch.plan import Launch

#: What is sent on; and what a terminal sends to everybody.
_FORWARDED: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_OF_TERMINALS: Final = (signal.SIGINT, signal.SIGQUIT)
_SIGNALLED: Final = 128


def run(launch: Launch, runtime: str, folder: Path) -> int:
    """Run the command to its end; its exit code. Raises LaunchFailed, LaunchRefused."""
    if runtime == bubblewrap.PROGRAM:
        return _by_bubblewrap(launch)
    with tempfile.TemporaryDirectory(dir=folder, prefix="bundle-") as place:
        try:
            bundle.write(
                launch, Path(place), (os.geteuid(), os.getegid()), as_root=runtime == "runc"
            )
        except OSError as error:
            raise LaunchFailed(f"{place}: {error.strerror}") from error
        return _ended(bundle.command(runtime, Path(place)), None)


def _by_bubblewrap(launch: Launch) -> int:
    files: list[int] = []
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        words = bubblewrap.arguments(launch, files, write)
        return _ended(words, (read, write))
    finally:
        os.close(read)
        for file in files:
            os.close(file)


def _ended(words: Sequence[str], info: tuple[int, int] | None) -> int:
    """Start a program, send signals on to it or to the process that it names, and await its end."""
    try:
        process = subprocess.Popen(words, close_fds=False)
    except OSError as error:
        raise LaunchFailed(f"{words[0]} cannot be started: {error.strerror}") from error
    target = process.pid
    if info is not None:
        os.close(info[1])
        target = _named(info[0]) or target

    def forward(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(target, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    for number in _OF_TERMINALS:
        signal.signal(number, signal.SIG_IGN if os.isatty(0) else forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_TERMINALS)
    signal.setitimer(signal.ITIMER_REAL, 0)
    code = process.wait()
    return code if code >= 0 else _SIGNALLED - code


def _named(info: int) -> int:
    """The process that bubblewrap says is the command; 0 where it said nothing."""
    said = b""
    while not said.rstrip().endswith(b"}"):
        more = os.read(info, 4096)
        if not more:
            break
        said += more
    try:
        return int(json.loads(said)["child-pid"])
    except (ValueError, KeyError, TypeError):
        return 0
