"""The ``[convert]`` section: how much of the machine conversions may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from registryd.tables import flag, whole

#: The kernel's weakest niceness.
WEAKEST = 19
#: Each holds the names of all files of its image in memory: few are enough to use a disk.
USUAL_MOST = 8


@dataclass(frozen=True, slots=True)
class ConvertConfig:
    """Conversions at once (0: by the number of processors), and how far they stand back.

    With ``share`` one node of a cluster makes what all of them have, and is believed.
    """

    jobs: Annotated[int, whole(0, 256)] = 0
    nice: Annotated[int, whole(0, WEAKEST)] = 10
    share: Annotated[bool, flag] = True

    def at_once(self, processors: int) -> int:
        """How many are made at the same time on a machine with so many processors."""
        return self.jobs or max(1, min(USUAL_MOST, processors // 2))
