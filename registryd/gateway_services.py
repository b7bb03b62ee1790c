"""The gateway of a daemon: its parts, and its work beside the listeners."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from registryd.cluster.beside import beside
from registryd.config import Config
from registryd.gateway.gateway import Gateway
from registryd.gateway.munge import Munge
from registryd.operations import Node, Operations
from registryd.operations.gateway_making import NodeMaker

if TYPE_CHECKING:
    from aiohttp import web

    from registryd.server.context import Context

_log = logging.getLogger(__name__)


@asynccontextmanager
async def with_gateway(node: Node, config: Config) -> AsyncIterator[Node]:
    """The node with a gateway. Raises StoreUnusable, DiskFull, ConfigInvalid."""
    async with Gateway.open(config.cache.root, config.gateway, time.time) as gateway:
        gateway.shelf.min_free = lambda: node.store.room.bounds.min_free
        yield replace(node, gateway=gateway)


def shifter_app(context: Context, config: Config, environ: Mapping[str, str]) -> web.Application:
    """What Shifter's clients find on the listener for them."""
    from registryd.server.shifter_door import make_shifter_app

    return make_shifter_app(context, Munge(config.gateway.munge_socket, environ))


@asynccontextmanager
async def working(
    operations: Operations, config: Config, environ: Mapping[str, str]
) -> AsyncIterator[None]:
    """Carry imports out as long as this is open."""
    gateway = operations.gateway
    maker = NodeMaker(
        operations.node,
        operations.pull,
        config.gateway.compressor,
        environ,
        gateway.shelf.work,
        _log.warning,
    )
    async with beside(lambda: gateway.run(maker)):
        yield
