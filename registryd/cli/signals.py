"""Signals that end a command: each ends it as Ctrl-C does, so that nothing is left half done.

Invariant: what Ctrl-C is not for, a job that a shell has put into the background, can be ended too.
"""

from __future__ import annotations

import signal
from typing import Final

#: Those that would end the process at once, with what it was writing left behind.
ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


def interrupt() -> None:
    """Interrupt what the main thread does, as Ctrl-C does; for signal handlers.

    Raises KeyboardInterrupt, where an event loop does not take it to its task.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, None)


def end_as_interrupted() -> list[int]:
    """Have these signals interrupt, but for those that are ignored (nohup); which have come."""
    ended: list[int] = []

    def end(number: int, _frame: object) -> None:
        ended.append(number)
        interrupt()

    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # An event loop takes over only a handler, and not the will to ignore: it is kept by a mask.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)
    return ended
