"""The ``[cache]`` section: where the cache lives, and how much room it may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cache.bounds import Bounds
from registryd.oci.errors import ConfigInvalid
from registryd.tables import absolute, size, whole

#: No disk is larger: what is, is a mistake.
LARGEST = 2**60


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """``max_size`` 0 is no bound; the marks are percent of it. Raises ConfigInvalid."""

    root: Annotated[Path, absolute]
    max_size: Annotated[int, size(0, LARGEST)] = 0
    high_water: Annotated[int, whole(1, 100)] = 90
    low_water: Annotated[int, whole(1, 100)] = 80
    min_free: Annotated[int, size(0, LARGEST)] = 0

    def __post_init__(self) -> None:
        if self.low_water > self.high_water:
            raise ConfigInvalid("low_water is above high_water: content goes from high to low")

    @property
    def bounds(self) -> Bounds:
        """The bounds of the store."""
        return Bounds(self.max_size, self.high_water, self.low_water, self.min_free)
