"""Which bytes a request asks for, and what may be given before the proof."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.oci.errors import RangeInvalid
from registryd.server.parts import Part, may_be_bounded, part_of

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, Part(0, SIZE)),
        ("bytes=0-99", Part(0, 100, ranged=True, bounded=True)),
        (" Bytes = 5-5 ", Part(5, 6, ranged=True, bounded=True)),
        ("bytes=-1", Part(999, SIZE, ranged=True, bounded=True)),
        ("bytes=900-5000", Part(900, SIZE, ranged=True, bounded=True)),
        ("bytes=1-999", Part(1, SIZE, ranged=True, bounded=True)),
        ("bytes=0-999", Part(0, SIZE, ranged=True)),
        ("bytes=0-5000", Part(0, SIZE, ranged=True)),
        ("bytes=-1000", Part(0, SIZE, ranged=True)),
        ("bytes=900-", Part(900, SIZE, ranged=True)),
        ("bytes=0-", Part(0, SIZE, ranged=True)),
        ("bytes=0-9,20-29", Part(0, SIZE)),
        ("lines=0-9", Part(0, SIZE)),
        ("bytes=-", Part(0, SIZE)),
    ],
)
def test_what_is_bounded(header: str | None, part: Part) -> None:
    """An end or a length was named, and it is not the whole."""
    assert part == part_of(header, SIZE)


@given(st.one_of(st.text(max_size=20), st.from_regex(r"\s?bytes ?= ?[0-9,-]{0,9}", fullmatch=True)),
       st.integers(0, 2000))  # fmt: skip
def test_what_is_bounded_can_be_seen_before_the_size_is_known(header: str, size: int) -> None:
    """No part is bounded that was not expected to be, and none has all bytes."""
    try:
        part = part_of(header, size)
    except RangeInvalid:
        return

    assert not part.bounded or (may_be_bounded(header) and part.length < size)
    assert 0 <= part.start <= part.stop <= size
