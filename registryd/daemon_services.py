"""The listeners of a daemon on one node, and what it works on beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from registryd.cluster.beside import beside
from registryd.config import Config
from registryd.operations import Operations
from registryd.rates import Rates
from registryd.remote.found_hosts import FoundHosts
from registryd.services import Reloads, limits_of, open_node

if TYPE_CHECKING:
    from aiohttp import web

    from registryd.cluster_services import Neighbourhood
    from registryd.server.listeners import Door


@asynccontextmanager
async def open_daemon(
    config: Config,
    environ: Mapping[str, str],
    doors: Sequence[Door],
    reloads: Reloads | None = None,
    found: FoundHosts = FoundHosts(),  # noqa: B008 - frozen
) -> AsyncIterator[list[tuple[Door, web.Application]]]:
    """The application of each listener, on one node.

    The daemon logs in only with the files its configuration names: it works for everybody, so it
    must not use what happens to lie in the home of whoever started it.
    """
    # Here, for a command without a daemon has no use for a server and would wait for its import.
    from registryd.gateway_services import shifter_app, with_gateway
    from registryd.server.app import make_app
    from registryd.server.budget import Budgets
    from registryd.server.context import Context
    from registryd.server.kernel import SEND_THREADS
    from registryd.server.metrics import Metrics
    from registryd.server.tokens import Tokens
    from registryd.server.uploads import Uploads

    names = [door.name for door in doors if door.usual]
    with ThreadPoolExecutor(SEND_THREADS, "send") as senders:
        async with (
            _neighbourhood(config) as neighbours,
            open_node(
                config,
                environ,
                authfiles=config.access.authfiles,
                listeners=names,
                reloads=reloads,
                neighbours=neighbours,
                found=found,
            ) as bare,
            with_gateway(bare, config) as node,
        ):
            metrics = Metrics(node)
            sessions, budgets = Uploads(), Budgets()
            operations = Operations(node)
            secret = node.store.grants.secret
            tokens = Tokens(await secret("token"), await secret("login"))
            if reloads is not None:
                reloads.neighbours = neighbours
            apps = []
            for door in doors:
                registry = door.default_registry
                context = Context(
                    node, operations, metrics, senders, registry, tokens, budgets, door.name
                )
                if door.gateway:
                    apps.append((door, shifter_app(context, config, environ)))
                elif door.usual:
                    apps.append((door, make_app(context, sessions, ui=config.daemon.ui)))
                elif neighbours is not None:
                    tls = neighbours.tls.listener
                    apps.append((replace(door, tls=tls), neighbours.app(context)))
            async with _jobs(operations, config, environ):
                yield apps


@asynccontextmanager
async def _jobs(
    operations: Operations, config: Config, environ: Mapping[str, str]
) -> AsyncIterator[None]:
    """What a daemon works on beside its listeners."""
    from registryd.gateway_services import working

    node = operations.node
    prefetches, scrubbing = node.prefetches, node.scrubbing
    assert prefetches is not None and scrubbing is not None  # noqa: S101 (of a daemon)
    async with (
        beside(node.store.room.keep),
        beside(operations.look_over),
        beside(scrubbing.run),
        beside(operations.sampled),
        beside(lambda: prefetches.run(operations.pull, operations.converted)),
        working(operations, config, environ),
    ):
        yield


@asynccontextmanager
async def _neighbourhood(config: Config) -> AsyncIterator[Neighbourhood | None]:
    """What there is because there are other nodes."""
    if not config.cluster.on:
        yield None
        return
    # Here, for a daemon without a cluster has no use for what certificates take to read.
    from registryd.cluster_services import open_neighbourhood

    async with open_neighbourhood(config, Rates(*limits_of(config))) as neighbours:
        yield neighbours
