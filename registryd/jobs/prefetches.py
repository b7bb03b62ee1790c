"""The jobs of a node, whoever asked for them: board, worker and keeper of wishes as one.

Invariant: nothing here waits for other nodes but ``follow``, which ends when they have answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from registryd.cluster_ports import Cluster
from registryd.jobs.board import Board, Words
from registryd.jobs.errors import JobUnknown
from registryd.jobs.lookup import Lookup
from registryd.jobs.record import Job
from registryd.jobs.refresh import Refresher, keeper
from registryd.jobs.standing import Standing
from registryd.jobs.waiting import Ending, Roll
from registryd.jobs.worker import Convert, Pull, Worker
from registryd.transfer.report import Report
from registryd.transfer.tag_policy import TagPolicy

#: Seconds between two looks at who is there, and for which words of nodes are gathered: a large
#: cluster says a thousand a second.
TICK: Final = 1.0
GATHERED: Final = 0.05


class Prefetches:
    """Prefetch, as a node offers it. ``host`` is what this node is called without a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        board: Board,
        lookup: Lookup,
        policy: TagPolicy,
        *,
        host: str,
        clock: Callable[[], float],
    ) -> None:
        self.cluster = cluster
        self.board = board
        self.lookup = lookup
        self.me = cluster.me or host.lower() or "localhost"
        self.clock = clock
        self._worker = Worker(self.me, board, policy, clock=clock)
        self._refresher = Refresher(board, lookup, self._worker.jobs, self._keeps, clock=clock)

    async def run(self, pull: Pull, convert: Convert | None = None) -> None:
        """Work until cancelled; images are brought by ``pull``, and made one by ``convert``."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._worker.run(pull, convert))
            group.create_task(self._refresher.run())

    def alive(self) -> list[str]:
        """The nodes that are there, this one among them."""
        names = [node.name for node in self.cluster.nodes()]
        return names if self.me in names else [*names, self.me]

    def _keeps(self, job: Job) -> bool:
        if self.cluster.kind != "nats":  # nobody else knows of it
            return job.node == self.me
        return keeper(job, self.alive()) == self.me

    async def job(self, id: str) -> Job:
        """A job by its id. Raises JobUnknown, BoardUnreachable."""
        for job in await self.board.jobs():
            if job.id == id:
                return job
        raise JobUnknown(f"there is no job {id[:40]} (registryctl jobs lists those there are)")

    async def follow(self, job: Job, report: Report, *, timeout: float | None = None) -> Ending:
        """Tell how the nodes get on, until those that are there have settled.

        With a ``timeout`` (seconds) it is the longest wait, and nodes that are not there are
        waited for too. Raises BoardUnreachable.
        """
        clock = asyncio.get_running_loop().time
        roll, ends = Roll(job, now=clock()), None if timeout is None else clock() + timeout
        async with self.board.following(job.id) as words:
            told = 0.0
            while True:
                roll.members(self.alive(), clock())
                news = await _some(words, 0.0 if roll.over(patient=ends is not None) else TICK)
                for standing in news:
                    if roll.word(standing):
                        report({"event": "node", **standing.as_json()})
                over = roll.over(patient=ends is not None) and words.empty()
                over = over or (ends is not None and clock() >= ends)
                if over or clock() - told >= TICK:
                    report(roll.event())
                    told = clock()
                if over:
                    return roll.ending()


async def _some(words: Words, patience: float) -> list[Standing]:
    """What was said by now, or is said within ``patience`` seconds."""
    found = []
    if words.empty() and patience:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                found.append(await words.get())
            await asyncio.sleep(GATHERED)
    while not words.empty():
        found.append(words.get_nowait())
    return found
