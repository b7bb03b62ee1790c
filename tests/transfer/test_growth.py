"""How many connections help: found by trying, on lines that are simulated."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.transfer.growth import (
    AGAIN,
    AGAIN_AT_MOST,
    ALL_FAST,
    FAST_ENOUGH,
    REMEMBERED,
    Growth,
    Width,
    Widths,
)

MIB = 1 << 20
#: Bytes a second that so many connections bring together.
Line = Callable[[int], float]


def drive(
    growth: Growth,
    width: Width,
    line: Line,
    *,
    now: float = 0.0,
    seconds: float = 19.0,
    rests: bool = False,
) -> list[int]:
    """The numbers of connections over so many seconds of a steady line, each as long as it held."""
    seen, end = [growth.count], now + seconds
    while now < end:
        step = max(0.01, 256 * 1024 / line(growth.count))
        now += step
        width.received += int(line(growth.count) * step)
        if growth.came(now, busy=growth.count):
            seen.append(growth.count)
        if len(seen) > 2 and seen[-1] < seen[-2] and not rests:
            break  # the rest has begun
    return seen


def limited(each: float, whole: float = 1e12) -> Line:
    """So much for each connection, so much for all."""
    return lambda count: min(each * count, whole)


@pytest.mark.parametrize(
    ("line", "limit", "expected"),
    [
        (limited(100e6), 8, [1, 2, 4, 8]),
        (limited(100e6), 6, [1, 2, 4, 6]),
        (limited(100e6), 1, [1]),
        (limited(2e6), 8, [1, 2, 4, 8]),
        (limited(40e3), 8, [1]),  # too little has come to say anything
        (limited(100e6, 100e6), 8, [1, 2, 1]),
        (limited(100e6, 300e6), 8, [1, 2, 4, 8, 4]),
        (limited(1.1 * FAST_ENOUGH), 8, [1]),
        (limited(ALL_FAST / 3.5), 8, [1, 2, 4]),  # near what hashing and writing can do
    ],
)
def test_connections_grow_as_long_as_they_help(line: Line, limit: int, expected: list[int]) -> None:
    """1, 2, 4 ... while all together bring clearly more; back by one step where they do not."""
    width = Width()

    assert expected == drive(Growth(width, limit, 0.0), width, line)


def test_what_did_not_help_is_tried_again_ever_more_rarely() -> None:
    """Lines change: a rest, and another attempt; the next blob keeps to the rest too."""
    width, line = Width(), limited(100e6, 100e6)
    assert [1, 2, 1] == drive(Growth(width, 8, 0.0), width, line)
    rest = width.resting_until
    assert [1] == drive(Growth(width, 8, 0.0), width, line, now=0.0, seconds=rest)
    assert [1, 2, 1] == drive(Growth(width, 8, rest), width, line, now=rest)
    assert rest + 2 * AGAIN < width.resting_until

    seen = drive(Growth(width, 8, 10.0), width, line, now=10.0, seconds=600, rests=True)
    assert 11 <= len(seen) <= 2 * 600 / AGAIN_AT_MOST + 12


def test_a_slow_moment_is_no_proof() -> None:
    """More connections are given up only when they did not help for a while."""
    width = Width()
    growth, now = Growth(width, 8, 0.0), 0.0
    while growth.count < 8:
        now += 0.01
        slow = growth.count == 4 and 0.4 < now < 0.7
        width.received += int((50e6 if slow else 100e6 * growth.count) * 0.01)
        if growth.came(now, busy=growth.count):
            assert growth.count > 2 or now < 0.3

    assert now < 2


def test_what_helped_one_blob_is_where_the_next_one_begins() -> None:
    """By registry, for a while, and never beyond the limit."""
    widths = Widths()
    width = widths.of("a.test")
    drive(Growth(width, 4, 0.0), width, limited(100e6))

    assert 4 == Growth(widths.of("a.test"), 8, 20.0).count
    assert 2 == Growth(widths.of("a.test"), 2, 20.0).count
    assert 1 == Growth(widths.of("b.test"), 8, 20.0).count
    assert 1 == Growth(widths.of("a.test"), 8, 21.0 + REMEMBERED).count


def test_a_connection_that_brings_nothing_is_one_too_many() -> None:
    """Where a host refuses what is beside the first, there are fewer, and soon one; one stays."""
    width = Width()
    width.helped(8, 0.0)
    growth = Growth(width, 8, 0.0)

    assert [(True, 4), (True, 2), (True, 1), (False, 1)] == [
        (growth.hindered(1.0), growth.count) for _ in range(4)
    ]
    assert 1 == width.start(2.0)


def test_the_speed_of_fewer_connections_says_nothing() -> None:
    """At the end of a blob there is not work for all: that is no reason to have fewer."""
    width = Width()
    width.helped(2, 0.0)
    growth, now = Growth(width, 4, 0.0), 0.0
    while growth.count < 4:
        now += 0.02
        width.received += 2 * MIB
        growth.came(now, busy=growth.count)
    for _ in range(1000):
        now += 0.02
        width.received += MIB
        growth.came(now, busy=3)

    assert 4 == growth.count


@given(
    st.lists(st.tuples(st.floats(1e-4, 5), st.integers(0, 64 * MIB), st.booleans()), max_size=60),
    st.integers(1, 64),
    st.integers(1, 64),
)
def test_the_count_stays_within_bounds(
    events: list[tuple[float, int, bool]], limit: int, helped: int
) -> None:
    """Whatever comes and breaks: never none, never beyond the limit, at most double at once."""
    width, now = Width(), 0.0
    width.helped(helped, now)
    growth = Growth(width, limit, now)
    counts = [growth.count]
    for seconds, count, broke in events:
        now += seconds
        width.received += count
        changed = growth.hindered(now) if broke else growth.came(now, busy=growth.count)
        assert changed == (growth.count != counts[-1])
        counts.append(growth.count)

    assert all(1 <= count <= limit for count in counts)
    assert all(after <= 2 * before for before, after in pairwise(counts))
