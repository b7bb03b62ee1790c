"""From a configuration to the whole object graph; who is opened here is closed here, in order."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cache.store import BlobStore
from registryd.access import Access
from registryd.config import Config, RegistryConfig
from registryd.oci.platform import Platform
from registryd.operations import Node, Operations
from registryd.remote.credentials import CredentialFiles, default_paths
from registryd.remote.proxies import proxies_of
from registryd.remote.remotes import RegistryRemotes
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library

if TYPE_CHECKING:
    from aiohttp import web

    from registryd.server.listeners import Door


@asynccontextmanager
async def open_node(
    config: Config,
    environ: Mapping[str, str],
    *,
    authfiles: Sequence[Path] = (),
    listeners: Sequence[str] = (),
) -> AsyncIterator[Node]:
    """The parts of a node on its cache; ``authfiles`` are what it logs in with.

    Raises StoreLocked, StoreUnusable, ConfigInvalid.
    """
    async with (
        BlobStore.open(config.cache.root) as store,
        RegistryRemotes.open(
            registries=config.registries,
            transfer=config.transfer,
            allow=config.access.allow,
            credentials=CredentialFiles(authfiles),
            proxies=proxies_of(environ),
        ) as remotes,
        Flights.open(store, config.transfer) as flights,
    ):
        library = Library(store, flights, tag_ttl=_tag_ttl(config), clock=time.time)
        await library.restore(own=not listeners)
        yield Node(
            store=store,
            flights=flights,
            library=library,
            access=Access(store, remotes, ttl=config.access.grant_ttl, shared=bool(listeners)),
            remotes=remotes,
            host=Platform.of_machine(platform.system(), platform.machine()),
            jobs=config.transfer.jobs,
            pid=os.getpid(),
            started=time.monotonic(),
            listeners=listeners,
        )


@asynccontextmanager
async def open_operations(config: Config, environ: Mapping[str, str]) -> AsyncIterator[Operations]:
    """The verbs of a node in this process, with its user's own credential files."""
    authfiles = config.access.authfiles or default_paths(
        environ, Path(environ.get("HOME") or Path.home())
    )
    async with open_node(config, environ, authfiles=authfiles) as node:
        yield Operations(node)


@asynccontextmanager
async def open_daemon(
    config: Config, environ: Mapping[str, str], doors: Sequence[Door]
) -> AsyncIterator[list[tuple[Door, web.Application]]]:
    """The application of each listener, on one node.

    The daemon logs in only with the files its configuration names: it works for everybody, so it
    must not use what happens to lie in the home of whoever started it.
    """
    # Here, for a command without a daemon has no use for a server and would wait for its import.
    from registryd.server.app import make_app
    from registryd.server.context import Context
    from registryd.server.kernel import SEND_THREADS
    from registryd.server.metrics import Metrics
    from registryd.server.uploads import Uploads

    names = [door.name for door in doors]
    authfiles = config.access.authfiles
    with ThreadPoolExecutor(SEND_THREADS, "send") as senders:
        async with open_node(config, environ, authfiles=authfiles, listeners=names) as node:
            metrics = Metrics(node.store, node.flights)
            sessions = Uploads()
            operations = Operations(node)
            yield [
                (
                    door,
                    make_app(
                        Context(node, operations, metrics, senders, door.default_registry),
                        sessions,
                    ),
                )
                for door in doors
            ]


def _tag_ttl(config: Config) -> Callable[[str], float]:
    default = RegistryConfig()
    return lambda registry: config.registries.get(registry, default).tag_ttl
