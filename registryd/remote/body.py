"""A stretch of a blob as it arrives from a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator

from registryd.ports import Line, TransportError
from registryd.remote.answer import Answer


class RemoteBody:
    """Bytes ``start`` to ``stop`` of a blob of ``total``: ports.Body, to be iterated once."""

    def __init__(self, answer: Answer, start: int, stop: int | None, total: int | None) -> None:
        self._answer = answer
        self._start = start
        self._stop = stop
        self._total = total

    @property
    def start(self) -> int:
        """Offset in the blob of the first byte that will come."""
        return self._start

    @property
    def stop(self) -> int | None:
        """Offset in the blob after the last byte that will come, or None when it is not known."""
        return self._stop

    @property
    def total(self) -> int | None:
        """Size of the whole blob as the registry says it, or None when it does not say."""
        return self._total

    @property
    def source(self) -> str:
        """The host that sends, which is not always the registry."""
        return self._answer.host

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes; never more than were announced.

        Raises TransportError when the stretch ends short, stalls or breaks.
        """
        if self._stop == self._start:
            return
        offset = self._start
        async for piece in self._answer.pieces():
            offset += len(piece)
            if self._stop is not None and offset > self._stop:
                self._answer.broken = True
                raise TransportError(f"{self.source} sends more than it announced")
            yield piece
        if self._stop is not None and offset < self._stop:
            self._answer.broken = True
            raise TransportError(
                f"{self.source} broke off after {offset - self._start} of "
                f"{self._stop - self._start} bytes"
            )

    def take_line(self) -> Line | None:
        """The connection itself, where what it carries is the blob and nothing but (no TLS)."""
        if self._stop is None or self._stop == self._start:
            return None
        return self._answer.take_line(self._stop - self._start)
