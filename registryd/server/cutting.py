"""How an answer ends that cannot be finished: by the end of its connection, and how that looks.

Measured with containerd 1.6, podman 4.3, buildah 1.28, skopeo 1.9 and dockerd 20.10. Invariant:
- no client can take what it has for the whole: the connection never ends by its own rules.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import Final

from aiohttp import web

#: SO_LINGER on, for no time: close() then sends a reset.
_RESET: Final = struct.pack("ii", 1, 0)


def cut(request: web.Request) -> None:
    """End the connection of a request whose body cannot be finished.

    A client that says ``ns`` (containerd) goes on elsewhere from the byte it has reached when the
    connection merely ends, and gives the pull up on a reset; podman and buildah begin the pull anew
    on a reset, and give it up when the connection merely ends.
    """
    transport = request.transport
    if transport is None:
        return
    wire = transport.get_extra_info("socket")  # None when TLS has closed it already
    if wire is not None and "ns" not in request.query:
        with suppress(OSError), socket.socket(fileno=os.dup(wire.fileno())) as copy:
            if copy.family != socket.AF_UNIX:
                copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
