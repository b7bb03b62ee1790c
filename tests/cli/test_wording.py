"""Values as people read them, and tables of them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.cli import wording
from registryd.cli.tables import Column, layout

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (12_345, "12.1 KiB"),
        (123_456_789, "118 MiB"),
        (1024**2 - 1, "1.0 MiB"),
        (2**63, "8192 PiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    """A size has two to four digits, in the unit that gives them."""
    assert wording.size(count) == text


@given(st.integers(0, 2**60 - 1))
def test_a_size_is_short(count: int) -> None:
    """However large, a size fits its column."""
    assert len(wording.size(count)) <= len("1023 KiB")


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("2026-03-01T12:00:00Z", "0 seconds ago"),
        ("2026-03-01T11:59:59Z", "1 second ago"),
        ("2026-03-01T11:58:00.5+00:00", "1 minute ago"),
        ("2026-03-01T10:00:00+01:00", "3 hours ago"),
        ("2026-02-27T12:00:00Z", "2 days ago"),
        ("2024-03-01T12:00:00Z", "2 years ago"),
        ("2026-03-01T12:00:09Z", "0 seconds ago"),
        ("yesterday", "yesterday"),
        ("2026-03-01T12:00:00", "2026-03-01T12:00:00"),
        ("", "-"),
    ],
)
def test_how_long_ago(moment: str, text: str) -> None:
    """Whole units, the largest that fits; what is no time with a zone is shown as it is."""
    assert wording.ago(moment, NOW) == text


def test_short_forms() -> None:
    """Digests lose all but twelve digits, lists of platforms all but the first of many."""
    assert wording.short("sha256:0123456789abcdef") == "0123456789ab"
    assert wording.some(["a", "b"]) == "a,b"
    assert wording.some(["a", "b", "c"]) == "a +2"
    assert wording.some([]) == "-"
    assert wording.rate(2048, 2) == "1.0 KiB/s"
    assert wording.rate(2048, 0) == "-"


def test_a_table_is_aligned() -> None:
    """Values stand under their headings, left or right, two spaces apart."""
    columns = (Column("A"), Column("SIZE", right=True), Column("Z"))

    assert layout(columns, [("long value", "1", "x"), ("b", "12345", "")]) == [
        "A            SIZE  Z",
        "long value      1  x",
        "b           12345",
    ]


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_a_table_has_a_line_a_row(rows: list[tuple[str, str]]) -> None:
    """No text can break a line, steer the terminal or leave blanks at an end."""
    lines = layout((Column("A"), Column("B", right=True)), rows)

    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() and line == line.rstrip() for line in lines)
