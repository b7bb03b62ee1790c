"""What registries let us know beside their answers: how much is left to us, and when to wait.

Invariants:
- used on the event loop alone, so without locks; whoever listens is told at once;
- a listener is told once of each wait, and once of each allowance that runs out;
- the number of allowances that are kept is bounded, and none of them holds a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from typing_extensions import override

#: An allowance is running out when so many requests are left of it, or one tenth of it.
FEW = 10
TENTH = 10
#: One that is renewed sooner than this (seconds), or is no larger than FEW, is a matter of pace:
#: to use it up is no misfortune.
LEAST_WINDOW = 60
#: Allowances that are kept: one for each registry and account.
KEPT = 256


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests a registry allows within ``window`` seconds, and how many are left.

    ``source`` is whom it counts (an address, an account's number), as it says; None is not said.
    """

    limit: int | None = None
    remaining: int | None = None
    window: int | None = None
    source: str = ""

    @property
    def scarce(self) -> bool:
        """Whether it is running out."""
        if self.remaining is None or (self.limit is not None and self.limit <= FEW):
            return False
        if self.window is not None and self.window < LEAST_WINDOW:
            return False
        return self.remaining <= FEW or self.remaining * TENTH < (self.limit or 0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A host wants no requests for so many seconds, up to the moment ``until`` of our own clock.

    ``registry`` is the one that we ask there, "" where it is not known.
    """

    registry: str
    host: str
    seconds: float
    until: float
    status: int

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two of them the same."""
        return self.host, self.until

    @override
    def __str__(self) -> str:
        why = "limits us" if self.status == 429 else "is not ready"
        return f"{self.host} {why} ({self.status}), waiting {max(1, round(self.seconds))} s"


@dataclass(frozen=True, slots=True)
class Scarce:
    """A registry allows this account ("": nobody's) few more requests."""

    registry: str
    account: str
    rate_limit: RateLimit

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two of them the same."""
        return self.registry, self.account

    @override
    def __str__(self) -> str:
        left, whole = self.rate_limit.remaining, self.rate_limit.limit
        window = self.rate_limit.window
        per = "" if window is None else f" in {window // 3600 or 1} h"
        of = "" if whole is None else f" of {whole}{per}"
        who = f"user {self.account}" if self.account else "us, who ask without a login"
        return f"{self.registry} allows {who} {left} more requests{of}"


Notice = Waiting | Scarce
Tell = Callable[[Notice], None]


class Notices:
    """The notices of one process."""

    def __init__(self, warned: Callable[[str], None] = lambda text: None) -> None:
        """``warned`` is told when an allowance begins to run out, once until it recovers."""
        self._warned = warned
        self._rate_limits: dict[tuple[str, str], RateLimit] = {}
        self._listeners: list[tuple[str, Tell]] = []

    @property
    def rate_limits(self) -> dict[tuple[str, str], RateLimit]:
        """The latest of each registry and account."""
        return dict(sorted(self._rate_limits.items()))

    def tell(self, notice: Notice) -> None:
        """Let those know who listen to this registry."""
        for registry, tell in tuple(self._listeners):
            if not registry or notice.registry in (registry, ""):
                tell(notice)

    def note(self, registry: str, account: str, rate_limit: RateLimit) -> None:
        """Keep what a registry said of an account's allowance."""
        key = registry, account
        before = self._rate_limits.pop(key, None)
        self._rate_limits[key] = rate_limit
        while len(self._rate_limits) > KEPT:
            del self._rate_limits[next(iter(self._rate_limits))]
        if not rate_limit.scarce:
            return
        scarce = Scarce(registry, account, rate_limit)
        self.tell(scarce)
        if before is None or not before.scarce:
            self._warned(str(scarce))

    @contextmanager
    def heard(self, registry: str, tell: Tell) -> Iterator[None]:
        """Within this block ``tell`` is told what a registry lets us know ("": any of them)."""
        seen: set[tuple[object, ...]] = set()

        def once(notice: Notice) -> None:
            if notice.key not in seen:
                seen.add(notice.key)
                tell(notice)

        listener = registry, once
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners = [each for each in self._listeners if each is not listener]
