"""Memo: answers of the index that are kept in memory, so that a hot question costs no hop.

Invariants:
- an answer is kept only if no change was begun since its question was: the index has one thread,
  which does hops in the order in which they were begun, so what is kept has seen every change;
- whoever changes what is asked about calls ``forget`` and begins the hop of the change without an
  await between them; from then on no answer is given that has not seen the change, even if the
  one who began it is cancelled;
- a memo changes no answer, and has at most ``kept`` of them: the least used leave first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar, TypeVarTuple

from cache.hops import RowHop

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

#: Answers kept by a memo: at a few hundred bytes each, about a MiB.
KEPT: Final = 4096


class Memo(Generic[*Ts, T]):
    """One question to the index, whose arguments are hashable and whose answers never change."""

    def __init__(self, ask: Callable[[*Ts], T], hop: RowHop, *, kept: int = KEPT) -> None:
        self._ask = ask
        self._hop = hop
        self._kept = kept
        self._answers: OrderedDict[tuple[object, ...], T] = OrderedDict()
        self._changes = 0

    def __len__(self) -> int:
        return len(self._answers)

    async def answer(self, *question: *Ts) -> T:
        """The answer, from memory where it is kept. Raises StoreUnusable."""
        if question in self._answers:
            self._answers.move_to_end(question)
            return self._answers[question]
        changes = self._changes
        answer = await self._hop(self._ask, *question)
        if changes == self._changes:
            self._answers[question] = answer
            if len(self._answers) > self._kept:
                self._answers.popitem(last=False)
        return answer

    def forget(self) -> None:
        """Keep nothing of what was asked until now, questions under way included."""
        self._changes += 1
        self._answers.clear()
