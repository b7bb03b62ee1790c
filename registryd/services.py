"""From a configuration to the whole object graph; who is opened here is closed here, in order."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.store import BlobStore
from registryd.access import Access, Sharing
from registryd.cluster.alone import Alone
from registryd.config import Config
from registryd.conversion.conversions import Conversions, Others
from registryd.conversion.making import Terms
from registryd.counts import Counts
from registryd.fetch_services import flights_of, others_of
from registryd.jobs.lookup import Lookup
from registryd.jobs.opening import prefetches_of
from registryd.notices import Notices
from registryd.oci.platform import Platform
from registryd.operations import Node, Operations
from registryd.ports import Warned
from registryd.rates import Rates
from registryd.remote.credential_places import Place, default_places
from registryd.remote.credentials import FILES, CredentialFiles
from registryd.remote.found_hosts import FoundHosts
from registryd.remote.proxies import proxies_of
from registryd.remote.remotes import RegistryRemotes
from registryd.remote.upload_journal import UPLOADS, UploadJournal
from registryd.transfer.admission import Admission
from registryd.transfer.flight import Flights
from registryd.transfer.library import LOCALHOST, Library
from registryd.transfer.tag_policy import TagPolicy
from registryd.transfer.tags import Tags
from registryd.upkeep.scrubbing import Scrubbing
from registryd.user_quotas import quotas_of

if TYPE_CHECKING:
    from registryd.cluster.exchange import Exchange
    from registryd.cluster.peer_tls import PeerTls
    from registryd.cluster_ports import Neighbours
    from registryd.cluster_services import Neighbourhood
    from registryd.jobs.prefetches import Prefetches

_log = logging.getLogger(__name__)


def limits_of(config: Config) -> tuple[int, int, dict[str, int]]:
    """The limits of a node in bytes a second: up, down, and those of registries."""
    registries = {name: each.rate for name, each in config.registries.items() if each.rate}
    return config.cluster.up, config.cluster.down, registries


class Reloads:
    """What takes over a changed configuration while it runs; a call tells all of them."""

    def __init__(self) -> None:
        self._acts: list[Callable[[Config, FoundHosts | None], None]] = []
        #: What there is because there are other nodes; None without a cluster.
        self.neighbours: Neighbourhood | None = None

    def on(self, act: Callable[[Config, FoundHosts | None], None]) -> None:
        """Do this at every reload."""
        self._acts.append(act)

    def __call__(
        self, config: Config, identity: PeerTls | None = None, found: FoundHosts | None = None
    ) -> None:
        for act in self._acts:
            act(config, found)
        if self.neighbours is not None and identity is not None:
            self.neighbours.renew(identity)


def _bound(store: BlobStore, config: Config) -> None:
    """How much room the store may take, and which images nobody could bring again."""
    away = tuple(f"{name}/" for name, each in config.registries.items() if each.offline)
    store.room.quotas.limit, store.pins.always = quotas_of(config.cache), config.cache.pins
    store.room.bound(config.cache.bounds, (f"{LOCALHOST}/", *away))


@asynccontextmanager
async def open_node(
    config: Config,
    environ: Mapping[str, str],
    *,
    authfiles: Sequence[Place] = (),
    listeners: Sequence[str] = (),
    reloads: Reloads | None = None,
    neighbours: Neighbourhood | None = None,
    warned: Warned = _log.warning,
    found: FoundHosts = FoundHosts(),  # noqa: B008 - frozen
) -> AsyncIterator[Node]:
    """The parts of a node on its cache; it logs in with ``authfiles``.

    ``found`` is what other programs' files say of hosts; ``warned`` is told what a person should
    know (default: the log). Raises StoreLocked, StoreUnusable, ConfigInvalid.
    """
    counts = Counts(config.registries)
    notices = Notices(_log.warning) if listeners else Notices()  # a command has its user's eyes
    rates = neighbours.rates if neighbours else Rates(*limits_of(config))
    exchange = neighbours.exchange if neighbours else None
    async with (
        BlobStore.open(config.cache.root) as store,
        RegistryRemotes.open(
            **_registries(config),
            credentials=_credentials(authfiles, () if listeners else found.helpers, warned),
            proxies=proxies_of(environ),
            answered=counts.answered,
            notices=notices,
            warned=warned,
            one_user=not listeners,
            found=found,
        ) as remotes,
        flights_of(config, store, counts, rates, exchange) as flights,
    ):
        policy = TagPolicy(config.registries)
        library = _library(config, store, flights, policy, exchange)
        _take_over(reloads, store, remotes, policy, rates, library)
        await _begin(config, library, store, exchange, own=not listeners)
        others = others_of(config, neighbours, flights, store)
        async with _conversions(config, environ, store, library, others, counts, listeners) as made:
            yield Node(
                store=store,
                flights=flights,
                library=library,
                access=_access(config, flights, store, remotes, counts, others=bool(listeners)),
                remotes=remotes,
                host=Platform.of_machine(platform.system(), platform.machine()),
                jobs=config.transfer.jobs,
                pid=os.getpid(),
                started=time.monotonic(),
                listeners=listeners,
                counts=counts,
                rates=rates,
                notices=notices,
                cluster=neighbours.cluster if neighbours else Alone(),
                exchange=exchange,
                prefetches=_prefetches(neighbours, remotes, library.tags, policy, listeners),
                conversions=made,
                scrubbing=_scrubbing(config, store, library, remotes, reloads),
            )


async def _begin(
    config: Config, library: Library, store: BlobStore, exchange: Exchange | None, *, own: bool
) -> None:
    """Put back what an index that was lost knew, then let the other nodes know what is here."""
    _bound(store, config)
    await library.restore(own=own)
    if exchange is not None:
        exchange.tell_of(store)


def _conversions(
    config: Config,
    environ: Mapping[str, str],
    store: BlobStore,
    library: Library,
    others: Others,
    counts: Counts,
    listeners: Sequence[str],
) -> AbstractAsyncContextManager[Conversions]:
    jobs = config.convert.at_once(len(os.sched_getaffinity(0)))
    # A daemon's conversions stand back behind what runs on the node; a command's user waits.
    terms = Terms(environ, config.convert.nice if listeners else 0)
    return Conversions.open(library, store, terms, jobs=jobs, others=others, counts=counts)


def _credentials(
    authfiles: Sequence[Place], helpers: Sequence[str], warned: Warned
) -> CredentialFiles:
    """``helpers`` are those of a user; a daemon runs no program for everybody's sake."""
    return CredentialFiles(authfiles, helpers=helpers or (FILES,), warned=warned)


def _library(
    config: Config,
    store: BlobStore,
    flights: Flights,
    policy: TagPolicy,
    exchange: Neighbours | None,
) -> Library:
    admission = Admission(config.signatures, store, clock=time.monotonic)
    return Library(
        store, flights, policy=policy, clock=time.time, neighbours=exchange, admission=admission
    )


def _registries(config: Config) -> dict[str, Any]:
    """What the configuration says of registries, and where their uploads are written down."""
    return {
        "registries": config.registries,
        "transfer": config.transfer,
        "allow": config.access.allow,
        "journal": UploadJournal(config.cache.root / UPLOADS),
    }


def _access(
    config: Config,
    flights: Flights,
    store: BlobStore,
    remotes: RegistryRemotes,
    counts: Counts,
    *,
    others: bool,
) -> Access:
    return Access(
        store,
        remotes,
        ttl=config.access.grant_ttl,
        sharing=Sharing.of(config.registries),
        for_others=others,
        counts=counts,
        lowers=flights.lowers,
    )


def _take_over(
    reloads: Reloads | None,
    store: BlobStore,
    remotes: RegistryRemotes,
    policy: TagPolicy,
    rates: Rates,
    library: Library,
) -> None:
    """Have these take over what changes in the configuration."""
    if reloads is None:
        return
    reloads.on(lambda new, _: _bound(store, new))
    reloads.on(lambda new, _: library.lowers.take_over(new.cache.lower))
    reloads.on(lambda new, found: remotes.take_over(new.registries, new.access.allow, found))
    reloads.on(lambda new, _: policy.take_over(new.registries))
    reloads.on(lambda new, _: rates.take_over(*limits_of(new)))
    reloads.on(lambda new, _: library.admission.take_over(new.signatures))


def _scrubbing(
    config: Config,
    store: BlobStore,
    library: Library,
    remotes: RegistryRemotes,
    reloads: Reloads | None,
) -> Scrubbing:
    scrubbing = Scrubbing(config.cache, store, library, remotes)
    if reloads is not None:
        reloads.on(lambda new, _: scrubbing.take_over(new.cache))
    return scrubbing


def _prefetches(
    neighbours: Neighbourhood | None,
    remotes: RegistryRemotes,
    tags: Tags,
    policy: TagPolicy,
    listeners: Sequence[str],
) -> Prefetches | None:
    """The jobs of a daemon, which run beside its listeners; None where there are none."""
    if not listeners:
        return None
    lookup = Lookup(remotes, tags)
    cluster = neighbours.cluster if neighbours else Alone()
    client = neighbours.client if neighbours else None
    host = platform.node()
    return prefetches_of(cluster, client, lookup, policy, host=host, clock=time.time)


@asynccontextmanager
async def open_operations(
    config: Config,
    environ: Mapping[str, str],
    found: FoundHosts = FoundHosts(),  # noqa: B008 - frozen
    *,
    warned: Warned = _log.warning,
) -> AsyncIterator[Operations]:
    """The verbs of a node in this process, with its user's own credential files."""
    authfiles = config.access.authfiles or default_places(
        environ, Path(environ.get("HOME") or Path.home())
    )
    opening = open_node(config, environ, authfiles=authfiles, warned=warned, found=found)
    async with opening as node:
        yield Operations(node)
