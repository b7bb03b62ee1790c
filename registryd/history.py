"""How a node's counts stood in the last hour: a ring of samples in memory, and no more.

Invariants:
- one sample every EVERY seconds, KEPT of them; a node that nobody looks at pays for nothing else;
- a sample holds sums since the process began, so that any two of them make a rate;
- samples name no repository, no digest and no user.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from typing import Final

#: Seconds from sample to sample, and how many are kept: an hour, with both of its ends.
EVERY: Final = 10.0
KEPT: Final = 361


@dataclass(frozen=True, slots=True)
class Sample:
    """Sums at a moment (Unix seconds). Bytes of blobs: given from the ``cache``, given ``passing``
    (while they arrived), taken from ``registries`` and from other ``nodes``; how often content was
    here (``hits``) when it was asked for, and how often it was not.
    """

    at: float
    cache: int = 0
    passing: int = 0
    registries: int = 0
    nodes: int = 0
    hits: int = 0
    misses: int = 0

    def as_row(self) -> list[float]:
        """The numbers alone, in the order of COLUMNS."""
        return [round(self.at, 1), *astuple(self)[1:]]


COLUMNS: Final = tuple(each.name for each in fields(Sample))


class History:
    """The samples of one node, oldest first."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    def take(self, sample: Sample) -> None:
        """Keep a sample; the oldest goes."""
        self._samples.append(sample)

    def since(self, moment: float = 0.0) -> list[Sample]:
        """The samples that are newer than this."""
        return [sample for sample in self._samples if sample.at > moment]

    async def keep(self, look: Callable[[], Sample], *, every: float = EVERY) -> None:
        """Take a sample now and again; runs until it is cancelled."""
        due = time.monotonic()
        while True:
            self.take(look())
            # A machine that slept goes on from now, without the samples that it has missed.
            due = max(due + every, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
