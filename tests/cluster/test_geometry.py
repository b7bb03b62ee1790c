"""Geometry: chunks cover a blob without gap or overlap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.chunks import ChunkMap
from registryd.cluster.geometry import CHUNK, LEAST, PARTS, Geometry


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_spans_cover_the_blob(size: int, chunk: int) -> None:
    """One span begins where the last one ended, and the last ends with the blob."""
    geometry = Geometry(size, chunk)
    spans = [geometry.span(each) for each in range(geometry.count)]

    assert [0, *(stop for _, stop in spans[:-1])] == [start for start, _ in spans]
    assert size == spans[-1][1]


def test_what_is_here() -> None:
    """A chunk is whole with its last byte; ``covering`` finds the chunks of a range."""
    geometry = Geometry(25, 10)
    here = ChunkMap([(0, 12), (20, 25)])

    assert {0, 2} == geometry.whole(here)
    assert [10, 2, 5] == [geometry.reached(here, chunk) for chunk in range(3)]
    assert [1, 2] == list(geometry.covering(19, 99))
    assert [] == list(geometry.covering(30, 40))


def test_no_such_chunk() -> None:
    """A chunk beyond the end and a negative size are refused."""
    with pytest.raises(IndexError):
        Geometry(25, 10).span(3)
    with pytest.raises(ValueError, match="-1 bytes"):
        Geometry(-1)


@given(st.integers(0, 1 << 40))
def test_chunks_are_cut_by_the_size_alone(size: int) -> None:
    """A power of two within its bounds; no more parts than meant until chunks are the largest."""
    chunk = Geometry(size).chunk

    assert chunk == Geometry(size).chunk
    assert LEAST <= chunk <= CHUNK
    assert 0 == chunk & (chunk - 1)
    assert chunk == CHUNK or Geometry(size).count <= PARTS
