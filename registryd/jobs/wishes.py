"""Wishes: tags of a repository, by patterns, that a job keeps fresh (pure).

Invariants:
- a Wish that exists is valid; its record reads back as the same wish;
- in a pattern ``*`` stands for any text, as in the rules of tags; nothing else is special.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from registryd.jobs.errors import JobInvalid
from registryd.oci.fields import Malformed, mapping, text, texts
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.transfer.tag_policy import fits

#: What one list may wish for: each wish is a question to a registry, every ``refresh``.
WISHES_LIMIT: Final = 128
PATTERNS_LIMIT: Final = 64
PLATFORMS_LIMIT: Final = 16
#: Seconds between two looks at the tags of a repository: a registry counts them.
SOONEST: Final = 60.0
LATEST: Final = 7 * 86400.0
USUAL: Final = 3600.0

#: The characters of a tag, and the star.
_PATTERN = re.compile(r"[\w.*-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wish:
    """The tags of a repository that fit a pattern; ``refresh`` in seconds."""

    repository: Reference
    tags: tuple[str, ...]
    platforms: tuple[str, ...] = ()
    everything: bool = False
    refresh: float = USUAL

    def __post_init__(self) -> None:
        if self.repository != self.repository.bare():
            raise JobInvalid(f"{self.repository}: a wish names a repository, its tags are apart")
        if not 0 < len(self.tags) <= PATTERNS_LIMIT:
            raise JobInvalid(
                f"{self.repository.name}: wish for some of its tags, {PATTERNS_LIMIT} at most"
                ' (["*"] for all)'
            )
        for pattern in self.tags:
            if not _PATTERN.fullmatch(pattern):
                raise JobInvalid(f"{pattern[:140]!r} is neither a tag nor a pattern with *")
        check_scope(self.platforms, self.everything)
        if not SOONEST <= self.refresh <= LATEST:
            raise JobInvalid("tags are looked up every 1m to 7d (refresh)")

    @property
    def exact(self) -> tuple[str, ...]:
        """The tags that are named as they are."""
        return tuple(tag for tag in self.tags if "*" not in tag)

    def chosen(self, tags: Iterable[str]) -> tuple[str, ...]:
        """The tags that are wished for: all that are named, and those of these that fit."""
        patterns = [tag for tag in self.tags if "*" in tag]
        fitting = [tag for tag in tags if any(fits(pattern, tag) for pattern in patterns)]
        return tuple(dict.fromkeys([*self.exact, *fitting]))

    def as_json(self) -> dict[str, object]:
        """The wish in a job's record."""
        return {
            "name": self.repository.name,
            "tags": list(self.tags),
            "platforms": list(self.platforms),
            "all_platforms": self.everything,
            "refresh": self.refresh,
        }


def wishes_of(values: Sequence[object]) -> tuple[Wish, ...]:
    """The wishes in a job's record. Raises Malformed, UsageError."""
    if len(values) > WISHES_LIMIT:
        raise JobInvalid(f"{len(values)} wishes are too many ({WISHES_LIMIT} at most)")
    return tuple(_wish(mapping(value, f"wishes[{at}]")) for at, value in enumerate(values))


def _wish(members: Mapping[str, object]) -> Wish:
    everything, refresh = members.get("all_platforms", False), members.get("refresh", USUAL)
    if not isinstance(everything, bool):
        raise Malformed("wishes[].all_platforms is neither true nor false")
    if isinstance(refresh, bool) or not isinstance(refresh, int | float):
        raise Malformed("wishes[].refresh is not a number of seconds")
    return Wish(
        Reference.parse(text(members, "name", "wishes[]."), default_tag=None),
        texts(members, "tags", "wishes[]."),
        texts(members, "platforms", "wishes[]."),
        everything,
        refresh if SOONEST <= refresh <= LATEST else 0.0,
    )


def check_scope(platforms: Sequence[str], everything: bool) -> None:
    """Which platforms are wanted must be clear. Raises JobInvalid, UsageError."""
    if platforms and everything:
        raise JobInvalid("some platforms and all of them contradict each other")
    if len(platforms) > PLATFORMS_LIMIT:
        raise JobInvalid(f"{len(platforms)} platforms are too many (or wish for all)")
    for platform in platforms:
        Platform.parse(platform)
