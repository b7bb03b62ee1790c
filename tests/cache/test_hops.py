"""Hops to threads, and acts that are not cut in two, under cancellation."""

import asyncio

import pytest

from cache.hops import Acts, hop, taken


async def test_a_hop_gives_what_the_thread_gives(workers):
    """Arguments go in, the result comes out."""
    assert (1, {"b": 2}) == await hop(workers, lambda *a, **k: (*a, k), 1, b=2)


async def test_what_a_thread_makes_is_undone_when_its_caller_has_gone(workers):
    """Cancelled while the thread works, the caller's thing is closed when it comes."""
    gate, undone = workers.hold(), asyncio.Event()
    caller = asyncio.ensure_future(
        taken(hop(workers, lambda: "thing"), lambda thing: thing == "thing" and undone.set())
    )
    await gate.reached.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.open()
    await undone.wait()


async def test_what_was_never_made_is_not_undone(workers):
    """A thread that fails after its caller has gone undoes nothing, and nobody hears of it."""
    gate, undone = workers.hold(), []
    making = hop(workers, lambda: 1 // 0)
    caller = asyncio.ensure_future(taken(making, undone.append))
    await gate.reached.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.open()
    await asyncio.wait([making])

    assert [] == undone


async def test_what_is_taken_is_not_undone(workers):
    """Who gets the thing closes it."""
    undone = []

    assert "thing" == await taken(hop(workers, lambda: "thing"), undone.append)
    assert [] == undone


async def test_an_act_outlives_its_caller():
    """Cancelling who waits does not cancel what was begun; the end can be waited for."""
    acts, go, done = Acts(), asyncio.Event(), []

    async def act():
        await go.wait()
        done.append("whole")

    caller = asyncio.ensure_future(acts.run(act()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert [] == done

    go.set()
    await acts.ended()

    assert ["whole"] == done


async def test_the_failure_of_an_act_is_its_callers():
    """What an act gives or raises comes to who waits."""
    acts = Acts()

    async def fail():
        raise KeyError("why")

    with pytest.raises(KeyError, match="why"):
        await acts.run(fail())
    await acts.ended()
