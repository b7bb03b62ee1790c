"""What brings content to a node, by its configuration: flights, and who makes files of images."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from cache.store import BlobStore
from registryd.config import Config, RegistryConfig
from registryd.conversion.below import Below
from registryd.conversion.conversions import Others
from registryd.counts import Counts
from registryd.rates import Rates
from registryd.transfer.flight import Flights
from registryd.transfer.lanes import Lanes
from registryd.transfer.lower import Lowers

if TYPE_CHECKING:
    from registryd.cluster_ports import Neighbours
    from registryd.cluster_services import Neighbourhood


def flights_of(
    config: Config, store: BlobStore, counts: Counts, rates: Rates, neighbours: Neighbours | None
) -> AbstractAsyncContextManager[Flights]:
    """The flights of a node, with the shared stores that are asked first."""
    default = RegistryConfig()
    lanes = Lanes(lambda name: config.registries.get(name, default).max_connections)
    lowers = Lowers(config.cache.lower)
    return Flights.open(store, config.transfer, counts, rates, neighbours, lanes, lowers)


def others_of(
    config: Config, neighbours: Neighbourhood | None, flights: Flights, store: BlobStore
) -> Others:
    """What lower stores have, and the nodes that convert too where there are any."""
    if neighbours is None or not config.convert.share:
        return Below(flights, store)
    # Here, for a node without others has no use for what asking them takes to import.
    from registryd.cluster.peer_lines import PeerLines
    from registryd.conversion.elsewhere import Elsewhere
    from registryd.conversion.sharing import Sharing

    elsewhere = Elsewhere(neighbours.exchange.company, PeerLines(neighbours.client))
    return Below(flights, store, Sharing(elsewhere, flights, store))
