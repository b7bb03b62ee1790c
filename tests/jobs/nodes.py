"""The parts of a node that jobs need, without a cache: pulls that a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cache.errors import DiskFull
from registryd.cluster.beside import beside
from registryd.jobs.board import MemoryBoard
from registryd.jobs.standing import Standing
from registryd.jobs.worker import Worker
from registryd.transfer.report import Report
from registryd.transfer.tag_policy import TagPolicy
from tests.fakes.waiting import until
from tests.jobs.samples import NOW


@dataclass
class Pulls:
    """What was pulled; ``gate`` holds each pull back, ``fails`` says which end in an error."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fails: dict[str, Exception] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def __call__(
        self,
        reference: str,
        *,
        platforms: tuple[str, ...],
        all_platforms: bool,
        report: Report,
    ) -> None:
        """Bring ten bytes, when the gate is open."""
        self.begun.append(reference)
        blob: dict[str, Any] = {"event": "blob", "digest": reference, "size": 10}
        report({**blob, "state": "waiting"})
        await self.gate.wait()
        for name, error in self.fails.items():
            if name in reference:
                raise error
        report({**blob, "state": "done"})
        self.ended.append(reference)

    def fail(self, name: str, error: Exception | None = None) -> None:
        """Pulls of what has this in its name end so."""
        self.fails[name] = error or DiskFull("no space left on /cache")


@dataclass
class Bench:
    """A worker with what it works with; ``now`` is its clock."""

    pulls: Pulls
    board: MemoryBoard
    policy: TagPolicy
    worker: Worker
    now: list[float]

    def said(self, job: str = "0123456789ab", node: str = "n1") -> Standing | None:
        """The worker's last word on a job."""
        return self.board._standings.get((job, node))

    async def until_said(self, stage: str, job: str = "0123456789ab") -> Standing:
        """Wait for a word."""
        await until(lambda: (word := self.said(job)) and word.stage == stage)
        word = self.said(job)
        assert word is not None
        return word


@asynccontextmanager
async def bench(*, at_once: int = 2, open_gate: bool = True) -> AsyncIterator[Bench]:
    """A worker that runs, called n1."""
    pulls, board, policy, now = Pulls(), MemoryBoard(), TagPolicy({}), [NOW]
    if open_gate:
        pulls.gate.set()
    worker = Worker("n1", board, policy, clock=lambda: now[0], at_once=at_once)
    async with beside(lambda: worker.run(pulls)):
        yield Bench(pulls, board, policy, worker, now)
