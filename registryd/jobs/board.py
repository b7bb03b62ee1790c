"""The board on which jobs are put up: what workers and those who ask need of it, and one of memory.

Two more put it where other nodes see it: ``fan_out`` (each node is told by HTTP), ``streams``
(JetStream).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from registryd.jobs.errors import Outrun
from registryd.jobs.record import Job
from registryd.jobs.standing import Standing

#: Jobs that a board in memory keeps; the oldest go first.
KEPT: Final = 1024

#: Words of nodes on a job, as they come.
Words = asyncio.Queue[Standing]
Take = Callable[[Job], None]


class Board(Protocol):
    """Where jobs are put up, and where nodes say how far they are."""

    async def post(self, job: Job) -> None:
        """Put a job up, or its next revision in place of the one before.

        Raises BoardUnreachable, JobInvalid, and Outrun when that revision is there already.
        """

    async def jobs(self) -> list[Job]:
        """All jobs, the oldest first. Raises BoardUnreachable."""

    async def standings(self, job: str = "") -> list[Standing]:
        """What nodes have said of a job, or of all. Raises BoardUnreachable."""

    def following(self, job: str) -> AbstractAsyncContextManager[Words]:
        """What nodes have said of a job, and say from now on. Raises BoardUnreachable."""

    def tell(self, standing: Standing) -> None:
        """Say how far this node is; the last word counts, and arrives as soon as it can."""

    async def run(self, take: Take) -> None:
        """Give every job to the worker of this node, each revision once, until cancelled."""


class MemoryBoard:
    """A board in this process; the jobs end with it."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._standings: dict[tuple[str, str], Standing] = {}
        self._followers: dict[str, set[Words]] = {}
        self._news: asyncio.Queue[Job] = asyncio.Queue()

    async def post(self, job: Job) -> None:
        """Put a job up. Raises Outrun."""
        known = self._jobs.get(job.id)
        if known is not None and known.revision >= job.revision:
            raise Outrun(f"the job {job.id} was changed meanwhile: look at it again")
        self.put(job)

    def put(self, job: Job) -> None:
        """Take a job over as it is; one that is known in this revision is no news."""
        known = self._jobs.get(job.id)
        if known is None or known.revision < job.revision:
            self._jobs[job.id] = job
            self._news.put_nowait(job)
            if len(self._jobs) > KEPT:
                self._drop(next(iter(self._jobs)))

    def _drop(self, id: str) -> None:
        del self._jobs[id]
        for of, node in [key for key in self._standings if key[0] == id]:
            del self._standings[of, node]

    async def jobs(self) -> list[Job]:
        """All jobs that were put up here."""
        return list(self._jobs.values())

    async def standings(self, job: str = "") -> list[Standing]:
        """What was said of a job, or of all."""
        return list(self._said(job))

    def _said(self, job: str) -> Iterable[Standing]:
        return (each for (of, _), each in self._standings.items() if job in ("", of))

    @asynccontextmanager
    async def following(self, job: str) -> AsyncIterator[Words]:
        """What was said of a job, and is said from now on."""
        words: Words = asyncio.Queue()
        for each in self._said(job):
            words.put_nowait(each)
        followers = self._followers.setdefault(job, set())
        followers.add(words)
        try:
            yield words
        finally:
            followers.discard(words)
            if not followers:
                self._followers.pop(job, None)

    def tell(self, standing: Standing) -> None:
        """Say how far a node is."""
        self._standings[standing.job, standing.node] = standing
        for words in self._followers.get(standing.job, ()):
            words.put_nowait(standing)

    async def run(self, take: Take) -> None:
        """Give every job to the worker."""
        while True:
            take(await self._news.get())
