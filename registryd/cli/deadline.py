"""How long a command may take in all (``--command-timeout``).

Invariant: what ends a command that is late is what ends it on Ctrl-C, so everything is closed and
tidied up in the same way; only the words and the exit code are others.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cache.errors import Fault
from registryd.cli.signals import interrupt


class CommandTimedOut(Fault):
    """Raised when a command was not done in the time that it was given."""

    exit_code = 6
    code = "UNAVAILABLE"


@contextmanager
def deadline(seconds: float | None, flag: str = "--command-timeout") -> Iterator[None]:
    """Interrupt what runs in here when it takes longer. Raises CommandTimedOut."""
    if seconds is None:
        yield
        return
    late = False

    def expire(number: int, frame: FrameType | None) -> None:
        nonlocal late
        late = True
        interrupt()

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except KeyboardInterrupt:
        if late:
            raise CommandTimedOut(f"not done after {seconds:g} seconds ({flag})") from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
