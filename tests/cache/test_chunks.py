"""ChunkMap against a plain set of byte offsets."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.chunks import ChunkMap

SPAN = 40
ranges = st.tuples(st.integers(0, SPAN), st.integers(0, SPAN)).map(lambda p: (min(p), max(p)))


def offsets(chunks):
    """The bytes that a map says are here."""
    return {at for start, stop in chunks.ranges for at in range(start, stop)}


@given(st.lists(ranges))
def test_a_map_holds_exactly_what_was_added(added):
    """Whatever the order and overlap, the bytes here are the union of what was added."""
    chunks = ChunkMap(added)

    assert {at for start, stop in added for at in range(start, stop)} == offsets(chunks)
    assert len(offsets(chunks)) == chunks.total


@given(st.lists(ranges))
def test_ranges_are_sorted_and_apart(added):
    """Neighbours merge: between two ranges there is always a gap."""
    found = ChunkMap(added).ranges

    assert all(left[1] < right[0] for left, right in pairwise(found))


@given(st.lists(ranges), ranges)
def test_missing_is_the_complement(added, window):
    """Missing ranges and held ranges share nothing and together fill the window."""
    chunks = ChunkMap(added)
    gaps = chunks.missing(*window)

    held = offsets(chunks)
    assert {at for at in range(*window) if at not in held} == {
        at for start, stop in gaps for at in range(start, stop)
    }
    assert gaps == sorted(gaps)
    assert all(start < stop for start, stop in gaps)


@given(st.lists(ranges), st.lists(ranges))
def test_what_is_removed_is_not_here(added, removed):
    """The bytes here are what was added without what was removed, in ranges that are apart."""
    chunks = ChunkMap(added)
    held = offsets(chunks)
    for start, stop in removed:
        chunks.remove(start, stop)
        held -= set(range(start, stop))

    assert held == offsets(chunks)
    assert all(left[1] < right[0] for left, right in pairwise(chunks.ranges))
    assert all(start < stop for start, stop in chunks.ranges)


@given(st.lists(ranges), ranges)
def test_common_is_what_is_here_of_a_range(added, window):
    """Common and missing ranges share nothing and together fill the window."""
    chunks = ChunkMap(added)
    common = chunks.common(*window)

    here = {at for start, stop in common for at in range(start, stop)}
    assert offsets(chunks) & set(range(*window)) == here
    assert chunks.missing(*window) == ChunkMap(common).missing(*window)


@given(st.lists(ranges), st.integers(0, SPAN))
def test_reach_ends_at_the_first_gap(added, start):
    """Everything from the start up to its reach is here, and the byte at the reach is not."""
    chunks = ChunkMap(added)
    held = offsets(chunks)
    reach = chunks.reach(start)

    assert all(at in held for at in range(start, reach))
    assert reach not in held


@pytest.mark.parametrize("bad", [(-1, 3), (4, 2)])
def test_a_range_that_is_none_is_refused(bad):
    """Negative and reversed ranges are a caller's mistake."""
    with pytest.raises(ValueError, match="not a range"):
        ChunkMap().add(*bad)
    with pytest.raises(ValueError, match="not a range"):
        ChunkMap().remove(*bad)


def test_repr_shows_the_ranges():
    """A map in a failing assertion can be read."""
    assert "ChunkMap([(0, 2), (5, 7)])" == repr(ChunkMap([(5, 7), (0, 2)]))
