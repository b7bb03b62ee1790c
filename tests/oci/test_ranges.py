"""Byte ranges, against a table and against a naive model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.oci.errors import BadAnswer, RangeInvalid
from registryd.oci.ranges import (
    RANGES_LIMIT,
    ByteRange,
    ContentRange,
    format_range,
    format_upload_range,
    parse_range,
    parse_upload_range,
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-99", [(0, 100)]),
        ("bytes=0-", [(0, 100)]),
        ("bytes=99-", [(99, 100)]),
        ("bytes=10-19", [(10, 20)]),
        ("bytes=10-1000", [(10, 100)]),
        ("bytes=-1", [(99, 100)]),
        ("bytes=-1000", [(0, 100)]),
        ("Bytes = 1-2", [(1, 3)]),
        (" bytes= 1-2 ", [(1, 3)]),
        ("bytes=0-0,2-3, -1", [(0, 1), (2, 4), (99, 100)]),
        ("bytes=,0-0,,", [(0, 1)]),
        ("bytes=100-,0-0", [(0, 1)]),
        ("bytes=0-9,5-14", [(0, 10), (5, 15)]),
        ("bytes=99-99999999999999999999", [(99, 100)]),
    ],
)
def test_ranges_are_read_and_clipped(header: str, expected: list[tuple[int, int]]) -> None:
    """RFC 9110, 14.1.2: ranges are inclusive, clipped at the end, or counted from it."""
    assert tuple(ByteRange(*pair) for pair in expected) == parse_range(header, 100)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=1-2-3",
        "bytes=0-0,x",
        "bytes=0-0;1-1",
        "bytes=+1-2",
        "bytes=1 - 2",
        "bytes=\u0661-\u0662",
        "bytes 0-1",
        "items=0-1",
        "0-1",
        f"bytes={'9' * 21}-",
        "bytes=" + ",".join(["0-0"] * (RANGES_LIMIT + 1)),
        "bytes=0-,0-,0-",
        "bytes=0-99,50-50",
    ],
)
def test_headers_that_are_ignored(header: str | None) -> None:
    """Another unit, what cannot be read, what would cost more than the whole: send the whole."""
    assert parse_range(header, 100) is None


def test_the_limit_of_ranges_is_met() -> None:
    """As many ranges as the limit allows are answered."""
    header = "bytes=" + ",".join(["0-0"] * RANGES_LIMIT)

    assert (ByteRange(0, 1),) * RANGES_LIMIT == parse_range(header, 100)


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=500-,600-"])
def test_ranges_beyond_the_end(header: str) -> None:
    """When no byte can be sent the error carries the size, for ``Content-Range: bytes */size``."""
    with pytest.raises(RangeInvalid) as caught:
        parse_range(header, 100)

    assert (caught.value.size, caught.value.status) == (100, 416)


def test_a_range_that_ends_before_it_begins() -> None:
    """A reversed range is rejected, as registries are expected to."""
    with pytest.raises(RangeInvalid, match="500-0 ends before it begins"):
        parse_range("bytes=500-0", 1000)


def test_empty_content_is_sent_whole() -> None:
    """Of nothing there is no range, but nothing to refuse either."""
    assert parse_range("bytes=0-", 0) is None
    assert parse_range("bytes=-5", 0) is None


numbers = st.integers(0, 60)
ordered = st.tuples(numbers, numbers).map(lambda pair: (min(pair), max(pair)))
specs = ordered | st.tuples(numbers, st.none())


@given(st.lists(specs, min_size=1, max_size=5), st.integers(1, 50))
def test_against_a_naive_model(wanted: list[tuple[int, int | None]], size: int) -> None:
    """The bytes of all ranges are those that picking them one by one gives."""
    content = bytes(range(size))
    header = "bytes=" + ",".join(f"{a}-{'' if b is None else b}" for a, b in wanted)
    model = [
        bytes(content[i] for i in range(size) if i >= a and (b is None or i <= b))
        for a, b in wanted
    ]
    model = [part for part in model if part]
    try:
        ranges = parse_range(header, size)
    except RangeInvalid:
        assert model == []
        return

    if ranges is None:
        assert sum(map(len, model)) > size
    else:
        assert model == [content[part.start : part.stop] for part in ranges]
        assert [len(part) for part in model] == [part.length for part in ranges]


@given(st.text(st.sampled_from("bytes=0123456789-, \t*/"), max_size=30), st.integers(0, 20))
def test_any_header_is_read_or_ignored(header: str, size: int) -> None:
    """No header raises anything but RangeInvalid, and no range leaves the content."""
    for text in (header, f"bytes={header}"):
        try:
            ranges = parse_range(text, size) or ()
        except RangeInvalid:
            continue

        assert all(0 <= part.start < part.stop <= size for part in ranges)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (2, 1), (-1, 1)])
def test_an_empty_range_cannot_be_made(start: int, stop: int) -> None:
    """A ByteRange has at least one byte."""
    with pytest.raises(RangeInvalid):
        ByteRange(start, stop)
    with pytest.raises(RangeInvalid):
        format_range(start, stop)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_what_we_ask_is_what_we_read(start: int, length: int) -> None:
    """format_range and parse_range agree."""
    asked = ByteRange(start, start + length)

    assert (asked,) == parse_range(format_range(start, start + length), start + length + 1)
    assert (asked,) == parse_range(format_range(start), start + length)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 0-9/10", ContentRange(0, 10, 10)),
        ("bytes 5-9/*", ContentRange(5, 10)),
        ("bytes 0-0/1", ContentRange(0, 1, 1)),
        ("bytes 5-9", ContentRange(5, 10)),
        ("5-9/20", ContentRange(5, 10, 20)),
        ("bytes=5-9/20", ContentRange(5, 10, 20)),
        (" Bytes  5-9/20 ", ContentRange(5, 10, 20)),
        ("bytes */20", ContentRange(0, 0, 20)),
        ("*/20", ContentRange.unsatisfied(20)),
        ("bytes */*", ContentRange(0, 0)),
    ],
)
def test_content_range(text: str, expected: ContentRange) -> None:
    """The header is read with and without unit and total, and when there is nothing."""
    assert expected == ContentRange.parse(text)
    assert expected == ContentRange.parse(str(expected))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes 9-5/10",
        "bytes 0-10/10",
        "bytes 0-x/5",
        "items 0-1/2",
        "0-",
        "bytes -5/9",
    ],
)
def test_bad_content_ranges(text: str) -> None:
    """A header that cannot be, or contradicts itself, is no answer."""
    with pytest.raises(BadAnswer, match="Content-Range"):
        ContentRange.parse(text)


def test_content_range_texts() -> None:
    """The three forms of RFC 9110, 14.4."""
    texts = [str(ContentRange(0, 5, 9)), str(ContentRange(0, 5)), str(ContentRange.unsatisfied(9))]

    assert texts == ["bytes 0-4/9", "bytes 0-4/*", "bytes */9"]
    assert [ContentRange(0, 5).satisfied, ContentRange.unsatisfied(9).satisfied] == [True, False]


@pytest.mark.parametrize("text", ["0-9", "bytes=0-9", "bytes 0-9/*", "0-9/10"])
def test_upload_ranges(text: str) -> None:
    """The range of an upload is understood as the registries write it."""
    assert ByteRange(0, 10) == parse_upload_range(text)


@pytest.mark.parametrize("text", ["", "9", "9-0", "-9", "9-", "*/5"])
def test_bad_upload_ranges(text: str) -> None:
    """What is not FIRST-LAST is no range of an upload."""
    with pytest.raises(RangeInvalid):
        parse_upload_range(text)


def test_upload_range_texts() -> None:
    """Inclusive on the wire; an upload without bytes is 0-0."""
    texts = [format_upload_range(0, 10), format_upload_range(10, 20), format_upload_range(0, 0)]

    assert texts == ["0-9", "10-19", "0-0"]
