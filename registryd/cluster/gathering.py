"""Answers to one question, as they come."""

from __future__ import annotations

import asyncio
from typing import Final, Generic, TypeVar

#: Seconds that the others have at least, when one has answered: a loop may be busy for so long.
GRACE: Final = 0.005

_A = TypeVar("_A")


class Gathering(Generic[_A]):
    """Up to ``most`` answers that come ``within`` so many seconds.

    Once there is one, the others are given ``after`` times as long as that one took.
    """

    def __init__(self, most: int, *, within: float, after: float) -> None:
        self._most = most
        self._after = after
        self._answers: list[_A] = []
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._until = self._began + within

    def add(self, answer: _A) -> None:
        """Take one in; one that comes too late is left."""
        if self._over.is_set():
            return
        self._answers.append(answer)
        if len(self._answers) >= self._most:
            self._over.set()
        elif len(self._answers) == 1:
            now = self._loop.time()
            patience = max(GRACE, (now - self._began) * self._after)
            self._loop.call_at(min(self._until, now + patience), self._over.set)

    def end(self) -> None:
        """There will be no more."""
        self._over.set()

    async def all(self) -> list[_A]:
        """What has come, when it is time."""
        try:
            async with asyncio.timeout_at(self._until):
                await self._over.wait()
        except TimeoutError:
            self._over.set()
        return self._answers
