"""Which addresses this process connects to and which names it looks up, by an audit hook."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Dials:
    """What the hook (which can never be taken away again) writes down while it is listening."""

    def __init__(self) -> None:
        self.listening = False
        self.seen: set[str] = set()

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        """Called by the interpreter for every audit event of every thread."""
        if not self.listening:
            return
        if event == "socket.connect":
            address = arguments[1]
            if isinstance(address, tuple):
                self.seen.add(f"{address[0]}:{address[1]}")
        elif event == "socket.getaddrinfo":
            self.seen.add(f"{arguments[0]}:{arguments[1]}")


_DIALS = Dials()
sys.addaudithook(_DIALS.hook)


@contextmanager
def dials() -> Iterator[set[str]]:
    """``HOST:PORT`` of each connection and look-up that begins in the context.

    The loop must be asyncio's own: others connect without telling the interpreter.
    """
    _DIALS.seen, _DIALS.listening = set(), True
    try:
        yield _DIALS.seen
    finally:
        _DIALS.listening = False
