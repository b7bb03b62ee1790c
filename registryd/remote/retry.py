"""Whether to try again, and after how long: a pure rule.

Invariants:
- a failure costs an attempt, and the attempts are bounded;
- "too many requests" costs no attempt, but all such waits together are bounded;
- a wait is never shorter than the registry asked for: when that is too long, we stop instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime

TOO_MANY_REQUESTS = 429
UNAVAILABLE = 503

#: Answers that another try may change (RFC 9110 section 15; 425 is RFC 8470).
PASSING = frozenset({408, 425, TOO_MANY_REQUESTS, 500, 502, UNAVAILABLE, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient to be; all times in seconds."""

    attempts: int = 5
    #: The first back-off; each later one doubles, up to the cap.
    base: float = 0.25
    cap: float = 20.0
    #: All waits for "too many requests" of one request together.
    throttle_limit: float = 300.0


@dataclass(frozen=True, slots=True)
class Tries:
    """What one request has cost so far."""

    failures: int = 0
    throttles: int = 0
    throttled: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Try again after ``seconds``; ``shared`` means that everyone who asks this host must wait."""

    seconds: float
    tries: Tries
    shared: bool = False


def decide(
    policy: RetryPolicy,
    tries: Tries,
    status: int | None,
    retry_after: str | None,
    now: float,
    chance: Callable[[], float],
) -> Wait | None:
    """The next wait, or None to stop. ``status`` is None when no answer came; ``now`` is a date."""
    if status is not None and status not in PASSING:
        return None
    asked = parse_retry_after(retry_after, now)
    if status == TOO_MANY_REQUESTS:
        return _throttled(policy, tries, asked, chance)
    failures = tries.failures + 1
    if failures >= policy.attempts:
        return None
    seconds = chance() * backoff(policy, tries.failures)
    if asked is not None:
        if asked > policy.throttle_limit:
            return None
        seconds = max(seconds, asked)
    return Wait(seconds, replace(tries, failures=failures), shared=asked is not None)


def _throttled(
    policy: RetryPolicy, tries: Tries, asked: float | None, chance: Callable[[], float]
) -> Wait | None:
    # Without Retry-After there is a floor under the jitter: to ask again at once is what was wrong.
    floor = policy.base if asked is None else asked
    jitter = chance() * backoff(policy, tries.throttles) if asked is None else 0.0
    # "Retry-After: 0" would make an endless loop of a wait that costs nothing.
    seconds = max(floor, jitter, policy.base)
    throttled = tries.throttled + seconds
    if throttled > policy.throttle_limit:
        return None
    return Wait(
        seconds, replace(tries, throttles=tries.throttles + 1, throttled=throttled), shared=True
    )


def backoff(policy: RetryPolicy, failures: int) -> float:
    """The longest wait after so many failures: doubling, capped; full jitter draws below it."""
    return min(policy.cap, policy.base * 2.0 ** min(failures, 30))


def parse_retry_after(text: str | None, now: float) -> float | None:
    """Seconds to wait by a Retry-After header: a number or a date (RFC 9110 section 10.2.3).

    None when there is none that can be read; never negative.
    """
    if text is None:
        return None
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        return _until(text, now)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(text: str, now: float) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now)
    except (ValueError, OverflowError):
        return None
