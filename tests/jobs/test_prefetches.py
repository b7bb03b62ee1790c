"""Following a job until its nodes have settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from registryd.cluster.alone import Alone
from registryd.cluster.beside import beside
from registryd.jobs.board import MemoryBoard
from registryd.jobs.errors import JobUnknown
from registryd.jobs.lookup import Lookup
from registryd.jobs.prefetches import Prefetches
from registryd.jobs.standing import Standing
from registryd.jobs.waiting import Ending
from registryd.transfer.tag_policy import TagPolicy
from tests.fakes.waiting import until
from tests.jobs.nodes import Pulls
from tests.jobs.samples import NOW, job

Event = dict[str, Any]


@asynccontextmanager
async def running(pulls: Pulls) -> AsyncIterator[tuple[Prefetches, MemoryBoard]]:
    """The prefetches of a node alone, which this machine calls h1.example."""
    board, lookup = MemoryBoard(), Lookup(None, None)  # type: ignore[arg-type] # nothing is asked
    prefetches = Prefetches(
        Alone(), board, lookup, TagPolicy({}), host="H1.example", clock=lambda: NOW
    )
    async with beside(lambda: prefetches.run(pulls)):
        yield prefetches, board


async def test_until_it_is_done() -> None:
    """Who follows hears every word, and all together at the end; then it is over."""
    pulls, told = Pulls(), list[Event]()
    async with running(pulls) as (prefetches, board):
        await board.post(job())
        async with asyncio.TaskGroup() as group:
            following = group.create_task(prefetches.follow(job(), told.append))
            await until(lambda: any(event.get("state") == "fetching" for event in told))
            pulls.gate.set()
        ending = following.result()

    assert Ending(("h1.example",), (), ()) == ending
    assert ["node", "done"] == [[e for e in told if e["event"] == "node"][-1][k]
                                for k in ("event", "state")]  # fmt: skip
    assert ("cluster", 1, 10, 10) == tuple(
        told[-1][key] for key in ("event", "done", "bytes", "total")
    )


async def test_who_is_missing_is_not_waited_for() -> None:
    """A name that nobody answers to is in the end, without waiting."""
    pulls = Pulls()
    pulls.gate.set()
    both = job(targets=("h1", "h2"))
    async with running(pulls) as (prefetches, board):
        await board.post(both)
        ending = await prefetches.follow(both, lambda event: None)

    assert Ending(("h1.example",), (), ("h2",)) == ending


async def test_with_patience() -> None:
    """With a limit who is missing is waited for, as long as that."""
    pulls = Pulls()
    pulls.gate.set()
    both = job(targets=("h1", "h2"))
    async with running(pulls) as (prefetches, board):
        await board.post(both)
        short = await prefetches.follow(both, lambda event: None, timeout=0.1)
        board.tell(Standing(both.id, "h2", stage="done"))
        long = await prefetches.follow(both, lambda event: None, timeout=60)

    assert Ending(("h1.example",), (), ("h2",)) == short
    assert Ending(("h1.example", "h2"), (), ()) == long


async def test_a_job_by_its_id() -> None:
    """A job is found by its id; another id is an error that says how to see which there are."""
    async with running(Pulls()) as (prefetches, board):
        await board.post(job())

        assert job() == await prefetches.job("0123456789ab")
        with pytest.raises(JobUnknown, match="registryctl jobs"):
            await prefetches.job("ba9876543210")
