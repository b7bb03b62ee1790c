"""Restarts under a service manager that owns the sockets: clients notice nothing but a pause.

The test is the manager: it opens the sockets, hands them over as sd_listen_fds(3) says, and starts
one process after the other. Its clients never try anything twice.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry, digest_of
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import until
from tests.real.daemon import DaemonProcess, started

MIB = 1 << 20
SMALL = random.Random(1).randbytes(300_000)
LARGE = random.Random(2).randbytes(8 * MIB)
RESTARTS = 3
#: Puts the sockets where the protocol has them, and says whose they are.
HAND_OVER = """
import os, sys
count = int(sys.argv[1])
for number in range(count):
    os.dup2(int(sys.argv[2 + number]), 100 + number)
for number in range(count):
    os.dup2(100 + number, 3 + number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2 + count], sys.argv[2 + count:])
"""


@dataclass
class Manager:
    """The sockets of a unit, and its service."""

    config: Path
    unix: socket.socket
    tcp: socket.socket

    @property
    def port(self) -> int:
        port: int = self.tcp.getsockname()[1]
        return port

    def start(self) -> AbstractAsyncContextManager[DaemonProcess]:
        """The next process of the service."""
        fds = [self.unix.fileno(), self.tcp.fileno()]
        under = [sys.executable, "-c", HAND_OVER, str(len(fds)), *map(str, fds)]
        environ = {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": "registryd:registryd"}
        return started(self.config, environ, under=under, fds=fds)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with Upstream().serve() as server:
        for content in (SMALL, LARGE):
            server.add_blob("team/app", content)
        yield server


@pytest.fixture
def manager(tmp_path: Path, upstream: FakeRegistry) -> Manager:
    config = tmp_path / "d.toml"
    config.write_text(
        f'[daemon]\ndrain_timeout = "20s"\n[cache]\nroot = "{tmp_path / "cache"}"\n'
        f'[registries."{upstream.name}"]\nplain_http = true\n'
    )
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "d.sock"))
    unix.listen(1024)
    tcp = socket.create_server(("127.0.0.1", 0), backlog=1024)
    return Manager(config, unix, tcp)


@dataclass
class Client:
    """Asks for one blob again and again until it is told to stop; what went wrong, if anything."""

    manager: Manager
    path: str
    content: bytes
    over_unix: bool = False
    kept: bool = False
    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    stop: bool = False

    async def run(self) -> None:
        """Connect and ask; a connection is kept only as long as the answers say so."""
        while not self.stop and not self.wrong:
            try:
                reader, writer = await self._connect()
                try:
                    while await self._ask(reader, writer) and not self.stop:
                        pass
                finally:
                    writer.transport.abort()
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.wrong.append(f"after {self.answered} answers: {error!r}")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.over_unix:
            return await asyncio.open_unix_connection(self.manager.unix.getsockname())
        return await asyncio.open_connection("127.0.0.1", self.manager.port)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        end = "" if self.kept else "Connection: close\r\n"
        writer.write(f"GET {self.path} HTTP/1.1\r\nHost: node\r\n{end}\r\n".encode())
        async with asyncio.timeout(60):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            body = await reader.readexactly(len(self.content))
        if not head.startswith("http/1.1 200 ") or body != self.content:
            self.wrong.append(f"after {self.answered} answers: {head}")
        self.answered += 1
        return "connection: close" not in head


def clients_of(manager: Manager, upstream: FakeRegistry) -> list[Client]:
    """New connections each time and kept ones, on both sockets, small answers and large ones."""
    blobs = upstream.repositories["team/app"].blobs
    found = [
        Client(manager, f"/v2/{upstream.name}/team/app/blobs/{digest}", content, over_unix, kept)
        for digest, content in blobs.items()
        for over_unix in (True, False)
        for kept in (True, False)
    ]
    return found + [Client(manager, "/healthz", b"ok\n", kept=kept) for kept in (True, False) * 2]


async def answered_more(clients: Sequence[Client]) -> None:
    """Wait until every client has had two answers more."""
    counts = [client.answered + 2 for client in clients]

    def claim() -> bool:
        more = zip(clients, counts, strict=True)
        return all(client.wrong or client.answered >= count for client, count in more)

    await until(claim, limit=60)


@asynccontextmanager
async def asking(clients: Sequence[Client]) -> AsyncIterator[None]:
    """Let them ask; at the end each finishes the question it is at."""
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run())
        yield
        for client in clients:
            client.stop = True


async def test_no_client_notices_a_restart(manager: Manager, upstream: FakeRegistry) -> None:
    """No connection is refused, no answer is cut, and every question is answered."""
    clients = clients_of(manager, upstream)
    codes = []
    with manager.unix, manager.tcp:
        async with AsyncExitStack() as stack:
            daemon = await stack.enter_async_context(manager.start())
            async with asking(clients):
                for _ in range(RESTARTS):
                    await answered_more(clients)
                    daemon.send(signal.SIGTERM)
                    codes.append(await daemon.ended())
                    daemon = await stack.enter_async_context(manager.start())
                await answered_more(clients)
            daemon.send(signal.SIGTERM)
            codes.append(await daemon.ended())

    assert [] == [words for client in clients for words in client.wrong]
    assert [0] * (RESTARTS + 1) == codes


async def test_no_client_notices_a_reload(manager: Manager, upstream: FakeRegistry) -> None:
    """While servers are replaced on their sockets, clients wait in line."""
    clients = clients_of(manager, upstream)
    manager.config.write_text(
        manager.config.read_text() + f'[[daemon.listen]]\naddress = "127.0.0.1:{manager.port}"\n'
    )
    with manager.unix, manager.tcp:
        async with manager.start() as daemon, asking(clients):
            for _ in range(20):
                daemon.send(signal.SIGHUP)
                await answered_more(clients)

    assert [] == [words for client in clients for words in client.wrong]
    assert any("reloaded" in line for line in daemon.lines)


async def test_a_client_in_the_middle_of_its_request(manager: Manager) -> None:
    """What has begun to come before the end is answered, and the answer says it is the last."""
    with manager.unix, manager.tcp:
        async with manager.start() as daemon:
            reader, writer = await asyncio.open_connection("127.0.0.1", manager.port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n")
            first = await reader.readuntil(b"ok\n")
            daemon.send(signal.SIGTERM)
            await daemon.said("stopping")
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n")
            last = await reader.read()
            writer.close()
            code = await daemon.ended()

    assert (False, True) == (b"close" in first, b"\r\nConnection: close\r\n" in last)
    assert (True, 0) == (last.endswith(b"\r\n\r\nok\n"), code)


async def test_a_client_that_is_silent_does_not_hold_up_the_end(manager: Manager) -> None:
    """Who asks nothing is let go long before the drain's limit."""
    loop = asyncio.get_running_loop()
    with manager.unix, manager.tcp:
        async with manager.start() as daemon:
            reader, writer = await asyncio.open_connection("127.0.0.1", manager.port)
            half, other = await asyncio.open_connection("127.0.0.1", manager.port)
            other.write(b"GET /healthz HTTP/1.1\r\nHo")
            async with daemon.client() as client, client.get("/healthz") as answer:
                await answer.read()  # both are accepted by now
            daemon.send(signal.SIGTERM)
            began = loop.time()
            code = await daemon.ended()
            took = loop.time() - began
            ends = (await reader.read(), await half.read())
            writer.close()
            other.close()

    assert ((b"", b""), 0, True) == (ends, code, took < 10)


async def test_an_answer_that_was_begun_before_the_end(
    manager: Manager, upstream: FakeRegistry
) -> None:
    """It comes whole; its connection is closed soon after, though nothing said that."""
    digest = digest_of(LARGE)
    gate = asyncio.Event()
    upstream.stall("GET .*/blobs/", gate, at=2 * MIB)
    loop = asyncio.get_running_loop()
    with manager.unix, manager.tcp:
        async with manager.start() as daemon:
            reader, writer = await asyncio.open_unix_connection(manager.unix.getsockname())
            path = f"/v2/{upstream.name}/team/app/blobs/{digest}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: node\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            daemon.send(signal.SIGTERM)
            await daemon.said("stopping")
            gate.set()
            body = await reader.readexactly(len(LARGE))
            began = loop.time()
            code = await daemon.ended()
            took = loop.time() - began
            writer.close()

    assert (False, True, 0) == (b"close" in head, body == LARGE, code)
    assert took < 10
