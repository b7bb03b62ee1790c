"""Capabilities that root keeps in a container, as docker has it (capabilities(7))."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: By the names of the runtime specification ("Process", ``capabilities``), with Linux's numbers.
ROOT_KEEPS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "CAP_CHOWN": 0,
        "CAP_DAC_OVERRIDE": 1,
        "CAP_FSETID": 4,
        "CAP_FOWNER": 3,
        "CAP_MKNOD": 27,
        "CAP_NET_RAW": 13,
        "CAP_SETGID": 6,
        "CAP_SETUID": 7,
        "CAP_SETFCAP": 31,
        "CAP_SETPCAP": 8,
        "CAP_NET_BIND_SERVICE": 10,
        "CAP_SYS_CHROOT": 18,
        "CAP_KILL": 5,
        "CAP_AUDIT_WRITE": 29,
    }
)
