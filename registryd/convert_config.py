"""The ``[convert]`` section: how much of the machine conversions may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from registryd.tables import flag, whole

#: The kernel's weakest niceness.
WEAKEST = 19


@dataclass(frozen=True, slots=True)
class ConvertConfig:
    """Conversions at once (0: one for every two processors), and how far they stand back.

    With ``share`` one node of a cluster makes what all of them have, and is believed.
    """

    jobs: Annotated[int, whole(0, 256)] = 0
    nice: Annotated[int, whole(0, WEAKEST)] = 10
    share: Annotated[bool, flag] = True

    def at_once(self, processors: int) -> int:
        """How many are made at the same time on a machine with so many processors."""
        return self.jobs or max(1, processors // 2)
