"""Rates: how many bytes a second may pass, and who of those that wait comes next.

Invariants:
- in any time ``t`` at most ``limit * t`` bytes are let through, and beside them one burst and what
  was asked for last;
- keys (blobs) take turns, whatever they ask for at once: who is new waits for one turn of each of
  the others, so a huge blob does not keep small ones waiting, nor the small ones it;
- a change of a limit holds at once, for those who wait too; without a limit nothing is counted;
- used on the event loop alone, so without locks: threads are paced between their hops.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Protocol

#: Seconds for which an idle rate saves what it did not let through; and never less than these
#: bytes, or a single small blob would wait on a quiet line.
BURST_SECONDS = 0.1
LEAST_BURST = 256 << 10
#: What a stream asks for at once is a twentieth of a second's bytes, so that turns are short: but
#: no less than is worth a system call, and no more than is worth a thread's hop.
GRAINS = 20
LEAST_GRAIN = 16 << 10
LARGEST_GRAIN = 4 << 20
#: Keys that are remembered beyond those that wait before we look who can be forgotten.
KEPT = 64


@dataclass(slots=True, eq=False)
class Ask:
    """Bytes that somebody wants to let through; ``tell`` is called when they may."""

    key: Hashable
    count: int
    end: float
    tell: Callable[[], None]
    open: bool = True


class Bucket:
    """One limit, and those who wait for it. Pure: ``now`` (seconds) is an argument.

    A bucket of tokens, given out by fair queueing with the line's own clock (Golestani, 1994): an
    ask begins where the last one of its key ended, or where the line is, and who ends first is
    first.
    """

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self._at = now
        self._level = self._burst
        self._line: list[tuple[float, int, Ask]] = []
        self._asked = 0
        self._virtual = 0.0
        self._ends: dict[Hashable, float] = {}
        self._bound = KEPT

    @property
    def _burst(self) -> float:
        return max(self.limit * BURST_SECONDS, LEAST_BURST)

    def change(self, limit: int, now: float) -> None:
        """Go on with another limit; ``granted`` says at once who may go on by it."""
        self._settle(now)
        self.limit = limit

    def ask(self, key: Hashable, count: int, tell: Callable[[], None], now: float) -> Ask | None:
        """Ask for ``count`` bytes: None when they may pass now, else a place in the line."""
        if not self.limit:
            return None
        end = self._ends[key] = max(self._virtual, self._ends.get(key, 0.0)) + count
        self._forget_keys()
        self._settle(now)
        if not self._waits and self._ready:
            self._pay(end, count)
            return None
        ask = Ask(key, count, end, tell)
        self._asked += 1
        heappush(self._line, (end, self._asked, ask))
        return ask

    def withdraw(self, ask: Ask) -> None:
        """Ask no more: the place in the line is given up, or what was granted given back."""
        if not ask.open:
            self.give_back(ask.count)
            return
        ask.open = False
        if ask.key in self._ends:
            self._ends[ask.key] -= ask.count

    def give_back(self, count: int) -> None:
        """Say that so many less have passed than were granted (more, where it is below 0)."""
        self._level = min(self._level + count, self._burst)

    def granted(self, now: float) -> list[Ask]:
        """Those whose turn has come, in their order."""
        self._settle(now)
        asks = []
        while self._waits and self._ready:
            ask = heappop(self._line)[2]
            ask.open = False
            self._pay(ask.end, ask.count)
            asks.append(ask)
        if not self.limit:
            self._level, self._virtual = self._burst, 0.0
            self._ends.clear()
        return asks

    def due(self, now: float) -> float | None:
        """When the next one's turn comes; None when nobody waits."""
        if not self._waits:
            return None
        if self._ready:
            return now
        return max(now, self._at - self._level / self.limit)

    @property
    def _waits(self) -> bool:
        while self._line and not self._line[0][2].open:
            heappop(self._line)
        return bool(self._line)

    @property
    def _ready(self) -> bool:
        # Half a byte is nothing: it makes up for what is lost in rounding.
        return self._level > -0.5 or not self.limit

    def _pay(self, end: float, count: int) -> None:
        # More than there is may be taken once: the debt is paid before anybody else comes.
        self._virtual = max(self._virtual, end)
        self._level -= count

    def _settle(self, now: float) -> None:
        self._level = min(self._level + max(0.0, now - self._at) * self.limit, self._burst)
        self._at = now

    def _forget_keys(self) -> None:
        if len(self._ends) > self._bound:
            ends = {key: end for key, end in self._ends.items() if end > self._virtual}
            self._ends, self._bound = ends, 2 * len(ends) + KEPT


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> None:
        """Let it not happen."""


Later = Callable[[float, Callable[[], None]], Timer]


def _later(seconds: float, act: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, act)


class Rate:
    """A limit in bytes a second, 0 for none, for streams of this event loop."""

    def __init__(
        self,
        limit: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
        later: Later = _later,
    ) -> None:
        self._bucket = Bucket(limit, clock())
        self._clock = clock
        self._later = later
        self._timer: Timer | None = None

    @property
    def limit(self) -> int:
        """Bytes a second; 0 for no limit."""
        return self._bucket.limit

    @property
    def grain(self) -> int:
        """How many bytes are best asked for at once."""
        return min(max(self.limit // GRAINS, LEAST_GRAIN), LARGEST_GRAIN)

    def change(self, limit: int) -> None:
        """Hold to another limit from now on."""
        self._bucket.change(limit, self._clock())
        self._tell()

    async def take(self, key: Hashable, count: int) -> None:
        """Wait until ``count`` bytes of a stream of ``key`` may pass; those have passed then."""
        if not self.limit:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ask = self._bucket.ask(key, count, lambda: _resolve(turn), self._clock())
        if ask is None:
            return
        self._tell()
        try:
            await turn
        except asyncio.CancelledError:
            self._bucket.withdraw(ask)
            self._tell()
            raise

    def give_back(self, count: int) -> None:
        """Say that so many less have passed than were taken (more, where it is below 0)."""
        self._bucket.give_back(count)
        self._tell()

    def _tell(self) -> None:
        """Let those go on whose turn has come, and come back for the next one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock()
        for ask in self._bucket.granted(now):
            ask.tell()
        due = self._bucket.due(now)
        if due is not None:
            self._timer = self._later(due - now, self._tell)


def _resolve(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


class Pace:
    """One stream, and the rates that it keeps to; made by ``Rates``.

    Pay before, settle after: ``room`` pays for bytes that are about to pass, ``passed`` says how
    many did.
    """

    def __init__(self, key: Hashable, rates: Callable[[], tuple[Rate, ...]]) -> None:
        self._key = key
        self._rates = rates
        #: Paid for and not passed; less than 0 when more has passed than was paid for.
        self._credit = 0
        self._paid: tuple[Rate, ...] = ()

    async def room(self, wanted: int) -> int:
        """How many bytes may pass now, of ``wanted``; waits for the first, unless none is."""
        if self._credit <= 0 < wanted:
            rates = self._rates()
            if not rates:
                self._credit, self._paid = 0, ()
                return wanted
            await self._pay(rates, min(wanted, *(rate.grain for rate in rates)) - self._credit)
        return min(wanted, max(self._credit, 0))

    async def _pay(self, rates: tuple[Rate, ...], count: int) -> None:
        paid: list[Rate] = []
        try:
            for rate in rates:
                await rate.take(self._key, count)
                paid.append(rate)
        except asyncio.CancelledError:
            for rate in paid:
                rate.give_back(count)
            raise
        self._credit += count
        self._paid = rates

    def passed(self, count: int) -> None:
        """Say that so many bytes have passed."""
        if self._paid:
            self._credit -= count

    def close(self) -> None:
        """Give back what was paid for and did not pass, or pay what is owed."""
        for rate in self._paid:
            rate.give_back(self._credit)
        self._credit, self._paid = 0, ()


class Rates:
    """The limits of a node: what it sends to other nodes (``up``), what it takes from them and from
    registries (``down``), and what it takes from each registry.
    """

    def __init__(
        self,
        up: int = 0,
        down: int = 0,
        registries: Mapping[str, int] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        later: Later = _later,
    ) -> None:
        def make(limit: int) -> Rate:
            return Rate(limit, clock=clock, later=later)

        self._make = make
        self.up = make(up)
        self.down = make(down)
        self._registries: dict[str, Rate] = {}
        for name, limit in (registries or {}).items():
            self.limit_registry(name, limit)

    @property
    def registries(self) -> dict[str, int]:
        """The registries that have a limit, and how much."""
        return {name: rate.limit for name, rate in sorted(self._registries.items())}

    def limit_registry(self, name: str, limit: int) -> None:
        """Take no more than this from a registry from now on; 0 for no limit."""
        if name in self._registries:
            self._registries[name].change(limit)
        elif limit:
            self._registries[name] = self._make(limit)
        if not limit:
            self._registries.pop(name, None)

    def take_over(self, up: int, down: int, registries: Mapping[str, int]) -> None:
        """Go on with these limits and no others."""
        self.up.change(up)
        self.down.change(down)
        for name in {**self._registries, **registries}:
            self.limit_registry(name, registries.get(name, 0))

    @contextmanager
    def from_registry(self, name: str, key: Hashable) -> Iterator[Pace]:
        """The pace of a stream that brings bytes of ``key`` from a registry."""

        def rates() -> tuple[Rate, ...]:
            # The narrower one first: what is paid to the node's own is not kept from others.
            own = self._registries.get(name)
            return _limited(self.down) if own is None else _limited(own, self.down)

        with _closing(Pace(key, rates)) as pace:
            yield pace

    @contextmanager
    def from_peers(self, key: Hashable) -> Iterator[Pace]:
        """The pace of a stream that brings bytes of ``key`` from another node."""
        with _closing(Pace(key, lambda: _limited(self.down))) as pace:
            yield pace

    @contextmanager
    def to_peers(self, key: Hashable) -> Iterator[Pace]:
        """The pace of a stream that takes bytes of ``key`` to another node."""
        with _closing(Pace(key, lambda: _limited(self.up))) as pace:
            yield pace


def _limited(*rates: Rate) -> tuple[Rate, ...]:
    return tuple(rate for rate in rates if rate.limit)


@contextmanager
def _closing(pace: Pace) -> Iterator[Pace]:
    try:
        yield pace
    finally:
        pace.close()
