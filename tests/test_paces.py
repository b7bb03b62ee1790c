"""Streams of the loop and the limits that they keep to."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.rates import LEAST_BURST, LEAST_GRAIN, Pace, Rate, Rates
from tests.fakes.rated import Jumps, Standing

KIB, MIB = 1 << 10, 1 << 20
LIMIT = 2 * MIB


async def test_without_a_limit_nobody_waits() -> None:
    """Not for one turn of the loop: the coroutines end in their first step."""
    rates = Rates()
    with rates.from_registry("ghcr.io", "a") as pace, pytest.raises(StopIteration) as ended:
        pace.room(1 << 40).send(None)
    with pytest.raises(StopIteration):
        rates.down.take("a", 1 << 40).send(None)

    assert 1 << 40 == ended.value.value


async def test_streams_take_turns() -> None:
    """The one blob's tenth stream comes after the other blob's first."""
    time, order = Jumps(), list[str]()
    rate = Rate(LIMIT, clock=time.clock, later=time.later)
    await rate.take("x", LEAST_BURST + 1)

    async def stream(key: str) -> None:
        await rate.take(key, 64 * KIB)
        order.append(key)

    async with asyncio.TaskGroup() as group:
        for key in "aaaaaaaaaab":
            group.create_task(stream(key))

    assert ["a", "b"] == order[:2]
    assert time.now == pytest.approx((1 + 10 * 64 * KIB) / LIMIT, abs=0.001)


@pytest.mark.parametrize("granted", [False, True])
async def test_who_leaves_takes_nothing_along(granted: bool) -> None:
    """A stream that is cancelled, in the line or just told, costs those that stay nothing."""
    time = Standing()
    rate = time.rates(down=LIMIT).down
    await rate.take("x", LEAST_BURST + MIB)
    leaving = asyncio.create_task(rate.take("a", MIB))
    staying = asyncio.create_task(rate.take("b", 2 * MIB))
    await asyncio.sleep(0)
    if granted:
        time.pass_by(0.5)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert not staying.done() or granted
    time.pass_by(0.01 if granted else 0.51)
    await asyncio.sleep(0)

    assert staying.done()


async def test_what_is_given_back_is_others_at_once() -> None:
    """Who waits for what another does not need after all waits no longer."""
    time = Standing()
    rate = time.rates(down=LIMIT).down
    await rate.take("a", 100 * MIB)
    waiting = asyncio.create_task(rate.take("b", 1))
    await asyncio.sleep(0)
    rate.give_back(100 * MIB)
    await asyncio.sleep(0)

    assert waiting.done()


async def test_one_timer_is_enough() -> None:
    """However many wait, and come and go: the loop is woken for the next one alone."""
    time = Standing()
    rate = time.rates(down=LIMIT).down
    tasks = [asyncio.create_task(rate.take("a", MIB)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[10:]:
        task.cancel()
    await asyncio.wait(tasks[10:])

    assert 1 == len(time.timers)
    time.pass_by(100)
    await asyncio.wait(tasks)
    assert [] == time.timers


async def test_a_limit_that_ends_lets_all_go() -> None:
    """Who waits for hours under one limit goes on in the moment that it is taken away."""
    rates = Rates(down=1, registries={"ghcr.io": 1})
    with rates.from_registry("ghcr.io", "a") as pace:
        await rates.down.take("x", MIB)
        waiting = asyncio.create_task(pace.room(MIB))
        await asyncio.sleep(0)
        rates.limit_registry("ghcr.io", 0)
        await asyncio.sleep(0)
        assert not waiting.done()  # the node's own limit holds yet
        rates.take_over(0, 0, {})
        async with asyncio.timeout(5):
            await waiting

    assert {} == rates.registries


# a stream's pace


async def test_a_pace_keeps_to_every_rate() -> None:
    """A registry's limit and the node's hold together: the lower one is what is seen."""
    for registry, down in ((LIMIT, 8 * LIMIT), (8 * LIMIT, LIMIT)):
        time = Jumps()
        rates = time.rates(down=down, registries={"ghcr.io": registry})
        with rates.from_registry("ghcr.io", "a") as pace:
            await through(pace, 8 * MIB)

        assert time.now == pytest.approx((8 * MIB - LEAST_BURST) / LIMIT, abs=0.1)


async def through(pace: Pace, count: int, piece: int = 0) -> None:
    """Let bytes through as a stream does: as many as there is room for, or by pieces."""
    while count > 0:
        room = await pace.room(count)
        assert 0 < room <= count
        step = min(count, piece or room)
        pace.passed(step)
        count -= step


async def test_other_registries_and_peers_have_the_node_s_limit_alone() -> None:
    """A registry's limit is its own; what goes to peers is not what comes from them."""
    time = Jumps()
    rates = time.rates(down=LIMIT, registries={"ghcr.io": 1})
    with rates.from_registry("quay.io", "a") as pace, rates.from_peers("a") as peer:
        await through(pace, 4 * MIB)
        await through(peer, 4 * MIB)
    with rates.to_peers("a") as up:
        await through(up, 1 << 40)

    assert time.now == pytest.approx((8 * MIB - LEAST_BURST) / LIMIT, abs=0.1)


@given(st.integers(16 * KIB, 4 * MIB))
def test_large_pieces_are_paid_for(piece: int) -> None:
    """A piece larger than the room is made up for before the next one, or at the end."""

    async def run() -> float:
        time = Jumps()
        rates = time.rates(down=LIMIT)
        with rates.from_peers("a") as pace:
            await through(pace, 8 * MIB, piece)
        await rates.down.take("b", 0)
        return time.now

    assert asyncio.run(run()) == pytest.approx((8 * MIB - LEAST_BURST) / LIMIT, abs=0.01)


async def test_who_wants_nothing_waits_for_nothing() -> None:
    """A stream at its end is not held up by those that go on."""
    time = Standing()
    rates = time.rates(down=LIMIT)
    await rates.down.take("a", 100 * MIB)
    with rates.from_peers("b") as pace, pytest.raises(StopIteration) as ended:
        pace.room(0).send(None)

    assert 0 == ended.value.value


async def test_what_did_not_pass_is_given_back() -> None:
    """A stream that ends early has cost what passed of it."""
    time = Jumps()
    rates = time.rates(down=LIMIT)
    for _ in range(100):
        with rates.from_peers("a") as pace:
            assert await pace.room(MIB) > LEAST_GRAIN
            pace.passed(1)
    await rates.down.take("b", LEAST_BURST - 100)

    assert 0.0 == time.now


async def test_a_stream_that_waits_in_the_second_line_leaves_the_first() -> None:
    """Cancelled while it waits for the node's limit, it gives back what the registry's gave."""
    time = Standing()
    rates = time.rates(down=1, registries={"ghcr.io": LIMIT})
    await rates.down.take("x", MIB)
    with rates.from_registry("ghcr.io", "a") as pace:
        waiting = asyncio.create_task(pace.room(MIB))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        rates.down.change(0)
        await through(pace, LEAST_BURST)

    with rates.from_registry("ghcr.io", "a") as pace, pytest.raises(StopIteration):
        pace.room(1).send(None)


async def test_what_passed_without_a_limit_is_no_debt() -> None:
    """A limit that comes, goes and comes again counts what passes under it, and nothing else."""
    time = Jumps()
    rates = time.rates(down=LIMIT)
    with rates.from_peers("a") as pace:
        await through(pace, LEAST_BURST)
        await rates.down.take("b", 100 * MIB)
        rates.down.change(0)
        await through(pace, 100 * MIB)
        rates.down.change(LIMIT)
        await through(pace, LEAST_BURST)

    assert 0.0 == time.now


async def test_taking_over() -> None:
    """Limits that a new configuration does not name are none."""
    rates = Rates(1, 2, {"a.io": 3, "b.io": 4})
    rates.take_over(5, 0, {"b.io": 6, "c.io": 7})

    assert (5, 0) == (rates.up.limit, rates.down.limit)
    assert {"b.io": 6, "c.io": 7} == rates.registries


async def test_a_limit_of_later_holds_for_streams_of_before() -> None:
    """A stream that began without limits keeps to those that are set while it runs."""
    time = Jumps()
    rates = time.rates()
    with rates.from_registry("ghcr.io", "a") as pace:
        await through(pace, 64 * MIB)
        rates.limit_registry("ghcr.io", LIMIT)
        await through(pace, 8 * MIB)

    assert {"ghcr.io": LIMIT} == rates.registries
    assert time.now == pytest.approx((8 * MIB - LEAST_BURST) / LIMIT, abs=0.1)
