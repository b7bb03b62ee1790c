"""The rule of trying again, without a clock or a network."""

from __future__ import annotations

import math
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.remote.retry import (
    PASSING,
    RetryPolicy,
    Tries,
    Wait,
    backoff,
    decide,
    parse_retry_after,
)

NOW = 1_700_000_000.0
FIRST = Tries()
POLICY = RetryPolicy(attempts=3, base=1.0, cap=8.0, throttle_limit=100.0)


def after(status: int | None, retry_after: str | None = None, tries: Tries = FIRST) -> Wait | None:
    return decide(POLICY, tries, status, retry_after, NOW, lambda: 0.5)


@pytest.mark.parametrize("status", [200, 206, 301, 400, 401, 403, 404, 405, 413, 416, 501])
def test_final_answers_are_not_asked_for_again(status: int) -> None:
    """What another try would not change is not tried."""
    assert after(status) is None


@pytest.mark.parametrize("status", [None, 408, 500, 502, 503, 504])
def test_failures_cost_attempts(status: int | None) -> None:
    """Full jitter below a doubling limit, and an end after the attempts."""
    first = after(status)

    assert first == Wait(0.5, Tries(failures=1))

    second = after(status, tries=first.tries)

    assert second == Wait(1.0, Tries(failures=2))
    assert after(status, tries=second.tries) is None


def test_4b_21_too_many_requests_wait_as_asked() -> None:
    """429 waits as asked, everyone with it, and counts apart (2.2)."""
    tries = Tries(failures=2)

    assert Wait(7.0, Tries(2, 1, 7.0), shared=True) == after(429, "7", tries)


def test_too_many_requests_end_with_the_total() -> None:
    """All waits of one request together are bounded."""
    tries, waits = Tries(), 0
    while (wait := after(429, "30", tries)) is not None:
        tries, waits = wait.tries, waits + 1

    assert 3 == waits
    assert after(429, "101") is None


@pytest.mark.parametrize("retry_after", [None, "0", "-5", "soon"])
def test_too_many_requests_never_asks_at_once(retry_after: str | None) -> None:
    """Without a usable Retry-After there is a floor, so that the loop ends."""
    wait = decide(POLICY, Tries(), 429, retry_after, NOW, lambda: 0.0)

    assert wait == Wait(1.0, Tries(0, 1, 1.0), shared=True)


def test_unavailable_with_retry_after_waits_so_long() -> None:
    """503 may say how long; it still costs an attempt, and too long is an end."""
    assert Wait(60.0, Tries(failures=1), shared=True) == after(503, "60")
    assert after(503, "3600") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("-3", 0.0),
        ("nan", None),
        ("inf", None),
        ("tomorrow", None),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("Tue, 14 Nov 2023 22:14:20", 60.0),
        ("Mon, 99 Foo 2023 99:99:99 GMT", None),
    ],
)
def test_4b_21_both_forms_of_retry_after(text: str | None, seconds: float | None) -> None:
    """A number of seconds, or a date by the sender's clock (RFC 9110 10.2.3)."""
    assert seconds == parse_retry_after(text, NOW)


@given(st.text())
def test_any_retry_after_is_read_or_ignored(text: str) -> None:
    """Nothing that stands in the header makes an error or a wait that is no number."""
    seconds = parse_retry_after(text, NOW)

    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@given(
    status=st.sampled_from([None, *sorted(PASSING)]),
    failures=st.integers(0, 5),
    retry_after=st.one_of(st.none(), st.integers(0, 10**6).map(str)),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_waits_are_bounded(
    status: int | None, failures: int, retry_after: str | None, chance: float
) -> None:
    """No wait is longer than the limits, none is shorter than what was asked for."""
    wait = decide(POLICY, Tries(failures=failures), status, retry_after, NOW, lambda: chance)
    if wait is not None:
        assert 0 <= wait.seconds <= POLICY.throttle_limit
        assert wait.seconds >= float(retry_after or 0)


@given(st.integers(0, 10**9))
def test_backoff_never_overflows(failures: int) -> None:
    """Doubling has a cap."""
    assert 1.0 <= backoff(POLICY, failures) <= POLICY.cap
