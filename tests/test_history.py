"""The ring of samples, and answers that are shared by who looks at the same time."""

from __future__ import annotations

import asyncio

import pytest

from cache.errors import Fault
from registryd.history import COLUMNS, KEPT, History, Sample
from registryd.operations.looks import KEPT as LOOKS
from registryd.operations.looks import SPARING, Looks
from tests.fakes.waiting import until


async def test_samples_are_kept_for_an_hour() -> None:
    """The newest are kept, in order; ``since`` leaves out what is known."""
    history, at = History(), iter(range(10_000))
    keeping = asyncio.create_task(history.keep(lambda: Sample(float(next(at))), every=0.0))
    await until(lambda: history.since(float(KEPT + 9)))
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    moments = [sample.at for sample in history.since()]

    assert KEPT == len(moments)
    assert moments == sorted(moments)
    assert moments[-2:] == [sample.at for sample in history.since(moments[-3])]
    assert len(COLUMNS) == len(Sample(0.0).as_row())


async def test_one_look_for_all() -> None:
    """Who comes while an answer is made, or soon after, has the same one; a dear one lasts."""
    now, made, gate = 0.0, 0, asyncio.Event()
    looks = Looks(clock=lambda: now)

    async def make() -> int:
        nonlocal made
        made += 1
        await gate.wait()
        return made

    asking = [asyncio.create_task(looks.share("a", 1.0, make)) for _ in range(50)]
    await until(lambda: made == 1)
    now = 2.0
    gate.set()
    first = await asyncio.gather(*asking)
    now = 2.0 + 2.0 * SPARING - 0.1
    same = await looks.share("a", 1.0, make)
    now += 0.2
    other = await looks.share("a", 1.0, make)

    assert ({1}, 1, 2) == (set(first), same, other)


async def test_failures_and_many_callers() -> None:
    """A failure is told to who met it and not kept; answers of many callers are not kept all."""
    looks, calls = Looks(clock=lambda: 0.0), 0

    async def fails() -> None:
        raise Fault("no")

    async def counts() -> int:
        nonlocal calls
        calls += 1
        return calls

    with pytest.raises(Fault):
        await looks.share("a", 1.0, fails)
    assert 1 == await looks.share("a", 1.0, counts)
    for key in range(LOOKS):
        await looks.share(key, 1.0, counts)

    assert LOOKS + 2 == await looks.share("a", 1.0, counts)
