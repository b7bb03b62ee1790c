"""Nodes of a cluster by NATS, in this process or each in its own: presence without a daemon.

As a program it is one node, until somebody ends it: arguments are its name and NATS's servers.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registryd.cluster.identity import Member
from registryd.cluster.members import Facts
from registryd.cluster.nats_cluster import NatsCluster
from registryd.cluster.nats_link import NatsLink
from registryd.cluster.opening import open_cluster
from registryd.cluster.presence import Timing
from registryd.cluster_config import ClusterConfig
from tests.fakes.waiting import until

#: A tenth of a second between beats, so that a test sees in one second what takes twenty.
QUICK = Timing(beat=0.1, answer=0.05, keep=3.0)
FACTS = Facts(3, 1 << 40, "9.9")
FILE = Path("/nowhere")


def config(*urls: str, **more: Any) -> ClusterConfig:
    """The section of a node that uses these servers; its certificate is of no use here."""
    return ClusterConfig(nats=urls, ca_file=FILE, cert=FILE, key=FILE, **more)


def member(name: str, cluster: str = "hpc") -> Member:
    """Who a node is."""
    return Member(cluster, name, (name,), datetime.now(UTC), datetime.now(UTC))


@asynccontextmanager
async def node(
    name: str, *urls: str, cluster: str = "hpc", timing: Timing = QUICK, **more: Any
) -> AsyncIterator[NatsCluster]:
    """One node, which may not have found NATS yet."""
    who = member(name, cluster)
    async with open_cluster(config(*urls, **more), who, lambda: FACTS, timing=timing) as opened:
        assert isinstance(opened, NatsCluster)
        yield opened


@asynccontextmanager
async def nodes(count: int, *urls: str) -> AsyncIterator[list[NatsCluster]]:
    """So many nodes, n1 and so on, which all know one another."""
    async with AsyncExitStack() as stack:
        found = [
            await stack.enter_async_context(node(f"n{number + 1}", *urls))
            for number in range(count)
        ]
        await until(lambda: all(len(each.nodes()) == count for each in found))
        yield found


@asynccontextmanager
async def linked(*urls: str, name: str = "n1", **more: Any) -> AsyncIterator[NatsLink]:
    """A link that has connected."""
    async with NatsLink.open(config(*urls, **more), name=name) as link:
        await until(lambda: link.connected)
        yield link


def names(cluster: NatsCluster) -> list[str]:
    """Whom a node knows."""
    return [each.name for each in cluster.nodes()]


@contextmanager
def process(name: str, *urls: str) -> Iterator[subprocess.Popen[bytes]]:
    """A node in a process of its own, to be killed."""
    running = subprocess.Popen([sys.executable, "-m", "tests.real.nats_nodes", name, *urls])
    try:
        yield running
    finally:
        running.kill()
        running.wait()


async def main(name: str, *urls: str) -> None:
    """Be a node."""
    async with node(name, *urls):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
