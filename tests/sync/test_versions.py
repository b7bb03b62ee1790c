"""Ranges of versions as those who write lists of images know them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.oci.errors import UsageError
from registryd.sync.versions import Version, VersionRange

TAGS = (
    *("0.0.3", "0.2.3", "0.3.0", "1.0.0", "1.2.0", "1.2.3", "1.2.9", "1.3.0", "1.9.9"),
    *("2.0.0-rc.1", "2.0.0", "2.1.4", "3.0.0"),
)


@pytest.mark.parametrize(
    ("written", "chosen"),
    [
        (">=1.2 <2", "1.2.0 1.2.3 1.2.9 1.3.0 1.9.9"),
        (">=1.2, <2", "1.2.0 1.2.3 1.2.9 1.3.0 1.9.9"),
        (">= 1.2,< 2", "1.2.0 1.2.3 1.2.9 1.3.0 1.9.9"),
        ("^1.2", "1.2.0 1.2.3 1.2.9 1.3.0 1.9.9"),
        ("^0.2.3", "0.2.3"),
        ("^0.0.3", "0.0.3"),
        ("^0.0", "0.0.3"),
        ("^0", "0.0.3 0.2.3 0.3.0"),
        ("~1.2", "1.2.0 1.2.3 1.2.9"),
        ("~1.2.3", "1.2.3 1.2.9"),
        ("~>1", "1.0.0 1.2.0 1.2.3 1.2.9 1.3.0 1.9.9"),
        ("1.x", "1.0.0 1.2.0 1.2.3 1.2.9 1.3.0 1.9.9"),
        ("1.2.*", "1.2.0 1.2.3 1.2.9"),
        ("1.2", "1.2.0 1.2.3 1.2.9"),
        ("=v1.2.3", "1.2.3"),
        ("1.2 - 1.3", "1.2.0 1.2.3 1.2.9 1.3.0"),
        (">1.2", "1.3.0 1.9.9 2.0.0 2.1.4 3.0.0"),
        (">1.2.3 <1.3", "1.2.9"),
        ("<=1.2", "0.0.3 0.2.3 0.3.0 1.0.0 1.2.0 1.2.3 1.2.9"),
        ("<=1.2.3 >0.3", "1.0.0 1.2.0 1.2.3"),
        ("!=1.2 ^1", "1.0.0 1.3.0 1.9.9"),
        ("!=1.2.3, ~1.2", "1.2.0 1.2.9"),
        ("^1.9 || >=3", "1.9.9 3.0.0"),
        ("*", " ".join(tag for tag in TAGS if "-" not in tag)),
        ("<*", ""),
        (">=2.0.0-0 <2.1", "2.0.0-rc.1 2.0.0"),
        ("2.0.0-rc.1", "2.0.0-rc.1"),
        ("<2.0.0", "0.0.3 0.2.3 0.3.0 1.0.0 1.2.0 1.2.3 1.2.9 1.3.0 1.9.9"),
        ("^2.0.0-rc.1", "2.0.0-rc.1 2.0.0 2.1.4"),
    ],
)
def test_ranges(written: str, chosen: str) -> None:
    """What each form means; a pre-release is only for who names one."""
    wanted = VersionRange.parse(written)

    assert chosen.split() == [tag for tag in TAGS if wanted.holds(tag)]


@pytest.mark.parametrize("tag", ["latest", "", "1.2.3.4", "v", "1.", "1.2.3-", "-1", "1" * 200])
def test_what_is_no_version_fits_no_range(tag: str) -> None:
    """Such tags are left out, and are no mistake."""
    assert not VersionRange.parse("*").holds(tag)


@pytest.mark.parametrize("tag", ["v1.4.0", "1.4", "1.4.0+build.7", "01.04.00"])
def test_tags_are_read_leniently(tag: str) -> None:
    """With a v, with one or two numbers, with what says how it was built."""
    assert VersionRange.parse("^1.4").holds(tag)


@pytest.mark.parametrize(
    "written", ["", "||", "latest", ">=", "1.2 ||", "^^1", ">1.2.3.4", "1 - 2 - 3", "x" * 2000]
)
def test_what_is_no_range_is_told(written: str) -> None:
    """One line, which shows the forms there are."""
    with pytest.raises(UsageError, match="range of versions"):
        VersionRange.parse(written)


def test_the_order_of_the_specification() -> None:
    """semver.org 2.0.0, section 11: the sequence that it gives."""
    labels = ("alpha", "alpha.1", "alpha.beta", "beta", "beta.2", "beta.11", "rc.1")
    ordered = [*(f"1.0.0-{label}" for label in labels), "1.0.0", "2.0.0", "2.1.0", "2.1.1"]
    versions = [version for text in ordered[::-1] if (version := Version.parse(text))]

    assert ordered == [str(version) for version in sorted(versions)]


NUMBERS = st.integers(0, 30)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_operators_agree_with_numbers(a: int, b: int, c: int, x: int, y: int, z: int) -> None:
    """Whole versions compare as their numbers do; the short forms are what they stand for."""
    tag, low = f"{x}.{y}.{z}", f"{a}.{b}.{c}"
    mine, theirs = (x, y, z), (a, b, c)
    claims = {
        f">{low}": mine > theirs,
        f">={low}": mine >= theirs,
        f"<{low}": mine < theirs,
        f"<={low}": mine <= theirs,
        f"={low}": mine == theirs,
        f"!={low}": mine != theirs,
        f"~{low}": mine >= theirs and mine[:2] == theirs[:2],
        f"{a}.{b}.x": mine[:2] == theirs[:2],
        f">{a}.{b}": mine[:2] > theirs[:2],
        f"<={a}": x <= a,
    }

    assert claims == {text: VersionRange.parse(text).holds(tag) for text in claims}


@given(st.text(max_size=60), st.text(max_size=40))
def test_anything_is_a_range_or_a_fault(written: str, tag: str) -> None:
    """No text does anything else."""
    try:
        wanted = VersionRange.parse(written)
    except UsageError:
        return

    assert wanted.holds(tag) in (True, False)
