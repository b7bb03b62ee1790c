"""Several things by one command: all are tried, and the end says how many failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cache.errors import Fault
from registryd.cli.console import Console
from registryd.cli.errors import DaemonUnreachable, Partly, ending


def each(console: Console, things: Sequence[str], act: Callable[[str], None]) -> None:
    """Do one act for each thing, telling of each failure when it happens.

    Raises the failure itself when nothing succeeded or the daemon is gone; Partly otherwise.
    """
    failures: list[Fault] = []
    for thing in things:
        try:
            act(thing)
        except DaemonUnreachable:
            raise
        except Fault as failure:
            if len(things) > 1:
                console.words(f"registryctl: {ending(failure)[1]}")
            failures.append(failure)
    if not failures:
        return
    if len(failures) < len(things):
        raise Partly(f"{len(failures)} of {len(things)} failed") from failures[0]
    raise failures[0]
