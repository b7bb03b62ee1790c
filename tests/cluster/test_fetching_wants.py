"""A reader's chunks go first; a chunk that turned out wrong is fetched again from elsewhere."""

from registryd.cluster.choosing import UPSTREAM
from registryd.cluster.fetching import Ask, AskUpstream, Fetching
from registryd.cluster.geometry import Geometry
from registryd.cluster.peers import Peers
from registryd.cluster.placement import Placement

BLOB = 42
NAMES = [f"n{index}" for index in range(4)]


def fetching(me: str = "n0", chunks: int = 200, wants: tuple[int, ...] | None = None) -> Fetching:
    return Fetching(BLOB, Geometry(chunks * 10, 10), Placement(NAMES), Peers(me), wants=wants)


def owner(chunk: int) -> str:
    return Placement(NAMES).ranked(BLOB, chunk, 1)[0]


def owned(by: str) -> int:
    return next(chunk for chunk in range(200) if owner(chunk) == by)


def test_a_readers_chunks_are_begun_first_and_beyond_the_limits() -> None:
    """Beyond the budget, in the order in which they were wanted; then it goes on as before."""
    fetch = fetching()
    fetch.want([199, 198, 199])

    assert [199, 198] == [step.chunk for step in fetch.steps(0.0, budget=0)]
    assert {*range(8)} > {step.chunk for step in fetch.steps(0.0, budget=2)}


def test_a_readers_chunks_are_wanted_where_only_others_asked() -> None:
    """The fetch is not idle until they are here."""
    fetch = fetching(wants=())
    assert fetch.idle
    fetch.want([7])
    assert not fetch.idle
    (step,) = fetch.steps(0.0)

    assert 7 == step.chunk
    fetch.arrived(7, step.node if isinstance(step, Ask) else UPSTREAM, 0.0)
    assert fetch.idle


def test_a_chunk_that_is_here_or_under_way_is_not_begun_again() -> None:
    """Wanting it changes nothing."""
    fetch = fetching(wants=())
    fetch.want([3, 4])
    first = fetch.steps(0.0)
    fetch.arrived(3, UPSTREAM, 0.0)
    fetch.want([3, 4])

    assert 2 == len(first)
    assert [] == fetch.steps(0.0)


def test_a_wrong_chunk_of_a_liar_is_fetched_again_from_another() -> None:
    """First of all, beyond the limits, and the liar is banned for good."""
    chunk = next(chunk for chunk in range(200) if owner(chunk) != "n0")
    fetch, liar = fetching(wants=(chunk,)), owner(chunk)
    fetch.steps(0.0)
    fetch.arrived(chunk, liar, 1.0)
    fetch.spoilt(chunk, liar, 1.0, sure=True)
    (step,) = fetch.steps(1.0, budget=0)

    assert chunk not in fetch.here
    assert {liar} == fetch.peers.liars
    assert 1 == fetch.counts.failures["wrong"]
    assert chunk == step.chunk
    assert liar != getattr(step, "node", UPSTREAM)


def test_a_relay_that_may_have_passed_on_a_lie_is_passed_over_for_a_time() -> None:
    """It is no liar; another one is asked in the first round."""
    chunk = next(chunk for chunk in range(200) if owner(chunk) != "n0")
    fetch, relay = fetching(wants=(chunk,)), owner(chunk)
    fetch.steps(0.0)
    fetch.arrived(chunk, relay, 1.0)
    fetch.spoilt(chunk, relay, 1.0, sure=False)
    (step,) = fetch.steps(1.0)

    assert set() == fetch.peers.liars
    assert not fetch.peers.usable(relay, 1.0)
    assert fetch.peers.usable(relay, 60.0)
    assert relay != getattr(step, "node", UPSTREAM)


def test_a_wrong_chunk_from_upstream_bans_nobody() -> None:
    """The owner has no other source: upstream is asked again."""
    chunk = owned(by="n0")
    fetch = fetching(wants=(chunk,))
    assert [AskUpstream(chunk)] == fetch.steps(0.0)
    fetch.arrived(chunk, UPSTREAM, 1.0)
    assert fetch.idle
    fetch.spoilt(chunk, UPSTREAM, 1.0, sure=True)

    assert [AskUpstream(chunk)] == fetch.steps(1.0)
    assert set() == fetch.peers.liars


def test_a_spoilt_chunk_that_is_fetched_again_already_stays_one_quest() -> None:
    """A second report of it bans its source too, and begins nothing."""
    chunk = next(chunk for chunk in range(200) if owner(chunk) != "n0")
    fetch = fetching(wants=(chunk,))
    fetch.steps(0.0)
    fetch.arrived(chunk, owner(chunk), 1.0)
    fetch.spoilt(chunk, owner(chunk), 1.0, sure=False)
    fetch.spoilt(chunk, owner(chunk), 1.0, sure=True)

    assert 1 == len(fetch.steps(1.0))
    assert {owner(chunk)} == fetch.peers.liars
