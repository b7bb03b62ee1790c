"""A whole node in this process, on sockets of its own: what its clients speak is real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from registryd.config import (
    AccessConfig,
    CacheConfig,
    Config,
    DaemonConfig,
    Listen,
    RegistryConfig,
    TransferConfig,
)
from registryd.daemon_services import open_daemon
from registryd.operations import Node
from registryd.server.connections import Limits
from registryd.server.context import CONTEXT
from registryd.server.listeners import make_doors, serving
from tests.fakes.http import FakeServer

#: One try a request: what a test wants to see is the answer, not the waits between tries.
IMPATIENT = TransferConfig(attempts=1, stall_timeout=20)


@dataclass
class RunningNode:
    """A node that answers: its parts, and where it listens."""

    node: Node
    socket: Path
    port: int

    @property
    def url(self) -> str:
        """Where TCP clients (nobody knows who they are) find it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def root(self) -> Path:
        """Its cache."""
        return self.node.store.root

    @asynccontextmanager
    async def stranger(self, authorization: str = "") -> AsyncIterator[aiohttp.ClientSession]:
        """A client over TCP, which shows this with each request."""
        connector = aiohttp.TCPConnector(limit=0)
        async with session(connector, self.url, authorization) as client:
            yield client

    @asynccontextmanager
    async def nobody(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client over TCP with a token for nobody, as runtimes without a login have it."""
        async with self.stranger() as client, client.get("/token") as answer:
            token = (await answer.json())["token"]
        async with self.stranger(f"Bearer {token}") as client:
            yield client

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client over the unix socket, of the user that the node runs as."""
        async with session(
            aiohttp.UnixConnector(str(self.socket), limit=0), "http://node"
        ) as client:
            yield client


@asynccontextmanager
async def session(
    connector: aiohttp.BaseConnector, url: str, authorization: str = ""
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that changes nothing on the way."""
    async with aiohttp.ClientSession(
        base_url=url,
        connector=connector,
        headers={"Authorization": authorization} if authorization else {},
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=60),
    ) as client:
        yield client


def plain(*servers: FakeServer, **settings: Any) -> Mapping[str, RegistryConfig]:
    """The configuration of scripted registries."""
    return {server.name: RegistryConfig(plain_http=True, **settings) for server in servers}


@asynccontextmanager
async def running_node(
    folder: Path,
    *,
    registries: Mapping[str, RegistryConfig] | None = None,
    default_registry: str = "docker.io",
    transfer: TransferConfig = IMPATIENT,
    access: AccessConfig = AccessConfig(),  # noqa: B008 - frozen
    limits: Limits = Limits(),  # noqa: B008 - frozen
    ui: bool = True,
) -> AsyncIterator[RunningNode]:
    """A node with its cache below ``folder``."""
    config = Config(
        daemon=DaemonConfig(
            socket=folder / "node.sock",
            listen=(Listen("127.0.0.1:0", default_registry),),
            drain_timeout=0.0,
            ui=ui,
        ),
        cache=CacheConfig(folder / "cache"),
        registries=registries or {},
        transfer=transfer,
        access=access,
    )
    doors = await asyncio.to_thread(make_doors, config.daemon)
    async with (
        open_daemon(config, {}, doors) as apps,
        serving(apps, drain=0.0, limits=limits),
    ):
        port = doors[1].sock.getsockname()[1]
        yield RunningNode(apps[0][1][CONTEXT].node, folder / "node.sock", port)
    for _ in range(3):  # aiohttp cancels the handlers that are left, and does not wait for them
        await asyncio.sleep(0)
