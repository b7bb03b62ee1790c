"""Answers for those who look again and again: made once, for all who look at about one time.

Invariants:
- one kind of answer for one caller is made by one at a time; the others wait for it and have it;
- an answer that took long to make is kept the longer, so that looking takes at most one part in
  SPARING of the time, however many look;
- at most KEPT answers are kept, and a failure is nobody's answer but the one's who met it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final

#: An answer is kept for this many times as long as it took to make.
SPARING: Final = 20.0
#: Answers that are kept: some kinds for each of a few callers.
KEPT: Final = 128


@dataclass(slots=True)
class _Look:
    answer: Any = None
    until: float = float("-inf")
    making: asyncio.Lock = field(default_factory=asyncio.Lock)


class Looks:
    """The answers of one node."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: OrderedDict[Hashable, _Look] = OrderedDict()

    def __len__(self) -> int:
        """How many kinds of answers are kept."""
        return len(self._looks)

    async def share(self, key: Hashable, keep: float, make: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of this key, at most ``keep`` seconds old unless it is dear.

        Raises what ``make`` does.
        """
        look = self._looks.setdefault(key, _Look())
        self._looks.move_to_end(key)
        while len(self._looks) > KEPT:
            self._looks.popitem(last=False)
        async with look.making:
            began = self._clock()
            if began >= look.until:
                look.answer = await make()
                ended = self._clock()
                look.until = ended + max(keep, (ended - began) * SPARING)
            return look.answer
