"""What the configuration says of tags: how long each is believed, what it is pinned to (pure).

Invariants:
- the first pattern of a registry's ``tags`` that fits decides, in the order of the file;
- ``*`` stands for any text, the empty one and ``/`` included; nothing else is special;
- to compare takes time linear in pattern and name, whatever a client asks for.
"""

from __future__ import annotations

from collections.abc import Mapping

from cache.content import Digest
from registryd.config import RegistryConfig
from registryd.oci.reference import Reference, normalised

_DEFAULT = RegistryConfig()


class TagPolicy:
    """The rules of all registries; one without rules of its own has the defaults."""

    def __init__(self, registries: Mapping[str, RegistryConfig]) -> None:
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

    def pin(self, reference: Reference) -> Digest | None:
        """The digest that a tag means here, whatever its registry says; None for any other."""
        pins = self._pins.get(reference.registry, {})
        return pins.get((reference.repository, reference.tag or ""))

    def serves_missing(self, reference: Reference) -> bool:
        """Whether a held tag is given that its registry does not have any more."""
        return self._of(reference).missing_tags == "serve"

    def _of(self, reference: Reference) -> RegistryConfig:
        return self._registries.get(reference.registry, _DEFAULT)


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
