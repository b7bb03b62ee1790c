"""An image's squashfs mounted for one command (and for those that join it), and for nobody else.

The mount is in namespaces of ours, the program that serves it (squashfuse) is outside of them: so
the kernel itself ends the mount with the last command, and the mount's end ends the program.
Neither a setuid helper nor a name in the user database is needed.

Invariants:
- the program has the image, the kernel's end and nothing else: no stream, no file of the caller's;
- it is nobody's child, and no signal from a terminal reaches it.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from registryd.launch import kernel
from registryd.launch.errors import LaunchFailed
from registryd.launch.kernel import outermost

#: The faster one first: it serves several readers at once.
PROGRAMS: Final = ("squashfuse_ll", "squashfuse")
#: Descriptors in the program: the image, and the kernel's end.
_IMAGE: Final = 3
_KERNEL: Final = 4


class Server:
    """A process that waits, outside, for the kernel's end of a mount, to serve an image through it.

    Made before namespaces are left; ``serve`` ends the waiting, and so does ``close``.
    """

    def __init__(self, program: Path, image: int, offset: int = 0) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        between = os.fork()
        if between == 0:
            ours.close()  # or the end of who waits for us would never be seen
            _leave(program, image, theirs, offset)
        theirs.close()
        os.waitpid(between, 0)
        self._socket = ours
        self._program = program

    def serve(self, target: str) -> None:
        """Mount the image at a folder of our namespaces. Raises LaunchFailed."""
        try:
            device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise LaunchFailed(
                f"an image cannot be mounted here: /dev/fuse: {error.strerror}"
                " (have it opened to everybody: chmod 666 /dev/fuse)"
            ) from error
        try:
            _mount(device, target)
            socket.send_fds(self._socket, [b"!"], [device])
        except OSError as error:
            raise LaunchFailed(f"the image cannot be mounted: {error.strerror}") from error
        finally:
            os.close(device)  # from now on the program alone holds it, or the mount is dead
        self._socket.recv(1)  # it ends as the program begins
        self.close()
        try:
            os.stat(target)
        except OSError as error:
            raise LaunchFailed(
                f"the image is no squashfs that {self._program.name} can read"
            ) from error

    def close(self) -> None:
        """Nothing is to be served (any more)."""
        self._socket.close()


def _mount(device: int, target: str) -> None:
    """Mount what is served through this descriptor. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    options = f"fd={device},rootmode=40000,user_id={uid},group_id={gid}"
    if outermost():  # root may become others; in a user namespace all are its one user
        options += ",allow_other"
    flags = kernel.RDONLY | kernel.NOSUID | kernel.NODEV
    kernel.mount("registryd", target, "fuse.squashfuse", flags, options)


def _leave(program: Path, image: int, end: socket.socket, offset: int) -> None:
    """In the child: a process of its own, the program once it has the kernel's end."""
    code = 1
    with suppress(BaseException):  # whatever happens, this copy of the caller goes no further
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _, descriptors, _, _ = socket.recv_fds(end, 1, 1)
            if descriptors:
                _become(program, image, descriptors[0], offset)
        code = 0
    os._exit(code)


def _become(program: Path, image: int, device: int, offset: int) -> None:
    """Become the program, with the two descriptors that it needs."""
    os.chdir("/")
    image, device = os.dup2(image, 200), os.dup2(device, 201)
    os.dup2(image, _IMAGE)
    os.dup2(device, _KERNEL)
    os.closerange(_KERNEL + 1, 1 << 16)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    os.close(nothing)
    words = [program.name, "-f"]
    if offset:
        words += ["-o", f"offset={offset}"]
    words += [f"/dev/fd/{_IMAGE}", f"/dev/fd/{_KERNEL}"]
    os.execve(program, words, {"PATH": "/usr/bin:/bin"})  # noqa: S606 - no shell is wanted
