"""Answers to one question: when there are enough, and when it is time."""

from __future__ import annotations

import asyncio

from registryd.cluster.gathering import Gathering

LONG = 3600.0
#: Seconds that are much less than LONG, on a busy machine too.
SOON = 20.0


def gathering(most: int = 4, within: float = LONG, after: float = 1.0) -> Gathering[int]:
    """Up to four numbers, with all the time of the world."""
    return Gathering(most, within=within, after=after)


async def test_enough_is_enough() -> None:
    """When as many have come as were wanted, nobody waits; one more is left."""
    answers = gathering(most=2, after=LONG * 1e9)
    for number in range(3):
        answers.add(number)
    async with asyncio.timeout(SOON):
        assert [0, 1] == await answers.all()


async def test_others_have_as_long_as_the_first() -> None:
    """One answer that came at once is not made to wait for those that do not come."""
    answers = gathering()
    answers.add(1)
    async with asyncio.timeout(SOON):
        assert [1] == await answers.all()
    answers.add(2)

    assert [1] == await answers.all()


async def test_others_have_time() -> None:
    """Those that come soon after the first one are taken."""
    answers = gathering(after=LONG * 1e9)
    answers.add(1)
    waiting = asyncio.ensure_future(answers.all())
    await asyncio.sleep(0)
    answers.add(2)
    answers.end()

    assert [1, 2] == await waiting


async def test_nobody_answers() -> None:
    """Without an answer it is over in the time that was given, or when that is said."""
    async with asyncio.timeout(SOON):
        assert [] == await gathering(within=0.01).all()
        over = gathering()
        over.end()
        assert [] == await over.all()
