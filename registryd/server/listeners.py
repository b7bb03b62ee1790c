"""Listening sockets: made here, or handed over by systemd; and the servers on them.

Invariants:
- a socket file that nobody answers on is replaced; one that somebody answers on is not touched;
- a socket that systemd handed over is used as it is, and its file is left alone at the end;
- a socket that other machines can reach is served by what the configuration says of it, or not;
- a listening socket stays open while its server is replaced: clients wait in line.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from registryd.config import DaemonConfig, Listen
from registryd.oci.errors import ConfigInvalid
from registryd.server.connections import Connection, Crowd, Limits, watched
from registryd.server.tls import make_contexts
from registryd.transfer.groups import task_group

if TYPE_CHECKING:
    from registryd.server.entrance import Entrance

BACKLOG = 1024
#: How long (seconds) the two sides may take to agree on TLS.
HANDSHAKE = 15.0
#: The shortest drain (seconds): aiohttp takes 0 to mean for ever.
SHORTEST_DRAIN = 0.01
#: systemd hands over descriptors from this one on (sd_listen_fds(3)).
FIRST_FD = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """A listening socket, what it is called for people, and which registry it stands for.

    ``entry`` is the place of its table in ``daemon.listen``, ``tls`` what that says of TLS.
    ``peers``: it is for the other nodes of the cluster, who show certificates (``cluster.listen``);
    ``gateway``: for Shifter's clients, whom munge knows (``gateway.listen``).
    """

    sock: socket.socket
    name: str
    default_registry: str = "docker.io"
    file: Path | None = None
    entry: int | None = None
    tls: ssl.SSLContext | None = None
    peers: bool = False
    gateway: bool = False

    @property
    def usual(self) -> bool:
        """Whether it is for people and runtimes."""
        return not self.peers and not self.gateway


def inherited(
    count: int, listen: Sequence[Listen], peers: str = "", gateway: str = ""
) -> list[Door]:
    """The sockets that systemd handed over; a TCP one is served as the configuration says.

    ``peers`` is the address for other nodes, ``gateway`` that for Shifter's clients.
    Raises ConfigInvalid.
    """
    doors: list[Door] = []
    contexts = make_contexts(listen)
    entries = {_plain_name(each.address): at for at, each in enumerate(listen)}
    for fd in range(FIRST_FD, FIRST_FD + count):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        if sock.family == socket.AF_UNIX:
            doors.append(Door(sock, f"unix:{sock.getsockname()}"))
            continue
        name = _address(sock)
        entry = entries.get(name)
        if peers and name == _plain_name(peers):
            doors.append(Door(sock, name, peers=True))
        elif gateway and name == _plain_name(gateway):
            doors.append(Door(sock, name, gateway=True))
        elif entry is not None:
            default = listen[entry].default_registry
            doors.append(Door(sock, name, default, entry=entry, tls=contexts[entry]))
        elif _is_local(sock):
            doors.append(Door(sock, name))
        else:
            raise ConfigInvalid(
                f"daemon.listen: the socket {name} that was handed over can be reached from other"
                " machines; give it a table with this address, tls_cert, tls_key and client_ca"
            )
    for at, each in enumerate(listen if count else ()):
        if contexts[at] is not None and at not in [door.entry for door in doors]:
            _log.warning("daemon.listen[%d]: no socket for %s was handed over", at, each.address)
    return doors


def make_peers_door(address: str) -> Door:
    """Open the socket for other nodes. Raises ConfigInvalid."""
    sock = _tcp_socket(address, "cluster.listen")
    return Door(sock, _address(sock), peers=True)


def make_gateway_door(address: str) -> Door:
    """Open the socket for Shifter's clients. Raises ConfigInvalid."""
    sock = _tcp_socket(address, "gateway.listen")
    return Door(sock, _address(sock), gateway=True)


def _plain_name(address: str) -> str:
    """An address of the configuration as sockets say it."""
    return address.replace("localhost:", "127.0.0.1:", 1)


def _is_local(sock: socket.socket) -> bool:
    return ipaddress.ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback


def make_doors(config: DaemonConfig) -> list[Door]:
    """Open every socket that the configuration names. Raises ConfigInvalid."""
    doors: list[Door] = []
    contexts = make_contexts(config.listen)
    try:
        if config.socket is not None:
            doors.append(_unix_door(config.socket, config.socket_mode))
        for at, entry in enumerate(config.listen):
            sock = _tcp_socket(entry.address, "daemon.listen")
            name = _address(sock)
            doors.append(Door(sock, name, entry.default_registry, entry=at, tls=contexts[at]))
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


def _tcp_socket(address: str, key: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigInvalid(f"{key}: cannot listen on {address}: {error.strerror}") from error
    return sock


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Listeners:
    """The servers on the doors of one daemon; made by ``serving``."""

    def __init__(self, crowd: Crowd, group: asyncio.TaskGroup) -> None:
        self._crowd = crowd
        self._group = group
        self._rooms: list[tuple[Door, web.Server]] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._entrances: list[tuple[Door, Entrance]] = []

    async def open(self, door: Door, server: web.Server) -> None:
        """Serve on this door."""
        if door.peers and door.tls is not None:
            # Here, for a daemon without a cluster has no use for what certificates take to read.
            from registryd.server.entrance import Entrance

            sock = door.sock.dup()
            entrance = Entrance(sock, lambda: Connection(server, self._crowd), door.tls)
            entrance.open(self._group)
            self._entrances.append((door, entrance))
            return
        self._rooms.append((door, server))
        self._servers.append(await self._listen(door, server, door.tls))

    async def renew(
        self, contexts: Sequence[ssl.SSLContext | None], peers: ssl.SSLContext | None = None
    ) -> None:
        """Serve new connections with these contexts, by place in ``daemon.listen``; and peers."""
        for _, entrance in self._entrances:
            if peers is not None:
                entrance.tls = peers
        for at, (door, server) in enumerate(self._rooms):
            if door.entry is not None:
                self._servers[at].close()
                self._servers[at] = await self._listen(door, server, contexts[door.entry])

    def close(self) -> None:
        """Accept nobody any more; with a socket of the service manager, clients wait in line."""
        for server in self._servers:
            server.close()
        for door, entrance in self._entrances:
            entrance.close()
            door.sock.close()
        for door, _ in self._rooms:
            door.sock.close()

    async def _listen(
        self, door: Door, server: web.Server, tls: ssl.SSLContext | None
    ) -> asyncio.AbstractServer:
        return await asyncio.get_running_loop().create_server(
            lambda: Connection(server, self._crowd),
            sock=door.sock.dup(),  # the server closes what it is given
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else HANDSHAKE,
            backlog=BACKLOG,
        )


@asynccontextmanager
async def serving(
    apps: Sequence[tuple[Door, web.Application]],
    *,
    drain: float,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> AsyncIterator[Listeners]:
    """Serve each application on its door; at the end stop accepting, then drain for so long."""
    crowd = Crowd(limits)
    runners: list[web.AppRunner] = []
    tasks: set[asyncio.Task[None]] = set()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_end, tasks)
        for door, _ in apps:
            stack.push_async_callback(_shut, door)
        listeners = Listeners(crowd, await stack.enter_async_context(task_group()))
        stack.callback(listeners.close)
        for door, app in apps:
            app.on_response_prepare.append(crowd.part)
            runner = web.AppRunner(app, shutdown_timeout=SHORTEST_DRAIN)
            stack.push_async_callback(runner.cleanup)
            runners.append(runner)
            await runner.setup()
            assert runner.server is not None  # noqa: S101 (setup has made it)
            await listeners.open(door, watched(runner.server, tasks))
        try:
            yield listeners
        finally:
            listeners.close()
            for runner in runners:
                await runner.shutdown()  # applications are told now, and not when all is over
            await crowd.end(drain)


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """End what still answers clients that have gone."""
    left = list(tasks)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _shut(door: Door) -> None:
    door.sock.close()
    if door.file is not None:
        with suppress(FileNotFoundError):
            await asyncio.to_thread(door.file.unlink)
