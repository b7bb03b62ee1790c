"""A thread's reads of the disk put behind everybody else's (ioprio_set(2), class "idle").

Not its processor time: it holds the interpreter between two reads, and whoever waits for that would
wait with it.
"""

from __future__ import annotations

import platform
import sys
from typing import Final

#: The call's number by the kernel's name of the processor; elsewhere reads are as others'.
_NUMBERS: Final = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
_THIS_THREAD: Final = (1, 0)
_IDLE: Final = 3 << 13


def stand_back() -> None:
    """Let this thread read when nobody else does; where the system has no such thing, nothing."""
    number = _NUMBERS.get(platform.machine())
    if number is not None and sys.maxsize > 2**32:
        # Here, for a command has no use for it.
        import ctypes

        ctypes.CDLL(None).syscall(number, *_THIS_THREAD, _IDLE)
