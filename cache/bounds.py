"""Bounds: how much room a store may take (pure)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """At most ``max_size`` bytes (0: no bound), and ``min_free`` bytes left on the file system.

    Beyond ``high`` percent of ``max_size`` content goes until ``low`` percent are taken.
    """

    max_size: int = 0
    high: int = 90
    low: int = 80
    min_free: int = 0

    @property
    def none(self) -> bool:
        """Whether there are none."""
        return not (self.max_size or self.min_free)

    def must(self, used: int, free: int) -> int:
        """Bytes that have to go."""
        over = used - self.max_size if self.max_size else 0
        return max(0, over, self.min_free - free if self.min_free else 0)

    def should(self, used: int, free: int) -> int:
        """Bytes that had better go: down to the low mark, once the high one is passed."""
        passed = self.max_size and used * 100 > self.max_size * self.high
        down = used - self.max_size * self.low // 100 if passed else 0
        return max(down, self.must(used, free))
