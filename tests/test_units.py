"""Sizes and times as people write them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registryd.oci.errors import UsageError
from registryd.units import (
    LARGEST_SIZE,
    SIZE_UNITS,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (0, "0"),
        (512, "512"),
        (512, 512),
        (7, "7B"),
        (1000, "1kB"),
        (1000, "1KB"),
        (1024, "1KiB"),
        (64 * 2**20, "64MiB"),
        (200 * 2**30, "200GiB"),
        (200 * 2**30, "200 GiB"),
        (1_500_000_000, "1.5GB"),
        (2**39, "0.5TiB"),
        (1, "1.9"),
        (LARGEST_SIZE, LARGEST_SIZE),
    ],
)
def test_size(expected: int, text: str | int) -> None:
    """A number and a unit: powers of ten for MB, powers of two for MiB."""
    assert expected == parse_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "MiB", "-1", -1, "+1", "1e3", "1,5GB", "1.5.5GB", ".5GB", "5.GB", "1GiB1",
        "1  GiB", "1gib", "1G", "1Gb", "0x10", "1_000", " 1", "1\n", "\u0661", "\u0661GiB",
        "8192PiB", 2**63, "9" * 100_000, pytest.param(16**9000, id="huge"),
    ],
)  # fmt: skip
def test_size_refused(text: str | int) -> None:
    """Whatever is not exactly that is refused in one short line."""
    with pytest.raises(UsageError) as caught:
        parse_size(text)

    assert 1 == len(str(caught.value).splitlines())
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (0.0, "0"),
        (0.0, "0s"),
        (0.3, "300ms"),
        (30.0, "30s"),
        (300.0, "5m"),
        (5400.0, "1h30m"),
        (1.5, "1.5s"),
        (90061.001, "1d1h1m1s1ms"),
    ],
)
def test_duration(expected: float, text: str) -> None:
    """Numbers with units, from large to small."""
    assert expected == parse_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "30", "0.0", "5 m", "m", "-1s", "30m1h", "5m5m", "1h-30m", "1s1m", "5min", "5M", "1w",
        "1h30", "inf", "nan", "1e3s", "\u0665m", "5m\n", "9" * 100_000 + "s",
    ],
)  # fmt: skip
def test_duration_refused(text: str) -> None:
    """A missing unit, a wrong order, a repetition are refused in one short line."""
    with pytest.raises(UsageError) as caught:
        parse_duration(text)

    assert 1 == len(str(caught.value).splitlines())
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (0, "0"),
        (0, "0/s"),
        (512, 512),
        (125_000_000, "125MB/s"),
        (10 * 2**20, "10MiB"),
        (125_000_000, "1Gbit/s"),
        (12_500_000, "100 Mbit"),
        (187_500, "1.5Mbit/s"),
        (1, "15bit"),
    ],
)
def test_rate(expected: int, text: str | int) -> None:
    """A size or a number of bits, with or without the second; a bit is an eighth of a byte."""
    assert expected == parse_rate(text)


@pytest.mark.parametrize(
    "text", ["", "/s", "fast", "1Gbit/m", "1MB /s", "1MB/s/s", "1Gb", "1gbit", "-1", -1, "9" * 40]
)
def test_rate_refused(text: str | int) -> None:
    """Whatever is not exactly that is refused in one short line."""
    with pytest.raises(UsageError) as caught:
        parse_rate(text)

    assert 1 == len(str(caught.value).splitlines())
    assert len(str(caught.value)) < 200


@given(st.integers(0, LARGEST_SIZE))
def test_rate_written_is_read_back(rate: int) -> None:
    """format_rate is exact: parse_rate gives the number back."""
    assert rate == parse_rate(format_rate(rate))


@given(st.integers(0, LARGEST_SIZE))
def test_size_written_is_read_back(size: int) -> None:
    """format_size is exact: parse_size gives the number back."""
    assert size == parse_size(format_size(size))


@given(st.integers(0, 8191), st.sampled_from(list(SIZE_UNITS)))
def test_size_is_number_times_unit(number: int, unit: str) -> None:
    """A whole number is multiplied exactly."""
    assert number * SIZE_UNITS[unit] == parse_size(f"{number}{unit}")


@given(st.integers(0, 10**12))
@example(1001)  # 1.001 * 1000 is less than 1001
def test_duration_written_is_read_back(milliseconds: int) -> None:
    """format_duration is exact to the millisecond."""
    assert milliseconds / 1000 == parse_duration(format_duration(milliseconds / 1000))


@given(st.text(alphabet="0123456789.hmsdGMKkiB -+e\n", max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text crashes a parser or gives a negative or endless number."""
    for parse in (parse_size, parse_duration, parse_rate):
        try:
            number = parse(text)
        except UsageError:
            continue
        assert 0 <= number < float("inf")
