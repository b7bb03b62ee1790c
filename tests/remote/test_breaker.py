"""The circuit breaker: when a host is left alone, and who may try it again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from registryd.remote.breaker import (
    FIRST_PAUSE,
    KEPT,
    LIMIT,
    LONGEST_PAUSE,
    Breaker,
    Breakers,
    pause_after,
)


def test_one_try_after_the_pause() -> None:
    """Of all who wait one gets through; the others stay away until it is known how it went."""
    now = 0.0
    breakers = Breakers(lambda: now)
    for _ in range(LIMIT):
        assert breakers.enter("m")
        breakers.failed("m", "away")
    during = breakers.enter("m")
    now += FIRST_PAUSE
    after = [breakers.enter("m") for _ in range(3)]
    breakers.worked("m")

    assert (False, [True, False, False]) == (during, after)
    assert breakers.enter("m") and breakers.enter("m")
    assert [] == breakers.left_alone()


def test_a_try_that_never_ends_is_not_the_last() -> None:
    """Whoever got through may have gone away: after another pause there is another try."""
    now = 0.0
    breakers = Breakers(lambda: now)
    for _ in range(LIMIT):
        breakers.failed("m", "away")
    tries = []
    for _ in range(3):
        now += FIRST_PAUSE
        tries.append(breakers.enter("m"))

    assert [True] * 3 == tries


@given(st.integers(0, 10_000))
def test_pauses_grow_and_end(failures: int) -> None:
    """None before the limit; then never shorter, and never longer than the longest."""
    pause = pause_after(failures)

    assert (pause == 0.0) == (failures < LIMIT)
    assert pause <= pause_after(failures + 1) <= LONGEST_PAUSE
    assert Breaker(failures, until=5.0).admits(5.0)


def test_what_is_remembered_is_bounded() -> None:
    """Who failed longest ago is forgotten first."""
    breakers = Breakers(lambda: 0.0)
    for number in range(KEPT + 1):
        for _ in range(LIMIT):
            breakers.failed(f"h{number}", "away")

    assert KEPT == len(breakers.left_alone())
    assert breakers.enter("h0") and not breakers.enter("h1")
