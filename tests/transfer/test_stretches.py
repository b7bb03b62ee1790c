"""The plan of a fetch: which bytes are asked for next, and over how many connections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.chunks import ChunkMap
from registryd.transfer.stretches import (
    CHUNK,
    LITTLE,
    NEAR,
    WORTH_HALVING,
    Plan,
    Stretch,
    chunks,
    shorten_at,
)

SIZES = st.integers(0, 400)
STEPS = st.integers(1, 60)
HELD = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), max_size=5)


def held_map(spans: list[tuple[int, int]], size: int) -> ChunkMap:
    """These spans as far as they lie within the size."""
    held = ChunkMap()
    for start, length in spans:
        if start < size:
            held.add(start, min(size, start + length))
    return held


def overlap(stretch: Stretch, other: Stretch, size: int) -> bool:
    """Whether two stretches share a byte."""
    stops = [size if s.stop is None else s.stop for s in (stretch, other)]
    return max(stretch.start, other.start) < min(stops)


@given(SIZES, STEPS, HELD, st.data())
def test_every_byte_is_given_once_in_any_order(
    size: int, step: int, spans: list[tuple[int, int]], data: st.DataObject
) -> None:
    """However connections take, finish and fail, no byte is given twice at once, none that is here
    is given at all, and in the end every byte is here."""
    held, plan, working = held_map(spans, size), Plan(step), list[Stretch]()
    started_with = held.total
    delivered = failures = 0
    while True:
        if data.draw(st.booleans()) or not working:
            stretch = plan.take(held, size)
            if stretch is not None:
                stop = size if stretch.stop is None else stretch.stop
                assert stretch.start < stop <= size
                assert [(stretch.start, stop)] == held.missing(stretch.start, stop)
                assert not any(overlap(stretch, other, size) for other in working)
                working.append(stretch)
                continue
        if not working:
            break
        stretch = working.pop(data.draw(st.integers(0, len(working) - 1)))
        stop = size if stretch.stop is None else stretch.stop
        reach = stop
        if failures < 5 and data.draw(st.booleans()):
            failures += 1
            reach = data.draw(st.integers(stretch.start, stop))
        held.add(stretch.start, reach)
        delivered += reach - stretch.start
        plan.give_back(stretch)

    assert (size, size - started_with) == (held.total, delivered)


@given(SIZES, STEPS, HELD)
def test_a_stretch_has_at_most_a_step(size: int, step: int, spans: list[tuple[int, int]]) -> None:
    """What is not asked for whole is asked for in stretches of at most a step."""
    held, plan = held_map(spans, size), Plan(step)
    stretches = list(iter(lambda: plan.take(held, size), None))

    assert all(
        stretch.whole or (stretch.stop is not None and stretch.stop - stretch.start <= step)
        for stretch in stretches
    )


def test_a_small_blob_is_asked_for_whole() -> None:
    """Up to two steps there is one request without a Range, and nothing beside it."""
    plan = Plan(100)

    assert (Stretch(0, None), None) == (plan.take(ChunkMap(), 200), plan.take(ChunkMap(), 200))


def test_a_larger_blob_is_asked_for_in_steps() -> None:
    """Beyond two steps the first request is a step, so that others can work beside it."""
    plan = Plan(100)

    assert (Stretch(0, 100), Stretch(100, 200), Stretch(200, 201)) == tuple(
        plan.take(ChunkMap(), 201) for _ in range(3)
    )


def test_what_was_resumed_is_not_asked_for_again() -> None:
    """A small blob of which something is here is continued, not begun anew."""
    assert Stretch(30, 130) == Plan(100).take(ChunkMap([(0, 30)]), 150)


def test_an_unknown_size_is_one_open_request() -> None:
    """While nobody knows the size, one request goes from what is here to wherever the end is."""
    plan, held = Plan(10), ChunkMap([(0, 7)])
    first = plan.take(held, None)

    assert (Stretch(7, None), None) == (first, plan.take(held, None))


def test_an_open_request_keeps_all_that_follows_for_itself() -> None:
    """Once the size is known, others do not take what an open request is bringing."""
    plan = Plan(10)
    plan.take(ChunkMap([(0, 7)]), None)

    assert plan.take(ChunkMap([(0, 7)]), 100) is None


def test_nothing_is_asked_of_an_empty_blob() -> None:
    """A blob without bytes needs no request."""
    assert Plan(10).take(ChunkMap(), 0) is None


def test_what_is_given_back_is_given_again() -> None:
    """A stretch whose connection failed goes to the next one that asks, as far as it is missing."""
    plan = Plan(100)
    stretch = plan.take(ChunkMap(), 300)
    assert stretch is not None
    plan.give_back(stretch)

    assert Stretch(40, 140) == plan.take(ChunkMap([(0, 40)]), 300)


# halves


@given(st.integers(1, 100 * CHUNK), st.integers(0, 100 * CHUNK), st.booleans())
def test_a_half_is_given_where_it_is_worth_it(size: int, come: int, whole: bool) -> None:
    """Of what is still to come the second half, from a chunk's bound on, and no byte twice; taken
    back, the first one brings it all."""
    held, plan = ChunkMap(), Plan(100 * CHUNK)
    first = plan.take(held, size) if whole else plan._give(0, size)
    assert first is not None
    stop = first.stop
    held.add(0, min(come, size))
    half = plan.halve(held, size)
    left = size - min(come, size)

    assert (half is None) == (left < 2 * WORTH_HALVING)
    if half is not None:
        assert (first.stop, half.stop, 0) == (half.start, size, half.start % CHUNK)
        assert WORTH_HALVING <= size - half.start <= left // 2 + CHUNK
        assert plan.undo(half)
        assert first.stop == size
    else:
        assert first.stop == stop


def test_who_has_ended_takes_nothing_back() -> None:
    """A half whose donor is gone is given anew to whoever asks."""
    plan = Plan(100 * CHUNK)
    first = plan.take(ChunkMap(), 100 * CHUNK)
    half = plan.halve(ChunkMap(), 100 * CHUNK)
    assert first is not None
    assert half is not None
    plan.give_back(first)

    assert (50 * CHUNK, False) == (first.stop, plan.undo(half))


# demands

#: Sizes at which a connection can be far from what is demanded.
FAR = st.integers(1, 5 * NEAR)
DEMANDS = st.lists(st.tuples(FAR, st.integers(1, 2 * NEAR)), max_size=4)


def taken_by(data: st.DataObject, plan: Plan, held: ChunkMap, size: int) -> Stretch | None:
    """What one of the connections is given, whichever kind asks first."""
    asks = [lambda: plan.urgent(held, size), lambda: plan.take(held, size)]
    if data.draw(st.booleans()):
        asks.reverse()
    return asks[0]() or asks[1]()


def end_of(stretch: Stretch, size: int) -> int:
    """Where a stretch ends by now."""
    return size if stretch.stop is None else stretch.stop


@given(FAR, st.integers(NEAR // 4, 3 * NEAR), DEMANDS, st.booleans(), st.data())
def test_demands_are_given_and_no_byte_twice(
    size: int, step: int, wanted: list[tuple[int, int]], whole: bool, data: st.DataObject
) -> None:
    """Whatever is demanded while connections take, progress, fail and finish: no two have the same
    byte, what is here is not given, every byte that is demanded comes, and where the whole is not
    wanted, no other."""
    held, plan, working = ChunkMap(), Plan(step), list[Stretch]()
    spans = [(start, min(size, start + length)) for start, length in wanted if start < size]
    waiting, patience = list(spans), 40
    while True:
        if data.draw(st.booleans()) and waiting:
            plan.demand(*waiting.pop())
        if data.draw(st.booleans()) or not working:
            stretch = taken_by(data, plan, held, size) if whole else plan.urgent(held, size)
            if stretch is not None:
                assert [(stretch.start, end_of(stretch, size))] == held.missing(
                    stretch.start, end_of(stretch, size)
                )
                working.append(stretch)
        assert not any(overlap(a, b, size) for n, a in enumerate(working) for b in working[:n])
        if not working:
            if waiting:
                continue
            break
        at = data.draw(st.integers(0, len(working) - 1))
        stretch, patience = working[at], patience - 1
        reach, stop = held.reach(stretch.start), end_of(stretch, size)
        came = stop if patience < 0 else data.draw(st.integers(min(reach, stop), stop))
        held.add(stretch.start, max(stretch.start, came))
        if came == stop or data.draw(st.booleans()):
            plan.give_back(working.pop(at))

    expected = ChunkMap([(0, size)] if whole else spans)
    assert expected.ranges == held.ranges


def test_what_is_demanded_comes_before_the_rest() -> None:
    """A demand is a stretch of its own; the rest goes on in order, and leaves it out."""
    plan, held = Plan(10 * NEAR), ChunkMap([(0, 5)])
    plan.demand(8 * NEAR, 9 * NEAR)

    assert (Stretch(8 * NEAR, 9 * NEAR), Stretch(5, 8 * NEAR), Stretch(9 * NEAR, 19 * NEAR)) == (
        plan.urgent(held, 40 * NEAR),
        plan.take(held, 40 * NEAR),
        plan.take(held, 40 * NEAR),
    )
    assert plan.urgent(held, 40 * NEAR) is None


@pytest.mark.parametrize(("distance", "stop"), [(NEAR, None), (NEAR + 1, NEAR + 101)])
def test_a_connection_that_is_far_is_cut_for_a_demand(distance: int, stop: int | None) -> None:
    """One that is near brings what is demanded itself; one that is far stops before it."""
    plan, held = Plan(5 * NEAR), ChunkMap()
    linear = plan.take(held, 9 * NEAR)
    held.add(0, 100)
    plan.demand(100 + distance, 9 * NEAR)
    urgent = plan.urgent(held, 9 * NEAR)

    assert linear == Stretch(0, stop)
    assert urgent == (None if stop is None else Stretch(stop, stop + 5 * NEAR))


def test_those_who_wait_take_turns() -> None:
    """A long demand is not given everything before the next one is given its first."""
    plan, held = Plan(NEAR), ChunkMap()
    plan.demand(0, 50 * NEAR)
    plan.demand(80 * NEAR, 90 * NEAR)
    first = plan.urgent(held, 100 * NEAR)
    assert first == Stretch(0, NEAR)
    held.add(0, NEAR)
    plan.give_back(first)

    assert [Stretch(80 * NEAR, 81 * NEAR), Stretch(NEAR, 2 * NEAR), None] == [
        plan.urgent(held, 100 * NEAR) for _ in range(3)
    ]


def test_a_demand_that_was_withdrawn_is_given_no_more() -> None:
    """Who has left is not fetched for."""
    plan = Plan(NEAR)
    plan.withdraw(plan.demand(0, NEAR))

    assert plan.urgent(ChunkMap(), 5 * NEAR) is None


@pytest.mark.parametrize(
    ("part", "covering"),
    [((0, 1), (0, CHUNK)), ((CHUNK - 1, CHUNK + 1), (0, 2 * CHUNK)),
     ((CHUNK, 2 * CHUNK), (CHUNK, 2 * CHUNK))],
)  # fmt: skip
def test_parts_are_covered_by_whole_chunks(
    part: tuple[int, int], covering: tuple[int, int]
) -> None:
    """The bounds of chunks, no wider than needed."""
    assert covering == chunks(*part)


@pytest.mark.parametrize(
    ("stop", "size", "at", "expected"),
    [
        (100 * CHUNK, 200 * CHUNK, 5, CHUNK),
        (100 * CHUNK, 200 * CHUNK, CHUNK, 2 * CHUNK),
        (None, 100 * CHUNK, 5, CHUNK),
        (None, None, 5, CHUNK),
        (LITTLE + 5, 200 * CHUNK, 5, LITTLE + 5),
        (LITTLE + 6, 200 * CHUNK, 5, CHUNK),
        (None, LITTLE, 5, None),
    ],
)
def test_a_stretch_is_shortened(
    stop: int | None, size: int | None, at: int, expected: int | None
) -> None:
    """It ends with the chunk that is coming, unless what is left is not worth another request."""
    stretch = Stretch(0, stop)
    shorten_at(stretch, at, size)

    assert expected == stretch.stop
