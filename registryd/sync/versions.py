"""Tags as versions, and ranges of versions (semver.org 2.0.0, with the ranges that people write).

::

    >=1.2 <2     >=1.2, <2     ^1.2     ~1.2     1.x     1.2 - 1.9     !=1.3.1     1.x || >=3

Invariants:
- a space or a comma is "and", ``||`` is "or";
- a version without its last parts stands for all that begin so: ``1.2`` is ``1.2.x``;
- a pre-release fits only a range that names one: nobody wants ``2.0.0-rc1`` by ``>=1``;
- what is no version fits no range; a ``v`` before a version says nothing.

A library was looked for: those for Python read npm's ranges, without the comma and ``!=`` that the
tools for mirrors take, and take no tag of one or two numbers for a version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import total_ordering
from typing import Final

from typing_extensions import override

from registryd.oci.errors import UsageError

#: Longer texts are no versions: a tag has at most 128 characters, a range a few terms.
VERSION_LIMIT: Final = 128
RANGE_LIMIT: Final = 1024
#: Digits of one number: far beyond dates, and quick to read.
_NUMBER: Final = r"(?:0|[1-9][0-9]{0,18}|0[0-9]{1,18})"
_LABELS: Final = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION: Final = re.compile(
    rf"v?({_NUMBER})(?:\.({_NUMBER}))?(?:\.({_NUMBER}))?(?:-({_LABELS}))?(?:\+{_LABELS})?"
)
_PART: Final = rf"(?:{_NUMBER}|[xX*])"
_TERM: Final = re.compile(
    rf"\s*(=|!=|>=|=>|<=|=<|>|<|~>|~|\^)?\s*v?({_PART})(?:\.({_PART}))?(?:\.({_PART}))?"
    rf"(?:-({_LABELS}))?(?:\+{_LABELS})?(?=\s|,|$)\s*,?"
)
_HYPHEN: Final = re.compile(r"(\S+)\s+-\s+(\S+)")


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """Three numbers, and the labels of a pre-release."""

    numbers: tuple[int, int, int]
    labels: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """The version that a tag is; None when it is none."""
        match = _VERSION.fullmatch(text) if len(text) <= VERSION_LIMIT else None
        if match is None:
            return None
        major, minor, patch = (int(match[at] or 0) for at in (1, 2, 3))
        return cls((major, minor, patch), tuple(match[4].split(".")) if match[4] else ())

    def __lt__(self, other: Version) -> bool:
        """Precedence (semver.org 2.0.0, section 11)."""
        return self._key() < other._key()

    def _key(self) -> tuple[tuple[int, int, int], bool, list[tuple[bool, int, str]]]:
        labels = [
            (False, int(label), "") if label.isdecimal() else (True, 0, label)
            for label in self.labels
        ]
        return self.numbers, not self.labels, labels

    @override
    def __str__(self) -> str:
        numbers = ".".join(map(str, self.numbers))
        return f"{numbers}-{'.'.join(self.labels)}" if self.labels else numbers


@dataclass(frozen=True, slots=True)
class _Span:
    """The versions from ``low`` on and below ``high`` (None: no end), or all but those."""

    low: Version | None = None
    high: Version | None = None
    outside: bool = False

    def holds(self, version: Version) -> bool:
        inside = (self.low is None or version >= self.low) and (
            self.high is None or version < self.high
        )
        return inside != self.outside


@dataclass(frozen=True, slots=True)
class _Group:
    """Terms that must all hold; ``early``: one of them names a pre-release."""

    spans: tuple[_Span, ...]
    early: bool

    def holds(self, version: Version) -> bool:
        if version.labels and not self.early:
            return False
        return all(span.holds(version) for span in self.spans)


@dataclass(frozen=True, slots=True)
class VersionRange:
    """A range as it was written."""

    text: str
    groups: tuple[_Group, ...]

    @classmethod
    def parse(cls, text: str) -> VersionRange:
        """Read a range. Raises UsageError."""
        if len(text) > RANGE_LIMIT:
            raise UsageError(f"a range of versions has at most {RANGE_LIMIT} characters")
        return cls(text, tuple(_group(part.strip(), text) for part in text.split("||")))

    def holds(self, tag: str) -> bool:
        """Whether a tag is a version in this range."""
        version = Version.parse(tag)
        return version is not None and any(group.holds(version) for group in self.groups)


def _group(part: str, whole: str) -> _Group:
    hyphen = _HYPHEN.fullmatch(part)
    if hyphen:
        part = f">={hyphen[1]} <={hyphen[2]}"
    terms = list(_terms(part, whole))
    return _Group(tuple(span for span, _ in terms), any(early for _, early in terms))


def _terms(part: str, whole: str) -> Iterator[tuple[_Span, bool]]:
    """The terms of a group, and whether each names a pre-release."""
    at = 0
    while at < len(part) or not at:
        match = _TERM.match(part, at)
        if match is None:
            raise UsageError(
                f"{whole[:80]!r} is not a range of versions (write >=1.2 <2, ^1.2, ~1.2, 1.x, ||)"
            )
        at = match.end()
        numbers = [int(p) if p and p.isdecimal() else None for p in match.group(2, 3, 4)]
        known = numbers[: numbers.index(None)] if None in numbers else numbers
        labels = tuple(match[5].split(".")) if match[5] and len(known) == 3 else ()
        yield _span(match[1] or "=", [n for n in known if n is not None], labels), bool(labels)


def _span(operator: str, known: list[int], labels: tuple[str, ...]) -> _Span:
    """The versions that a term means: ``known`` are the numbers before the first ``x``."""
    if not known:  # ``*``: everything, and nothing is beyond it
        return _Span(outside=operator in ("<", ">", "!="))
    low = Version(_padded(known), labels)
    after = _bumped(known, len(known) - 1)
    if labels or (len(known) == 3 and operator in ("=", "!=", ">", "<=", "=<")):
        after = Version(low.numbers, (*low.labels, "0")) if labels else _next(low)
    match operator:
        case "=" | "!=":
            return _Span(low, after, outside=operator == "!=")
        case ">":
            return _Span(after)
        case ">=" | "=>":
            return _Span(low)
        case "<":
            return _Span(None, low)
        case "<=" | "=<":
            return _Span(None, after)
        case "^":
            first = next((at for at, number in enumerate(known) if number), len(known) - 1)
            return _Span(low, _bumped(known, first))
        case _:  # ~ and ~>
            return _Span(low, _bumped(known, min(len(known) - 1, 1)))


def _next(version: Version) -> Version:
    """The first version after one that is no pre-release."""
    major, minor, patch = version.numbers
    return Version((major, minor, patch + 1), ("0",))


def _bumped(known: list[int], at: int) -> Version:
    """The first version that does not begin with these numbers up to ``at``; its pre-releases too.

    ``0`` is the lowest label of all, so that nothing lies below.
    """
    return Version(_padded([*known[:at], known[at] + 1]), ("0",))


def _padded(known: list[int]) -> tuple[int, int, int]:
    major, minor, patch = (*known, 0, 0)[:3]
    return major, minor, patch
