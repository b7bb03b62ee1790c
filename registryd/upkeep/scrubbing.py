"""Scrubbing: a node's cache read again in the background, and what is wrong fetched anew."""

from __future__ import annotations

import asyncio
from typing import Final

from cache.rounds import Rounds
from cache.store import BlobStore
from registryd.cache_config import CacheConfig
from registryd.ports import Remotes
from registryd.rates import Rate
from registryd.transfer.library import Library
from registryd.upkeep.mending import Mending

_KEY: Final = "scrub"


class Scrubbing:
    """The scrub of one node, as its configuration says."""

    def __init__(
        self, config: CacheConfig, store: BlobStore, library: Library, remotes: Remotes
    ) -> None:
        self._rate = Rate(config.scrub_rate)
        self.rounds = Rounds(store.scrub, lambda count: self._rate.take(_KEY, count))
        self.rounds.change(config.scrub, limited=config.scrub_rate > 0)
        self.mending = Mending(store, library, remotes)

    @property
    def rate(self) -> int:
        """Bytes a second that are read at most; 0 for no limit."""
        return self._rate.limit

    def take_over(self, config: CacheConfig) -> None:
        """Go on as this says."""
        self._rate.change(config.scrub_rate)
        self.rounds.change(config.scrub, limited=config.scrub_rate > 0)

    async def run(self) -> None:
        """Go round, and mend; runs until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.rounds.keep())
            group.create_task(self.mending.run())
