"""Which tags are chosen."""

from __future__ import annotations

import pytest

from registryd.oci.errors import UsageError
from registryd.sync.tag_choice import NameRule, TagRule, choose
from registryd.sync.versions import VersionRange

TAGS = ["1.0", "1.0-alpine", "1.1", "2.0", "edge", "latest", "sha256-ab"]


def rule(*allow: str, deny: tuple[str, ...] = (), versions: tuple[str, ...] = ()) -> TagRule:
    """A rule."""
    return TagRule(NameRule(allow, deny), tuple(map(VersionRange.parse, versions)))


@pytest.mark.parametrize(
    ("rules", "chosen"),
    [
        ([], TAGS),
        ([rule()], TAGS),
        ([rule(r"1\..")], ["1.0", "1.1"]),
        ([rule("1.0|2.0")], ["1.0", "2.0"]),
        ([rule(r"1.*", deny=(".*-alpine",))], ["1.0", "1.1"]),
        ([rule(deny=("latest", "sha256-.*"))], ["1.0", "1.0-alpine", "1.1", "2.0", "edge"]),
        ([rule(versions=("^1", ">=2"))], ["1.0", "1.1", "2.0"]),
        ([rule(r".*\.0", versions=("^1",))], ["1.0"]),
        ([rule("edge"), rule(versions=("2.x",))], ["2.0", "edge"]),
        ([rule("ge", "ates")], []),
    ],
)
def test_rules(rules: list[TagRule], chosen: list[str]) -> None:
    """Of one rule everything must agree; of several, one is enough; patterns are for all of it."""
    assert chosen == choose(rules, TAGS)


@pytest.mark.parametrize("text", ["(", "[a", "*", "[[:alpha:]]", "a" * 2000, "(?P<x>a)(?P<x>b)"])
def test_what_is_no_pattern_is_told(text: str) -> None:
    """Also what another regular expression engine would read in another way."""
    with pytest.raises(UsageError, match=r"pattern|regular expression"):
        rule(text)
