"""Trickle: slow streams are taken in larger steps, fast ones as they come."""

from registryd.trickle import AFTER, ENOUGH, PAUSE, SLOW, Trickle


class Time:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_bytes_are_taken_as_they_come() -> None:
    """Others wait for them, and nothing is known of the stream yet."""
    clock = Time()
    trickle = Trickle(clock)
    clock.now = AFTER / 2

    assert 0.0 == trickle.pause(1)


def test_a_slow_stream_is_waited_for() -> None:
    """Unless so much has come that it is worth a step."""
    clock = Time()
    trickle = Trickle(clock)
    clock.now = 1.0

    assert PAUSE == trickle.pause(1000)
    assert 0.0 == trickle.pause(ENOUGH)


def test_a_fast_stream_is_never_waited_for() -> None:
    """By what has come in all, and not by one step."""
    clock = Time()
    trickle = Trickle(clock)
    clock.now = 1.0
    trickle.pause(SLOW * 2)

    assert 0.0 == trickle.pause(1)

    clock.now = 3.0

    assert PAUSE == trickle.pause(1)
