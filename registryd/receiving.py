"""A unix socket that keeps the open files which come with its bytes (unix(7), SCM_RIGHTS).

Invariant: a file that came is given out once or closed, and no program we start inherits it.
"""

from __future__ import annotations

import array
import os
import socket
from typing import Any

from cache.marks import override

#: One file comes with an answer; whatever comes beyond this is closed by the kernel.
_MOST = 4


class ReceivingSocket(socket.socket):
    """A socket for http.client, which reads by ``recv_into``."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self._files: list[int] = []

    @override
    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As ever, and keeps what comes beside the bytes."""
        into = memoryview(buffer)[: nbytes or None]
        room = socket.CMSG_SPACE(_MOST * array.array("i").itemsize)
        count, beside, _, _ = self.recvmsg_into([into], room, flags | socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                files = array.array("i")
                files.frombytes(content[: len(content) - len(content) % files.itemsize])
                self._files.extend(files)
        return count

    def received(self) -> int:
        """The first file that came, which is the caller's to close. Raises LookupError."""
        return self._files.pop(0)

    def discard(self) -> None:
        """Close the files that nobody took."""
        while self._files:
            os.close(self._files.pop())
