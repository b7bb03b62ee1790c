"""Queueing: the upload slots of this node, with askers that really wait (see ``serving``).

Invariants:
- a slot is taken by one upload and given back when it ends, whatever it ends by;
- of an asker that asks again for the same chunk only the last question stands: it has given the
  earlier one up, or it would not ask;
- an asker that has gone is taken out of the line within ``Exchange``'s tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from registryd.cluster.serving import Answers, Queue, Redirect, Refuse, Request, Serve, Serving

Verdict = Serve | Redirect | Refuse


@dataclass(slots=True, eq=False)
class Waiter:
    """An asker in the line; ``gone`` tells whether its connection has ended."""

    request: Request
    answer: asyncio.Future[Verdict]
    gone: Callable[[], bool]


class Line:
    """Who waits for an upload here, and who has one."""

    def __init__(self, serving: Serving, clock: Callable[[], float]) -> None:
        self.serving = serving
        self._clock = clock
        self._waiters: dict[tuple[str, int, int], Waiter] = {}

    @property
    def free(self) -> int:
        """Slots that nobody has or waits for."""
        return self.serving.free

    @asynccontextmanager
    async def turn(
        self, request: Request, reach: int | None, gone: Callable[[], bool] = lambda: False
    ) -> AsyncIterator[Verdict]:
        """The answer to a request for a chunk, as soon as there is one; ``reach`` as in Serving.

        Serve: a slot is ours within the block. Raises ConnectionResetError when the asker has gone.
        """
        answer = await self._verdict(request, reach, gone)
        try:
            yield answer
        finally:
            if isinstance(answer, Serve):
                self._tell(self.serving.ended(self._clock()))

    async def _verdict(
        self, request: Request, reach: int | None, gone: Callable[[], bool]
    ) -> Verdict:
        key = (request.asker, *request.key)
        if key in self._waiters:
            self._withdraw(self._waiters[key])
        answer = self.serving.ask(request, reach, self._clock())
        if not isinstance(answer, Queue):
            return answer
        waiter = Waiter(request, asyncio.get_running_loop().create_future(), gone)
        self._waiters[key] = waiter
        try:
            return await waiter.answer
        except asyncio.CancelledError:
            if self._waiters.get(key) is waiter:
                self._withdraw(waiter)
            elif _has_slot(waiter.answer):
                self._tell(self.serving.ended(self._clock()))
            raise

    def here(self, blob: int, chunk: int) -> None:
        """The first bytes of a chunk are here."""
        self._tell(self.serving.here(blob, chunk, self._clock()))

    def barred(self, blob: int) -> None:
        """We cannot get a blob from its registry: those to whom we owe chunks go elsewhere."""
        self._tell(self.serving.barred(blob))

    def lost(self, blob: int) -> None:
        """Nothing more comes of a blob: who waits for chunks of it goes elsewhere."""
        chunks = {w.request.chunk for w in self._waiters.values() if w.request.blob == blob}
        for chunk in sorted(chunks):
            self._tell(self.serving.lost(blob, chunk))

    def tick(self) -> None:
        """Time went by: send on those who have waited too long, forget those who have gone."""
        for waiter in [each for each in self._waiters.values() if each.gone()]:
            self._withdraw(waiter)
        self._tell(self.serving.passed(self._clock()))

    def __len__(self) -> int:
        return len(self._waiters)

    def _withdraw(self, waiter: Waiter) -> None:
        request = waiter.request
        del self._waiters[request.asker, request.blob, request.chunk]
        self.serving.withdrawn(request.asker, request.blob, request.chunk)
        if not waiter.answer.done():
            waiter.answer.set_exception(ConnectionResetError("the asker has gone"))

    def _tell(self, answers: Answers) -> None:
        for request, answer in answers:
            waiter = self._waiters.pop((request.asker, request.blob, request.chunk), None)
            if waiter is not None and not waiter.answer.done():
                waiter.answer.set_result(answer)
            elif isinstance(answer, Serve):
                # Nobody takes it: its slot is the next one's.
                self._tell(self.serving.ended(self._clock()))


def _has_slot(answer: asyncio.Future[Verdict]) -> bool:
    """Whether a slot was given to somebody who had just stopped waiting."""
    given = answer.done() and not answer.cancelled() and answer.exception() is None
    return given and isinstance(answer.result(), Serve)
