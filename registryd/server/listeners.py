"""Listening sockets: made here, or handed over by systemd; and the servers on them.

Invariants:
- a socket file that nobody answers on is replaced; one that somebody answers on is not touched;
- a socket that systemd handed over is used as it is, and its file is left alone at the end.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from registryd.config import DaemonConfig, Listen
from registryd.oci.errors import ConfigInvalid

BACKLOG = 1024
#: Read buffer of a connection: pushed layers come in large pieces (bytes).
READ_BUFFER = 1 << 20
#: The shortest drain (seconds): aiohttp takes 0 to mean for ever.
SHORTEST_DRAIN = 0.01
#: systemd hands over descriptors from this one on (sd_listen_fds(3)).
FIRST_FD = 3


@dataclass(frozen=True, slots=True)
class Door:
    """A listening socket, what it is called for people, and which registry it stands for."""

    sock: socket.socket
    name: str
    default_registry: str = "docker.io"
    file: Path | None = None


def inherited(count: int, listen: Sequence[Listen]) -> list[Door]:
    """The sockets that systemd handed over; a TCP one stands for what the configuration says."""
    doors = []
    by_address = {entry.address: entry.default_registry for entry in listen}
    for fd in range(FIRST_FD, FIRST_FD + count):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            doors.append(Door(sock, f"unix:{sock.getsockname()}"))
        else:
            name = _address(sock)
            doors.append(Door(sock, name, by_address.get(name, "docker.io")))
    return doors


def make_doors(config: DaemonConfig) -> list[Door]:
    """Open every socket that the configuration names. Raises ConfigInvalid."""
    doors: list[Door] = []
    try:
        if config.socket is not None:
            doors.append(_unix_door(config.socket, config.socket_mode))
        doors.extend(_tcp_door(entry) for entry in config.listen)
    except BaseException:
        withdraw(doors)
        raise
    return doors


def withdraw(doors: Sequence[Door]) -> None:
    """Close sockets that could not be served, and take away the files that were made for them."""
    for door in doors:
        door.sock.close()
        if door.file is not None:
            door.file.unlink(missing_ok=True)


def _unix_door(path: Path, mode: int) -> Door:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _clear(path)
        sock.bind(str(path))
        path.chmod(mode)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigInvalid(f"daemon.socket: cannot listen on {path}: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    return Door(sock, f"unix:{path}", file=path)


def _clear(path: Path) -> None:
    """Remove a socket file that a dead process left. Raises ConfigInvalid when it is alive."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise ConfigInvalid(f"daemon.socket: {path} is there and is not a socket")
    except FileNotFoundError:
        return
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink()
    else:
        raise ConfigInvalid(f"daemon.socket: another process answers on {path}")
    finally:
        probe.close()


def _tcp_door(entry: Listen) -> Door:
    host, _, port = entry.address.rpartition(":")
    host = host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigInvalid(
            f"daemon.listen: cannot listen on {entry.address}: {error.strerror}"
        ) from error
    return Door(sock, _address(sock), entry.default_registry)


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def serving(
    apps: Sequence[tuple[Door, web.Application]], *, drain: float
) -> AsyncIterator[None]:
    """Serve each application on its door; at the end stop accepting, then drain for so long."""
    runners = []
    try:
        for door, app in apps:
            runner = web.AppRunner(
                app,
                access_log=None,
                shutdown_timeout=max(drain / 2, SHORTEST_DRAIN),  # aiohttp waits twice
                read_bufsize=READ_BUFFER,
            )
            await runner.setup()
            runners.append(runner)
            await web.SockSite(runner, door.sock, backlog=BACKLOG).start()
        yield
    finally:
        async with asyncio.TaskGroup() as group:
            for runner in runners:
                group.create_task(runner.cleanup())
        for door, _ in apps:
            door.sock.close()
            if door.file is not None:
                with suppress(FileNotFoundError):
                    await asyncio.to_thread(door.file.unlink)
