"""Signals that end a command: each ends it as Ctrl-C does, so that nothing is left half done.

Invariant: what Ctrl-C is not for, a job that a shell has put into the background, can be ended too.
"""

from __future__ import annotations

import signal
from typing import Final

#: Those that would end the process at once, with what it was writing left behind.
ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


def interrupt() -> None:
    """Interrupt what the main thread does; for signal handlers. Raises KeyboardInterrupt."""
    if callable(signal.getsignal(signal.SIGINT)):
        signal.raise_signal(signal.SIGINT)
    else:
        raise KeyboardInterrupt


def end_as_interrupted() -> list[int]:
    """Have these signals interrupt, but for those that are ignored (nohup); which have come."""
    ended: list[int] = []

    def end(number: int, _frame: object) -> None:
        ended.append(number)
        interrupt()

    for number in ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)
    return ended
