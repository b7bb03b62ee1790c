"""Patterns of names: what matches, by an oracle too, and what is no pattern."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import PatternInvalid
from cache.patterns import WILDCARDS, checked, is_pattern, matcher, repository_of

HUB = "docker.io/library"


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        (f"{HUB}/*", f"{HUB}/alpine:3.20", True),
        (f"{HUB}/*", f"{HUB}/alpine@sha256:abc", True),
        (f"{HUB}/*", "docker.io/org/alpine:3", False),
        ("docker.io/*", f"{HUB}/alpine:3", False),
        ("docker.io/**", f"{HUB}/alpine:3", True),
        ("**", "localhost/x:1", True),
        (f"{HUB}/alpin?", f"{HUB}/alpine:3", True),
        (f"{HUB}/alpine:3.*", f"{HUB}/alpine:3.20", True),
        (f"{HUB}/alpine:3.*", f"{HUB}/alpine:4.3.1", False),
        (f"{HUB}/alpine:3.?", f"{HUB}/alpine:3.20", False),
        ("ghcr.io/**/app", "ghcr.io/app:1", True),
        ("ghcr.io/**/app", "ghcr.io/a/b/app:1", True),
        ("ghcr.io/**/app", "ghcr.io/a/bapp:1", False),
        ("h.test:5000/*", "h.test:5000/app:1", True),
        ("h.test/a.p*", "h.test/axp:1", False),
    ],
)
def test_matching(pattern: str, name: str, expected: bool) -> None:
    """A star stays within a part, two go across; the name counts with and without its tag."""
    assert expected is matcher(["other.test/x*", checked(pattern)])(name)


@pytest.mark.parametrize(
    "pattern",
    ["*", "alpine*", "library/*", "h.test", "h.test/", "h.test/a b*", "h.test/{a,b}", "a\n.t/*",
     "h.test/" + "*?" * WILDCARDS, "h.test/" + "a" * 600],
)  # fmt: skip
def test_what_is_no_pattern(pattern: str) -> None:
    """It begins with a registry, and has the signs of names and few wildcards alone."""
    with pytest.raises(PatternInvalid) as refused:
        checked(pattern)
    assert "\n" not in str(refused.value)


PARTS = st.lists(st.sampled_from(["a", "b", "ab", "a.b"]), min_size=1, max_size=4)
GLOBS = st.lists(st.sampled_from(["a", "b", "*", "**", "?b", "a*", "*b"]), min_size=1, max_size=4)


def _meets(pattern: list[str], parts: list[str]) -> bool:
    """The same by recursion over parts; within a part over letters."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        last = len(pattern) == 1
        begun = range(1 if last else 0, len(parts) + 1)
        return any(_meets(pattern[1:], parts[at:]) for at in begun)
    return bool(parts) and _part(pattern[0], parts[0]) and _meets(pattern[1:], parts[1:])


def _part(glob: str, text: str) -> bool:
    if not glob:
        return not text
    if glob[0] == "*":
        return any(_part(glob[1:], text[at:]) for at in range(len(text) + 1))
    return bool(text) and glob[0] in ("?", text[0]) and _part(glob[1:], text[1:])


@given(GLOBS, PARTS)
def test_an_oracle(globs: list[str], parts: list[str]) -> None:
    """Part by part it is what the words say."""
    pattern, name = "/".join(["h.test", *globs]), "/".join(["h.test", *parts])

    assert _meets(globs, parts) is matcher([pattern])(name)
    assert is_pattern(pattern) is any("*" in each or "?" in each for each in globs)


@given(st.text(max_size=40))
def test_any_text_ends_well(text: str) -> None:
    """Whatever is given is a pattern or refused in one way; names lose tag and digest alone."""
    with suppress(PatternInvalid):
        matcher([checked(text)])(text)
    assert text.startswith(repository_of(text))
