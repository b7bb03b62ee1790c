"""Why goals were not reached, as a profiler told; and which goals README shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: By the bench, and words of the goal's title and row.
REASONS: Final[Mapping[tuple[str, str], str]] = {}
HEADLINES: Final[Mapping[tuple[str, str], str]] = {}
