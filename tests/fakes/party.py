"""Whole nodes of one cluster in this process: they meet over TLS on loopback, by a static list."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from registryd.cluster.exchange import Exchange
from registryd.cluster.identity_files import IdentityFiles
from registryd.cluster_config import ClusterConfig
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
from registryd.server.context import CONTEXT
from registryd.server.listeners import make_doors, make_peers_door, serving
from tests.fakes.members import HOST, Site
from tests.fakes.node import IMPATIENT, RunningNode


@dataclass
class Guest(RunningNode):
    """A node among others: ``name`` is what they call it."""

    name: str
    files: IdentityFiles
    stack: AsyncExitStack

    @property
    def exchange(self) -> Exchange:
        """Its part in the cluster."""
        assert self.node.exchange is not None
        return self.node.exchange

    async def leave(self) -> None:
        """End this node; the others still have it on their list."""
        await self.stack.aclose()

    @asynccontextmanager
    async def peer(self, other: Guest) -> AsyncIterator[aiohttp.ClientSession]:
        """A client that shows another node's certificate at this one's door for nodes."""
        client = other.exchange.company.client._tls.client  # type: ignore[attr-defined]
        connector = aiohttp.TCPConnector(ssl=client, limit=0)
        async with aiohttp.ClientSession(
            base_url=f"https://{self.name}",
            connector=connector,
            headers={"Registryd-Node": other.name},
            auto_decompress=False,
        ) as session:
            yield session


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    socks = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [sock.getsockname()[1] for sock in socks]
    finally:
        for sock in socks:
            sock.close()


@asynccontextmanager
async def party(
    folder: Path,
    count: int,
    *,
    registries: Mapping[str, RegistryConfig],
    transfer: TransferConfig = IMPATIENT,
    alone: Sequence[int] = (),
) -> AsyncIterator[list[Guest]]:
    """So many nodes; those ``alone`` are on the list and do not run."""
    ports = free_ports(count)
    names = tuple(f"{HOST}:{port}" for port in ports)
    site = await asyncio.to_thread(Site.make, folder / "site")
    async with AsyncExitStack() as stack:
        guests = []
        for at, port in enumerate(ports):
            if at in alone:
                continue
            files = await asyncio.to_thread(site.node, f"node{at}", days=90)
            cluster = ClusterConfig(
                listen=f"{HOST}:{port}",
                peers=names,
                ca_file=files.ca_file,
                cert=files.cert,
                key=files.key,
            )
            own = AsyncExitStack()
            stack.push_async_callback(own.aclose)
            guest = await own.enter_async_context(
                _guest(folder / str(at), cluster, registries, transfer, files)
            )
            guest.stack = own
            guests.append(guest)
        yield guests
    for _ in range(3):
        await asyncio.sleep(0)


@asynccontextmanager
async def _guest(
    folder: Path,
    cluster: ClusterConfig,
    registries: Mapping[str, RegistryConfig],
    transfer: TransferConfig,
    files: IdentityFiles,
) -> AsyncIterator[Guest]:
    await asyncio.to_thread(folder.mkdir)
    config = Config(
        daemon=DaemonConfig(
            socket=folder / "node.sock", listen=(Listen(f"{HOST}:0"),), drain_timeout=0.0
        ),
        cache=CacheConfig(folder / "cache"),
        registries=registries,
        transfer=transfer,
        access=AccessConfig(),
        cluster=cluster,
    )
    doors = await asyncio.to_thread(make_doors, config.daemon)
    doors.append(await asyncio.to_thread(make_peers_door, cluster.listen))
    async with open_daemon(config, {}, doors) as apps, serving(apps, drain=0.0):
        node = apps[0][1][CONTEXT].node
        port = doors[1].sock.getsockname()[1]
        yield Guest(node, folder / "node.sock", port, cluster.listen, files, AsyncExitStack())
