"""What the configuration says of tags: how long each is believed, what it is pinned to (pure).

Jobs pin tags too, for a time: what was prefetched is what the tag means until the job ends.

Invariants:
- the first pattern of a registry's ``tags`` that fits decides, in the order of the file;
- a pin of the configuration goes before those of jobs, and of those the newest;
- ``*`` stands for any text, the empty one and ``/`` included; nothing else is special;
- to compare takes time linear in pattern and name, whatever a client asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cache.content import Digest
from registryd.config import RegistryConfig
from registryd.oci.reference import Reference, normalised

_DEFAULT = RegistryConfig()


@dataclass(frozen=True, slots=True)
class _Held:
    """A tag's pin by a job: it counts before ``until`` (seconds of the clock of the caller)."""

    digest: Digest
    until: float


class TagPolicy:
    """The rules of all registries; one without rules of its own has the defaults."""

    def __init__(self, registries: Mapping[str, RegistryConfig]) -> None:
        #: Registry, repository and tag -> the pins of jobs, the newest last.
        self._held: dict[tuple[str, str, str], dict[str, _Held]] = {}
        self.take_over(registries)

    def take_over(self, registries: Mapping[str, RegistryConfig]) -> None:
        """Go on with these rules."""
        self._registries = registries
        self._patterns = {
            name: [(*_split(name, pattern), seconds) for pattern, seconds in config.tags.items()]
            for name, config in registries.items()
        }
        self._pins = {
            name: {_split(name, tag): Digest.parse(digest) for tag, digest in config.pins.items()}
            for name, config in registries.items()
        }

    def ttl(self, reference: Reference) -> float:
        """For how many seconds the meaning of a tag is believed.

        Of a registry that is offline nothing is believed: what is held is given, and that is said.
        """
        config = self._of(reference)
        if config.offline:
            return 0.0
        for repository, tag, seconds in self._patterns.get(reference.registry, ()):
            if fits(repository, reference.repository) and fits(tag, reference.tag or ""):
                return seconds
        return config.tag_ttl

    def pin(self, reference: Reference, now: float | None = None) -> Digest | None:
        """The digest that a tag means here, whatever its registry says; None for any other.

        Without a time it is what the configuration says; with one, what jobs say too.
        """
        pins = self._pins.get(reference.registry, {})
        fixed = pins.get((reference.repository, reference.tag or ""))
        if fixed is not None or now is None:
            return fixed
        held = self._held.get(_key(reference), {}).values()
        return next((each.digest for each in reversed(held) if now < each.until), None)

    def hold(self, owner: str, pins: Mapping[Reference, Digest], until: float) -> None:
        """Pin these tags in the name of a job before this time, in place of all that it had."""
        self.release(owner)
        for reference, digest in pins.items():
            if reference.tag is not None:
                self._held.setdefault(_key(reference), {})[owner] = _Held(digest, until)

    def release(self, owner: str) -> None:
        """Take back the pins of a job; without any it is the same."""
        for key, held in list(self._held.items()):
            held.pop(owner, None)
            if not held:
                del self._held[key]

    def serves_missing(self, reference: Reference) -> bool:
        """Whether a held tag is given that its registry does not have any more."""
        return self._of(reference).missing_tags == "serve"

    def _of(self, reference: Reference) -> RegistryConfig:
        return self._registries.get(reference.registry, _DEFAULT)


def _key(reference: Reference) -> tuple[str, str, str]:
    return reference.registry, reference.repository, reference.tag or ""


def _split(registry: str, words: str) -> tuple[str, str]:
    """Repository and tag of ``REPOSITORY:TAG``, as references have them; no colon: any tag."""
    repository, colon, tag = words.partition(":")
    if "*" not in repository:
        _, repository = normalised(registry, repository)  # docker.io's alpine is library/alpine
    return repository, tag if colon else "*"


def fits(pattern: str, text: str) -> bool:
    """Whether a text is what a pattern with ``*`` describes."""
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    *middle, last = others
    if not text.startswith(first):
        return False
    at = len(first)
    for part in middle:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - at >= len(last) and text.endswith(last)
