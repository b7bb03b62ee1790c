"""The ``[cache]`` section: where the cache lives, how much room it may take, and its scrub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cache.bounds import Bounds
from registryd.cluster_config import FASTEST
from registryd.oci.errors import ConfigInvalid
from registryd.tables import absolute, duration, rate, size, whole

#: No disk is larger: what is, is a mistake.
LARGEST = 2**60
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """``max_size`` 0 is no bound; the marks are percent of it. Raises ConfigInvalid.

    Every blob is read again in ``scrub`` seconds (0: none is), at no more than ``scrub_rate`` bytes
    a second (0: no limit). A month is what disks and file systems are usually given, and this rate
    leaves the slowest disk most of itself.
    """

    root: Annotated[Path, absolute]
    max_size: Annotated[int, size(0, LARGEST)] = 0
    high_water: Annotated[int, whole(1, 100)] = 90
    low_water: Annotated[int, whole(1, 100)] = 80
    min_free: Annotated[int, size(0, LARGEST)] = 0
    scrub: Annotated[float, duration(0, 3650 * DAY)] = 30 * DAY
    scrub_rate: Annotated[int, rate(0, FASTEST)] = 20 << 20

    def __post_init__(self) -> None:
        if self.low_water > self.high_water:
            raise ConfigInvalid("low_water is above high_water: content goes from high to low")

    @property
    def bounds(self) -> Bounds:
        """The bounds of the store."""
        return Bounds(self.max_size, self.high_water, self.low_water, self.min_free)
