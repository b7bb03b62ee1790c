"""Nodes that cannot reach the registry: nobody waits in a circle, and upstream is asked once."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from registryd.cluster.choosing import UPSTREAM
from registryd.cluster.fetching import Ask, AskUpstream, Drop, Fetching
from registryd.cluster.geometry import Geometry
from registryd.cluster.peers import Failure, Peers
from registryd.cluster.placement import Placement
from tests.cluster.small_world import BLOB, SmallWorld

NAMES = [f"n{index}" for index in range(12)]


def ranking(chunk: int, nodes: int = 4) -> tuple[str, ...]:
    return Placement(NAMES[:nodes]).ranked(BLOB, chunk, nodes)


def fetching(me: str, nodes: int = 4, chunks: int = 4) -> Fetching:
    geometry = Geometry(chunks * 10, 10)
    return Fetching(BLOB, geometry, Placement(NAMES[:nodes]), Peers(me), wants=())


def test_next_in_the_whole_ranking_owns_when_the_first_are_barred() -> None:
    """The fourth too, and it is no double fetch; those before it are asked for what they have."""
    first, second, third, fourth = ranking(0)
    fetch = fetching(fourth)
    for node in (first, second, third):
        fetch.barred(node, 0.0, 60.0)

    assert fourth == fetch.owner(0, 0.0)
    assert fetch.demand(0, 0.0, owed=True)
    for node in (first, second, third):
        assert [Ask(0, node, owed=True)] == fetch.steps(0.0)
        fetch.failed(0, node, Failure.REFUSED, 0.0)
    assert [AskUpstream(0)] == fetch.steps(0.0)
    assert {} == fetch.counts.double


def test_a_bar_has_an_end() -> None:
    """The owner owns again."""
    fetch = fetching(ranking(0)[1])
    fetch.barred(ranking(0)[0], 0.0, 10.0)

    assert ranking(0)[1] == fetch.owner(0, 9.0)
    assert ranking(0)[0] == fetch.owner(0, 11.0)


def test_a_barred_node_sends_its_quests_up_to_the_next() -> None:
    """Owed; it never asks upstream, and it turns away those to whom it would owe the chunk."""
    owner, second, *_ = ranking(0)
    fetch = fetching(owner)
    fetch.want([0])
    assert [AskUpstream(0)] == fetch.steps(0.0)
    fetch.failed(0, UPSTREAM, Failure.REFUSED, 0.0)
    fetch.barred(owner, 0.0, 60.0)

    assert 60.0 == fetch.bar(0.0)
    assert 0.0 == fetch.bar(61.0)
    (step,) = fetch.steps(0.0)
    assert isinstance(step, Ask)
    assert (second, True) == (step.node, step.owed)
    assert not fetch.demand(0, 0.0, owed=True)
    fetch.flowing(0, second, 0.0)
    assert fetch.demand(0, 0.0, owed=True)


def test_whoever_waits_at_a_barred_owner_asks_it_once_more_and_then_goes_itself() -> None:
    """It may have got the chunk before; two nodes never wait for each other."""
    owner, second, *_ = ranking(0)
    fetch = fetching(second)
    fetch.want([0])
    assert [Ask(0, owner, owed=True)] == fetch.steps(0.0)
    fetch.barred(owner, 0.0, 60.0)

    assert [Drop(0, owner), Ask(0, owner, owed=True)] == fetch.steps(0.0)
    fetch.barred(owner, 0.0, 70.0)
    assert [] == fetch.steps(0.0)
    fetch.failed(0, owner, Failure.REFUSED, 0.0)
    assert [AskUpstream(0)] == fetch.steps(0.0)
    assert {} == fetch.counts.double


def test_what_flows_from_a_barred_node_goes_on() -> None:
    """It gives what it has."""
    owner, second, *_ = ranking(0)
    fetch = fetching(second)
    fetch.want([0])
    fetch.steps(0.0)
    fetch.flowing(0, owner, 0.0)
    fetch.barred(owner, 0.0, 60.0)

    assert [] == fetch.steps(0.0)


def test_who_must_get_a_chunk_waits_with_no_relay() -> None:
    """The relay may be waiting for us."""
    for chunk in range(40):
        fetch = fetching("n0", nodes=12, chunks=40)
        fetch.want([chunk])
        (step,) = fetch.steps(0.0)
        if isinstance(step, Ask) and not step.owed:
            break
    else:
        raise AssertionError("no chunk of 40 leads to a relay")

    assert fetch.demand(chunk, 0.0, owed=True)
    owner = ranking(chunk, 12)[0]
    assert [Drop(chunk, step.node), Ask(chunk, owner, owed=True)] == fetch.steps(0.0)


def test_hopeless_when_everyone_is_barred() -> None:
    """Ourselves included; one that failed twice counts with them while it is passed over."""
    fetch = fetching("n0")
    for node in NAMES[:3]:
        assert not fetch.hopeless(0.0)
        fetch.barred(node, 0.0, 60.0)
    fetch.peers.failed("n3", Failure.GONE, 0.0)
    assert not fetch.hopeless(0.0)
    fetch.peers.failed("n3", Failure.GONE, 5.0)

    assert fetch.hopeless(5.0)
    assert not fetch.hopeless(59.0)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_everything_ends_whoever_is_barred(data: st.DataObject) -> None:
    """Some reach upstream, each node believes something else of the others: all have the blob.

    One that reaches it is known to all. Nothing waits for an answer that never comes. Upstream
    sends no chunk more than once too often, and exactly once where nobody is wrongly taken for
    barred; a node that cannot reach it asks at most for as many chunks as it had begun when it
    learned so.
    """
    count = data.draw(st.integers(1, 12), "nodes")
    chunks = data.draw(st.integers(1, 4), "chunks")
    names = st.sampled_from(NAMES[:count])
    reaching = data.draw(st.sets(names, min_size=1), "reaching")
    right = data.draw(st.booleans(), "beliefs are right")
    known = reaching if right else {min(reaching)}
    views = {
        name: data.draw(st.sets(names, max_size=3), name) - {name} - known for name in NAMES[:count]
    }
    world = SmallWorld(count, chunks, reaching, Random(data.draw(st.integers(0, 99))))
    world.told(views)
    world.run()

    assert set() == world.gave_up
    assert set(range(chunks)) == set(world.fetched)
    assert max(world.fetched.values()) <= (1 if right else 2)
    assert max(world.refused.values(), default=0) <= chunks


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(0, 99))
def test_everyone_gives_up_when_nobody_reaches_upstream(count: int, seed: int) -> None:
    """None waits for a miracle."""
    world = SmallWorld(count, 2, (), Random(seed))
    world.run()

    assert set(NAMES[:count]) == world.gave_up
