"""One simulated node: the daemon's own parts, and the state of its links."""

from __future__ import annotations

from collections import Counter

from bench.sim.links import Link, Transfer
from bench.sim.model import Settings
from registryd.cluster.fetching import Fetching
from registryd.cluster.peers import Peers
from registryd.cluster.placement import Placement
from registryd.cluster.serving import Serving

#: The key of the one blob that all want.
BLOB = 0x5EED_0F_A_B10B


class Node:
    """A node's parts, and the state of its links."""

    def __init__(self, index: int, name: str, settings: Settings, placement: Placement) -> None:
        self.index, self.name = index, name
        self.up, self.down = Link(settings.link), Link(settings.link)
        self.alive, self.slow, self.asker = True, False, False
        self.peers = Peers(name)
        self.serving = Serving(name, placement, slots=settings.slots)
        self.fetching: Fetching | None = None
        #: Transfers to us by chunk.
        self.coming: dict[int, list[Transfer]] = {}
        #: Askers with a request here, and the transfers that serve them.
        self.clients: dict[tuple[int, int], Transfer | None] = {}
        self.wake = float("inf")
        self.asked_in: Counter[int] = Counter()
