"""The parts of a node, as operations and servers find them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cache.store import BlobStore
from registryd.access import Access
from registryd.cluster.alone import Alone
from registryd.cluster_ports import Cluster
from registryd.conversion.conversions import Conversions
from registryd.counts import Counts
from registryd.history import History
from registryd.jobs.prefetches import Prefetches
from registryd.notices import Notices
from registryd.oci.platform import Platform
from registryd.operations.looks import Looks
from registryd.ports import Remotes
from registryd.rates import Rates
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library
from registryd.transfer.lower import Lowers
from registryd.upkeep.scrubbing import Scrubbing

if TYPE_CHECKING:
    from registryd.cluster.exchange import Exchange
    from registryd.gateway.gateway import Gateway

#: A result that is bytes: content, media type, its digest, the digest of its manifest.
Raw = tuple[bytes, str, str, str]
Result = dict[str, object]


@dataclass(frozen=True, slots=True)
class Node:
    """The parts that operations work with; made by ``services``."""

    store: BlobStore
    flights: Flights
    library: Library
    access: Access
    remotes: Remotes
    host: Platform
    jobs: int
    pid: int
    started: float
    listeners: Sequence[str] = ()
    counts: Counts = field(default_factory=Counts)
    rates: Rates = field(default_factory=Rates)
    notices: Notices = field(default_factory=Notices)
    history: History = field(default_factory=History)
    looks: Looks = field(default_factory=Looks)
    cluster: Cluster = field(default_factory=Alone)
    exchange: Exchange | None = None
    prefetches: Prefetches | None = None
    conversions: Conversions | None = None
    gateway: Gateway | None = None
    scrubbing: Scrubbing | None = None

    @property
    def lowers(self) -> Lowers:
        """The shared stores below the cache."""
        return self.flights.lowers


def moment(seconds: float) -> str:
    """Unix seconds as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
