"""Patterns of names, as in paths: ``*`` and ``?`` stay within a part, ``**`` goes across (pure).

Invariants:
- a pattern is of whole names: it has to match a name, or a name without its tag and digest;
- matching takes no long time: a pattern has few wildcards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from cache.errors import PatternInvalid

#: Signs of wildcards in one pattern: each makes matching longer by the length of the name.
WILDCARDS = 8
LONGEST = 512

_TOKEN = re.compile(r"/(?:\*\*/)+|\*\*|\*|\?|[^*?/]+|/")
_WORDS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
_ALLOWED = re.compile(r"[A-Za-z0-9._:@/\[\]*?-]+")


def is_pattern(text: str) -> bool:
    """Whether a text means many names: a name has none of these signs."""
    return "*" in text or "?" in text


def checked(pattern: str) -> str:
    """The pattern itself. Raises PatternInvalid, with what is wrong."""
    first, slash, rest = pattern.partition("/")
    if not _ALLOWED.fullmatch(pattern) or len(pattern) > LONGEST:
        raise PatternInvalid(
            f"{pattern[:60]!r} is no pattern of names (registry/repository:tag with * ? or **)"
        )
    if pattern.count("*") + pattern.count("?") > WILDCARDS:
        raise PatternInvalid(f"{pattern[:60]!r} has more than {WILDCARDS} wildcards")
    if pattern != "**" and not (slash and rest and _is_registry(first)):
        raise PatternInvalid(
            f"{pattern[:60]!r} does not begin with a registry: write it as images lists it, such as"
            " docker.io/library/*"
        )
    return pattern


def _is_registry(first: str) -> bool:
    return first == "localhost" or any(sign in first for sign in ".:*?")


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """What says of a name whether any of these patterns means it."""
    forms = "|".join(map(_form, patterns))
    if not forms:
        return lambda _: False
    match = re.compile(forms, re.DOTALL).fullmatch

    def matches(name: str) -> bool:
        return match(name) is not None or match(repository_of(name)) is not None

    return matches


def repository_of(name: str) -> str:
    """A name without its tag and digest."""
    name = name.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(":")[0]


def _form(pattern: str) -> str:
    return "".join(map(_word, _TOKEN.findall(pattern)))


def _word(token: str) -> str:
    across = token.startswith("/**/")
    return "/(?:.*/)?" if across else _WORDS.get(token) or re.escape(token)
