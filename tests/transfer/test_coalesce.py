"""Callers who ask the same at the same time share one answer."""

import asyncio

import pytest

from cache.errors import Fault
from registryd.transfer.coalesce import Coalesce
from tests.fakes.waiting import until


class Work:
    """What is to be done once: it counts, waits for its gate, and answers or fails."""

    def __init__(self) -> None:
        self.begun = 0
        self.gate = asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return number


async def start(
    coalesce: Coalesce[int], work: Work, count: int, key: str = "k"
) -> list[asyncio.Task[int]]:
    """So many callers, all of them waiting."""
    tasks = [asyncio.create_task(coalesce.once(key, work)) for _ in range(count)]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_one_works_and_all_get_the_answer() -> None:
    """However many ask, the work is done once."""
    coalesce, work = Coalesce[int](), Work()
    tasks = await start(coalesce, work, 20)
    work.gate.set()

    assert ([1] * 20, 1) == (await asyncio.gather(*tasks), work.begun)


async def test_other_keys_do_not_wait() -> None:
    """Another question is other work."""
    coalesce, work = Coalesce[int](), Work()
    tasks = [*await start(coalesce, work, 1, "a"), *await start(coalesce, work, 1, "b")]
    work.gate.set()

    assert [1, 2] == await asyncio.gather(*tasks)


async def test_an_answer_is_not_kept() -> None:
    """Who asks after the answer has been given asks anew."""
    coalesce, work = Coalesce[int](), Work()
    work.gate.set()

    assert (1, 2) == (await coalesce.once("k", work), await coalesce.once("k", work))


async def test_an_error_goes_to_all_and_is_not_kept() -> None:
    """A failure is everyone's, and the next who asks tries again."""
    coalesce, work = Coalesce[int](), Work()
    tasks = await start(coalesce, work, 3)
    work.error = Fault("no")
    work.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    work.error = None

    assert (["no"] * 3, 2) == (
        [str(answer) for answer in answers],
        await coalesce.once("k", work),
    )


async def test_when_the_leader_is_cancelled_another_leads() -> None:
    """Those who wait are not cancelled with the one who works: one of them takes over."""
    coalesce, work = Coalesce[int](), Work()
    leader, *others = await start(coalesce, work, 4)
    leader.cancel()
    await until(lambda: work.begun == 2)
    work.gate.set()

    assert [2, 2, 2] == await asyncio.gather(*others)
    assert leader.cancelled()


async def test_one_who_waits_leaves_alone() -> None:
    """The end of one who waits ends neither the work nor the others."""
    coalesce, work = Coalesce[int](), Work()
    leader, leaving, staying = await start(coalesce, work, 3)
    leaving.cancel()
    await asyncio.sleep(0)
    work.gate.set()

    assert [1, 1] == await asyncio.gather(leader, staying)
    assert leaving.cancelled()


async def test_cancelled_together() -> None:
    """One who waits and is cancelled in the same instant as the leader does not take over."""
    coalesce, work = Coalesce[int](), Work()
    tasks = await start(coalesce, work, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert ([True, True], 1) == ([task.cancelled() for task in tasks], work.begun)


async def test_a_time_limit_of_the_leader_is_its_own() -> None:
    """A leader that runs out of time hands over; it gets its time-out, not the others."""
    coalesce, work = Coalesce[int](), Work()

    async def hurried() -> int:
        async with asyncio.timeout(0.01):
            return await coalesce.once("k", work)

    leader = asyncio.create_task(hurried())
    await until(lambda: work.begun == 1)
    (waiting,) = await start(coalesce, work, 1)
    with pytest.raises(TimeoutError):
        await leader
    await until(lambda: work.begun == 2)
    work.gate.set()

    assert 2 == await waiting
