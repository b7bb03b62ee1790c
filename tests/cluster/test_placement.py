"""Placement: every node computes the same owners, and few chunks move when nodes come and go."""

import random

from hypothesis import given
from hypothesis import strategies as st

from registryd.cluster.placement import Placement, relay_count

NAMES = st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), unique=True, min_size=1)


@given(NAMES, st.randoms(), st.integers(0, 2**64 - 1), st.integers(0, 500))
def test_same_on_every_node(names: list[str], order: random.Random, blob: int, chunk: int) -> None:
    """The order in which nodes are named does not matter."""
    shuffled = list(names)
    order.shuffle(shuffled)

    assert Placement(names).ranked(blob, chunk, 4) == Placement(shuffled).ranked(blob, chunk, 4)


@given(NAMES, st.data())
def test_changes_end_where_a_fresh_start_does(names: list[str], data: st.DataObject) -> None:
    """After any joins and leaves the ranking is that of a placement made with the members left."""
    placement = Placement(names[:1])
    members = set(names[:1])
    for name in data.draw(st.lists(st.sampled_from(names), max_size=40)):
        placement.ranked(7, 3, 3)
        if name in members:
            placement.leave(name)
        else:
            placement.join(name)
        members ^= {name}

        assert Placement(members).ranked(7, 3, 3) == placement.ranked(7, 3, 3)


def test_a_leaver_moves_only_its_own() -> None:
    """Chunks of the others keep their owners; those of the leaver go to the next in rank."""
    placement = Placement(f"n{index}" for index in range(50))
    before = [placement.ranked(1, chunk, 2) for chunk in range(500)]
    placement.leave("n7")
    expected = [second if first == "n7" else first for first, second in before]

    assert expected == [placement.ranked(1, chunk, 1)[0] for chunk in range(500)]


def test_a_joiner_takes_only_its_share() -> None:
    """What moves goes to the new node, and that is about one part of all."""
    placement = Placement(f"n{index}" for index in range(50))
    before = [placement.ranked(1, chunk, 1) for chunk in range(5000)]
    placement.join("new")
    moved = [
        now for chunk, was in enumerate(before) if (now := placement.ranked(1, chunk, 1)) != was
    ]

    assert {("new",)} == set(moved)
    assert 50 < len(moved) < 150


def test_load_is_even() -> None:
    """Of 100 chunks a node, none owns more than half as many again, none less than half."""
    placement = Placement(f"node-{index}" for index in range(64))
    owned = dict.fromkeys(placement.nodes, 0)
    for chunk in range(6400):
        owned[placement.ranked(99, chunk, 1)[0]] += 1

    assert 50 < min(owned.values())
    assert max(owned.values()) < 150


def test_relays_grow_with_the_root() -> None:
    """A small cluster has the owner alone; a large one the square root of its size."""
    assert [1, 1, 4, 31, 100] == [relay_count(size) for size in (1, 8, 16, 1000, 10_000)]
