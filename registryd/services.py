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
from registryd.access import Access, Sharing
from registryd.config import Config
from registryd.counts import Counts
from registryd.oci.platform import Platform
from registryd.operations import Node, Operations
from registryd.remote.credentials import CredentialFiles, default_paths
from registryd.remote.proxies import proxies_of
from registryd.remote.remotes import RegistryRemotes
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library
from registryd.transfer.tag_policy import TagPolicy

if TYPE_CHECKING:
    from aiohttp import web

    from registryd.server.listeners import Door


class Reloads:
    """What takes over a changed configuration while it runs; a call tells all of them."""

    def __init__(self) -> None:
        self._acts: list[Callable[[Config], None]] = []

    def on(self, act: Callable[[Config], None]) -> None:
        """Do this at every reload."""
        self._acts.append(act)

    def __call__(self, config: Config) -> None:
        for act in self._acts:
            act(config)


@asynccontextmanager
async def open_node(
    config: Config,
    environ: Mapping[str, str],
    *,
    authfiles: Sequence[Path] = (),
    listeners: Sequence[str] = (),
    reloads: Reloads | None = None,
) -> AsyncIterator[Node]:
    """The parts of a node on its cache; ``authfiles`` are what it logs in with.

    Raises StoreLocked, StoreUnusable, ConfigInvalid.
    """
    counts = Counts(config.registries)
    async with (
        BlobStore.open(config.cache.root) as store,
        RegistryRemotes.open(
            registries=config.registries,
            transfer=config.transfer,
            allow=config.access.allow,
            credentials=CredentialFiles(authfiles),
            proxies=proxies_of(environ),
            answered=counts.answered,
        ) as remotes,
        Flights.open(store, config.transfer, counts) as flights,
    ):
        policy = TagPolicy(config.registries)
        library = Library(store, flights, policy=policy, clock=time.time)
        if reloads is not None:
            reloads.on(lambda new: remotes.take_over(new.registries, new.access.allow))
            reloads.on(lambda new: policy.take_over(new.registries))
        await library.restore(own=not listeners)
        yield Node(
            store=store,
            flights=flights,
            library=library,
            access=Access(
                store,
                remotes,
                ttl=config.access.grant_ttl,
                sharing=Sharing.of(config.registries),
                for_others=bool(listeners),
                counts=counts,
            ),
            remotes=remotes,
            host=Platform.of_machine(platform.system(), platform.machine()),
            jobs=config.transfer.jobs,
            pid=os.getpid(),
            started=time.monotonic(),
            listeners=listeners,
            counts=counts,
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
    config: Config,
    environ: Mapping[str, str],
    doors: Sequence[Door],
    reloads: Reloads | None = None,
) -> AsyncIterator[list[tuple[Door, web.Application]]]:
    """The application of each listener, on one node.

    The daemon logs in only with the files its configuration names: it works for everybody, so it
    must not use what happens to lie in the home of whoever started it.
    """
    # Here, for a command without a daemon has no use for a server and would wait for its import.
    from registryd.server.app import make_app
    from registryd.server.budget import Budgets
    from registryd.server.context import Context
    from registryd.server.kernel import SEND_THREADS
    from registryd.server.metrics import Metrics
    from registryd.server.tokens import Tokens
    from registryd.server.uploads import Uploads

    names = [door.name for door in doors]
    authfiles = config.access.authfiles
    with ThreadPoolExecutor(SEND_THREADS, "send") as senders:
        async with open_node(
            config, environ, authfiles=authfiles, listeners=names, reloads=reloads
        ) as node:
            metrics = Metrics(node)
            sessions, budgets = Uploads(), Budgets()
            operations = Operations(node)
            secret = node.store.grants.secret
            tokens = Tokens(await secret("token"), await secret("login"))
            yield [
                (
                    door,
                    make_app(
                        Context(
                            node,
                            operations,
                            metrics,
                            senders,
                            door.default_registry,
                            tokens,
                            budgets,
                            door.name,
                        ),
                        sessions,
                    ),
                )
                for door in doors
            ]
