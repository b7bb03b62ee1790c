"""Which tags of a repository are mirrored (pure).

Invariants:
- a pattern is a regular expression for the whole tag;
- of one rule all must agree: versions, ``allow`` and ``deny``; of several rules one is enough;
- no rule at all chooses every tag; the order of the registry stays.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from registryd.oci.errors import UsageError
from registryd.sync.versions import VersionRange

#: Characters of one pattern.
PATTERN_LIMIT: Final = 1024


@dataclass(frozen=True, slots=True)
class NameRule:
    """Names by patterns: those that fit ``allow`` (none: all), without those that fit ``deny``."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    _allow: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)
    _deny: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_allow", tuple(map(pattern, self.allow)))
        object.__setattr__(self, "_deny", tuple(map(pattern, self.deny)))

    def chooses(self, name: str) -> bool:
        """Whether this name is chosen."""
        allowed = not self._allow or any(each.fullmatch(name) for each in self._allow)
        return allowed and not any(each.fullmatch(name) for each in self._deny)


@dataclass(frozen=True, slots=True)
class TagRule:
    """Tags by patterns, and by ranges of versions of which one must hold (none: no matter)."""

    names: NameRule = field(default_factory=NameRule)
    versions: tuple[VersionRange, ...] = ()

    def chooses(self, tag: str) -> bool:
        """Whether this tag is chosen."""
        fits = not self.versions or any(each.holds(tag) for each in self.versions)
        return fits and self.names.chooses(tag)


def choose(rules: Sequence[TagRule], tags: Iterable[str]) -> list[str]:
    """The tags that at least one rule chooses."""
    return [tag for tag in tags if not rules or any(rule.chooses(tag) for rule in rules)]


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression. Raises UsageError."""
    if len(text) > PATTERN_LIMIT:
        raise UsageError(f"a pattern has at most {PATTERN_LIMIT} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what another release would read differently
            return re.compile(text)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise UsageError(f"{text[:80]!r} is not a regular expression: {error}") from None
