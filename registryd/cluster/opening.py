"""From the ``[cluster]`` section to the Cluster that it means."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from registryd.cluster.alone import Alone
from registryd.cluster.identity import Member
from registryd.cluster.members import Facts
from registryd.cluster.nats_cluster import NatsCluster
from registryd.cluster.presence import Timing
from registryd.cluster.static import StaticCluster
from registryd.cluster_config import ClusterConfig
from registryd.cluster_ports import Cluster
from registryd.oci.errors import ConfigInvalid


@asynccontextmanager
async def open_cluster(
    config: ClusterConfig,
    member: Member | None,
    facts: Callable[[], Facts] = Facts,
    *,
    timing: Timing = Timing(),  # noqa: B008 - frozen
) -> AsyncIterator[Cluster]:
    """The cluster of a node; ``member`` is who its certificate says that it is.

    ``facts`` is asked whenever the node tells of itself. Raises ConfigInvalid.
    """
    if not config.on:
        yield Alone()
        return
    if member is None:
        raise ConfigInvalid("cluster: a node without an identity is no member of any")
    if config.peers:
        yield StaticCluster.of(config, member, facts)
        return
    async with NatsCluster.open(config, member, facts, timing) as cluster:
        yield cluster
