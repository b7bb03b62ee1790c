"""A board without an engine: a job is told to each of its nodes by HTTP, which answer as they go.

Invariants:
- jobs that were put up here are told to others; those that others told are not told on;
- a node that does not answer is one that has failed, and named; one that breaks off in the middle
  (it was restarted) is told again for a while;
- jobs are in the memory of the daemon that was asked, and end with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from typing_extensions import override

from cache.errors import Fault
from registryd.cluster_ports import Cluster, ClusterNode
from registryd.jobs.board import MemoryBoard, Take
from registryd.jobs.record import Job
from registryd.jobs.standing import Standing

#: Where a node takes jobs from other nodes.
PATH: Final = "/peer/v1/jobs"
#: Seconds for which a node that broke off is told again, and the pause between two tries.
PATIENCE: Final = 30.0
PAUSE: Final = 0.5

_log = logging.getLogger(__name__)


class Teller(Protocol):
    """How one node tells another: the peer client's part that is needed here."""

    def lines(
        self, node: ClusterNode, path: str, body: bytes
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """POST this, and the lines of the answer as they come. Raises Fault."""


class FanOut(MemoryBoard):
    """The board of a node whose cluster is a list."""

    def __init__(self, cluster: Cluster, teller: Teller, *, patience: float = PATIENCE) -> None:
        super().__init__()
        self._patience = patience
        self._cluster = cluster
        self._teller = teller
        self._mine: dict[str, int] = {}
        self._telling: dict[str, set[asyncio.Task[None]]] = {}

    @override
    async def post(self, job: Job) -> None:
        """Put a job up, to be told to its nodes. Raises Outrun."""
        await super().post(job)
        self._mine[job.id] = job.revision

    @override
    def _drop(self, id: str) -> None:
        super()._drop(id)
        self._mine.pop(id, None)
        for task in self._telling.pop(id, ()):
            task.cancel()

    @override
    async def run(self, take: Take) -> None:
        """Give every job to the worker, and those of ours to the others."""
        async with asyncio.TaskGroup() as group:
            while True:
                job = await self._news.get()
                take(job)
                if self._mine.get(job.id) == job.revision:
                    self._tell_all(job, group)

    def _tell_all(self, job: Job, group: asyncio.TaskGroup) -> None:
        for task in self._telling.pop(job.id, ()):
            task.cancel()
        tasks = self._telling[job.id] = set()
        for node in self._cluster.nodes():
            if node.name != self._cluster.me and job.is_for(node.name):
                task = group.create_task(self._tell_one(node, job))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    async def _tell_one(self, node: ClusterNode, job: Job) -> None:
        """Tell a node, until it has settled or can be told no more."""
        last = Standing(job.id, node.name, job.revision)
        clock = asyncio.get_running_loop().time
        broke = None
        while not last.settled:
            try:
                async with self._teller.lines(node, PATH, job.encode()) as lines:
                    async for line in lines:
                        broke = None
                        last = self._heard(node, job, line) or last
                raise Fault(f"peer {node.name}: it stopped telling of the job")
            except Fault as fault:
                if last.settled:
                    break
                now = clock()
                broke = now if broke is None else broke
                if not last.at or now - broke >= self._patience:
                    self.tell(last.failed(str(fault)))
                    _log.warning("job not told: job=%s node=%s error=%s", job.id, node.name, fault)
                    return
            except Exception:
                _log.exception("job not told: job=%s node=%s", job.id, node.name)
                self.tell(last.failed("internal error, see the log of the node that was asked"))
                return
            await asyncio.sleep(PAUSE)

    def _heard(self, node: ClusterNode, job: Job, line: bytes) -> Standing | None:
        """What a node says, taken over. Raises JobInvalid."""
        if not line.strip():
            return None
        standing = Standing.decode(line)
        if (standing.job, standing.node) != (job.id, node.name):
            return None
        self.tell(standing)
        return standing
