"""Wishes kept fresh: one node of a job looks its tags up again, and puts up what they mean now.

Invariants:
- which node that is, is the first by rendezvous among those of the job that are there: all nodes
  agree on it as far as they agree on who is there. Where they do not, the board takes one revision
  and refuses the other;
- a wish that cannot be looked up keeps what it meant; tags that are gone are left to eviction.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from cache.errors import Fault
from registryd.cluster.placement import mix, node_seed
from registryd.jobs.board import Board
from registryd.jobs.lookup import Lookup, belongs
from registryd.jobs.record import IMAGES_LIMIT, Image, Job

#: Seconds between two looks at which wishes are due: a fraction of the shortest refresh.
TICK: Final = 10.0

_log = logging.getLogger(__name__)


def keeper(job: Job, alive: Iterable[str]) -> str:
    """The node that keeps a job's wishes fresh; "" when none of its nodes is there."""
    key = mix(int(job.id, 16))
    nodes = [name for name in alive if job.is_for(name)]
    return min(nodes, key=lambda name: (mix(node_seed(name) ^ key), name), default="")


def due(job: Job, now: float) -> list[int]:
    """The places of the wishes that have to be looked up."""
    pairs = enumerate(zip(job.wishes, job.resolved, strict=True))
    return [at for at, (wish, then) in pairs if now - then >= wish.refresh]


class Refresher:
    """Keeps fresh what this node is the keeper of."""

    def __init__(
        self,
        board: Board,
        lookup: Lookup,
        jobs: Callable[[], Mapping[str, Job]],
        keeps: Callable[[Job], bool],
        *,
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``jobs`` are those that this node knows, ``keeps`` which of them are its own to keep."""
        self._board = board
        self._lookup = lookup
        self._jobs = jobs
        self._keeps = keeps
        self._clock = clock
        self._pause = pause

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._pause(TICK)
            for job in list(self._jobs().values()):
                if job.wishes and job.runs(self._clock()) and self._keeps(job):
                    try:
                        await self._refresh(job)
                    except Exception:  # of one job, which must not end the others
                        _log.exception("wishes not renewed: job=%s", job.id)

    async def _refresh(self, job: Job) -> None:
        places = due(job, self._clock())
        if not places:
            return
        images: list[Image] = []
        resolved = list(job.resolved)
        for at, wish in enumerate(job.wishes):
            before = [image for image in job.images if belongs(image, wish)]
            if at in places:
                resolved[at] = round(self._clock(), 3)
                before = await self._looked_up(job, at, before)
            images += before
        fresh = tuple(dict.fromkeys(images))
        if len(fresh) > IMAGES_LIMIT:
            _log.warning("wishes mean too many images, kept as they were: job=%s", job.id)
            fresh = job.images
        try:
            await self._board.post(job.renewed(fresh, tuple(resolved)))
        except Fault as fault:  # it is due again at the next look, or somebody else was faster
            _log.info("wishes not renewed: job=%s error=%s", job.id, fault)

    async def _looked_up(self, job: Job, at: int, before: list[Image]) -> list[Image]:
        try:
            return list(await self._lookup.wished(job.wishes[at]))
        except Fault as fault:
            name = job.wishes[at].repository.name
            _log.warning("wish not looked up: job=%s name=%s error=%s", job.id, name, fault)
            return before
        except Exception:
            _log.exception("wish not looked up: job=%s", job.id)
            return before
