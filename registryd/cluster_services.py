"""The parts of a node that has neighbours: who it is, who they are, and how they are asked."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web

from registryd import __version__
from registryd.cluster.beside import beside
from registryd.cluster.errors import IdentityUnusable
from registryd.cluster.exchange import Exchange
from registryd.cluster.identity_files import IdentityFiles
from registryd.cluster.members import Facts
from registryd.cluster.opening import open_cluster
from registryd.cluster.peer_client import PeerClient
from registryd.cluster.peer_tls import PeerTls
from registryd.cluster_ports import Cluster
from registryd.config import ClusterConfig, Config
from registryd.rates import Rates
from registryd.server.context import Context
from registryd.server.peer_door import make_peers_app
from registryd.server.peers import add_routes

#: A certificate that ends sooner is a warning: there must be time to bring new ones to all nodes.
SOON = timedelta(days=30)
DAY = 86400.0
#: Seconds between two looks at how much of the disk is free.
LOOK = 10.0

_log = logging.getLogger(__name__)


def load_identity(config: ClusterConfig, running: PeerTls | None = None) -> PeerTls:
    """This node's identity by the files that a cluster's section names; reads them.

    Raises IdentityUnusable, also for another node's than the ``running`` one.
    """
    assert config.ca_file and config.cert and config.key  # noqa: S101 (else it is not ``on``)
    tls = PeerTls.load(IdentityFiles(config.ca_file, config.cert, config.key))
    if running is not None and _who(tls) != _who(running):
        raise IdentityUnusable(
            f"{config.cert}: is of another node ({tls.member.name} of {tls.member.cluster}):"
            " restart the daemon to become it"
        )
    _warn(tls, config)
    return tls


def _warn(tls: PeerTls, config: ClusterConfig) -> None:
    left = tls.member.until - datetime.now(UTC)
    if left < SOON:
        _log.warning(
            "%s: this node's certificate ends in %d days: make a new one (registryctl cluster add)"
            " and reload", config.cert, left.days,
        )  # fmt: skip


def _who(tls: PeerTls) -> tuple[str, str]:
    return tls.member.cluster, tls.member.name


@dataclass(slots=True)
class Neighbourhood:
    """What a node has because there are others; ``tls`` is what it shows them now."""

    tls: PeerTls
    cluster: Cluster
    client: PeerClient
    exchange: Exchange
    rates: Rates

    async def identity(self, config: ClusterConfig) -> PeerTls:
        """This node's identity as its files are now. Raises IdentityUnusable."""
        return await asyncio.to_thread(load_identity, config, self.tls)

    def renew(self, tls: PeerTls) -> None:
        """Show this from now on."""
        self.tls = tls
        self.client.renew(tls)

    async def remind(self, config: ClusterConfig) -> None:
        """Say each day that the certificate ends soon, for as long as that is so."""
        while True:
            await asyncio.sleep(DAY)
            _warn(self.tls, config)

    def app(self, context: Context) -> web.Application:
        """The application of the listener for other nodes."""
        return make_peers_app(context, self.tls, self.cluster, add_routes)


@asynccontextmanager
async def open_neighbourhood(config: Config, rates: Rates) -> AsyncIterator[Neighbourhood]:
    """What ``[cluster]`` says, opened; it must say something.

    Raises IdentityUnusable, ConfigInvalid.
    """
    tls = await asyncio.to_thread(load_identity, config.cluster)
    told = _Told(config.cache.root)
    async with (
        open_cluster(config.cluster, tls.member, told.facts) as cluster,
        PeerClient.open(tls, cluster.me) as client,
    ):
        exchange = told.exchange = Exchange(cluster, client, rates=rates)
        _log.info(
            "cluster: name=%s kind=%s me=%s members=%d certificate_until=%s",
            tls.member.cluster, cluster.kind, cluster.me, len(cluster.nodes()),
            f"{tls.member.until:%Y-%m-%d}",
        )  # fmt: skip
        found = Neighbourhood(tls, cluster, client, exchange, rates)
        async with (
            beside(exchange.run),
            beside(told.run),
            beside(lambda: found.remind(config.cluster)),
        ):
            yield found


class _Told:
    """What a node tells of itself; the disk is looked at beforehand, for it may take its time."""

    def __init__(self, root: Path) -> None:
        self.exchange: Exchange | None = None
        self._root = root
        self._free: int | None = None

    def facts(self) -> Facts:
        load = 0 if self.exchange is None else self.exchange.load
        return Facts(load, self._free, __version__)

    async def run(self) -> None:
        while True:
            try:
                self._free = (await asyncio.to_thread(shutil.disk_usage, self._root)).free
            except OSError:
                self._free = None  # a new cache has no folder yet: it is about to be made
            await asyncio.sleep(LOOK if self._free is not None else 1.0)
