"""Pace: a slow source is left for another; upstream is asked in its place by rank, and rarely."""

from registryd.cluster.choosing import UPSTREAM
from registryd.cluster.fetching import Ask, AskUpstream, Drop, Fetching
from registryd.cluster.geometry import Geometry
from registryd.cluster.peers import ENOUGH, Peers
from registryd.cluster.placement import Placement

BLOB = 42
NAMES = [f"n{index}" for index in range(4)]


def placed(place: int) -> int:
    """A chunk for which n0 has this place in the ranking."""
    placement = Placement(NAMES)
    return next(c for c in range(200) if placement.ranked(BLOB, c, 4)[place] == "n0")


def fetching(place: int) -> tuple[Fetching, int, tuple[str, ...]]:
    """A fetch that knows how fast chunks come (10 bytes in a second), and a chunk that flows."""
    peers, chunk = Peers("n0"), placed(place)
    for _ in range(ENOUGH):
        peers.served("n1", 10.0)
    fetch = Fetching(BLOB, Geometry(2000, 10), Placement(NAMES), peers, wants=(chunk,))
    ranking = Placement(NAMES).ranked(BLOB, chunk, 4)
    assert [Ask(chunk, ranking[0], owed=True)] == fetch.steps(0.0)
    fetch.flowing(chunk, ranking[0], 0.0)
    return fetch, chunk, ranking


def test_a_slow_source_is_left_when_another_one_answers() -> None:
    """Not before; the other one goes on where the slow one is."""
    fetch, chunk, ranking = fetching(3)
    fetch.reached(chunk, ranking[0], 2, 1.0)
    fetch.passed(1.0)

    assert [Ask(chunk, ranking[1], offset=2)] == fetch.steps(1.0)
    fetch.flowing(chunk, ranking[1], 1.1)
    assert [Drop(chunk, ranking[0])] == fetch.steps(1.1)
    assert 1 == fetch.counts.replaced


def test_what_comes_as_fast_as_others_is_not_left() -> None:
    """Half as fast is fast enough; nothing is judged before the time of a chunk is over."""
    fetch, chunk, ranking = fetching(3)
    fetch.passed(0.9)
    assert [] == fetch.steps(0.9)
    fetch.reached(chunk, ranking[0], 5, 1.0)
    fetch.passed(1.0)

    assert [] == fetch.steps(1.0)


def test_a_stand_in_asks_upstream_in_the_place_of_a_slow_owner() -> None:
    """In its turn by rank, and it is counted."""
    fetch, chunk, ranking = fetching(1)
    fetch.reached(chunk, ranking[0], 2, 1.0)
    fetch.passed(1.0)
    assert [] == fetch.steps(1.0)
    fetch.passed(2.0)

    assert [AskUpstream(chunk, 2)] == fetch.steps(2.0)
    assert {"slow owner": 1} == dict(fetch.counts.double)
    fetch.flowing(chunk, UPSTREAM, 2.1)
    assert [Drop(chunk, ranking[0])] == fetch.steps(2.1)


def test_a_peer_that_does_not_answer_beside_a_slow_one_is_given_up() -> None:
    """After the time of a chunk; the slow one goes on."""
    fetch, chunk, ranking = fetching(3)
    fetch.reached(chunk, ranking[0], 2, 1.0)
    fetch.passed(1.0)
    fetch.steps(1.0)
    fetch.reached(chunk, ranking[0], 4, 2.0)
    fetch.passed(2.0)

    assert Drop(chunk, ranking[1]) == fetch.steps(2.0)[0]
    assert fetch.wanted_from(chunk, ranking[0]) is None
