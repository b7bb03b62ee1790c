"""Image references: the names that people write, and the one form that we keep.

Grammar (the distribution project's, "docker.io" being the default registry):

    reference  := [ "docker://" ] name [ ":" tag ] [ "@" digest ]
    name       := [ registry "/" ] repository
    registry   := host [ ":" port ]        host: domain name, IPv4, or IPv6 in brackets
    repository := component { "/" component }
    component  := [a-z0-9]+ { ( "." | "_" | "__" | "-"+ ) [a-z0-9]+ }
    tag        := \\w [\\w.-]{0,127}

Invariants:
- a Reference that exists is valid and in normal form: Docker Hub is ``docker.io`` whatever it was
  called, its one-component repositories begin with ``library/``;
- ``Reference.parse(str(reference), default_tag=None) == reference``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from cache.content import Digest
from cache.errors import DigestInvalid
from cache.marks import override
from registryd.oci.errors import ReferenceInvalid

DOCKER_HUB: Final = "docker.io"
#: Other names of Docker Hub that are in use.
DOCKER_HUB_ALIASES: Final = frozenset({"index.docker.io", "registry-1.docker.io"})
#: Longest host and port: a domain name has at most 253 characters.
REGISTRY_LIMIT: Final = 260
#: Longest repository (the distribution project's limit; registries refuse longer ones).
REPOSITORY_LIMIT: Final = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])"
_REGISTRY = re.compile(rf"{_HOST}(?::(?P<port>[0-9]{{1,5}}))?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A name in a registry; with a tag, a digest, both (the digest decides) or neither.

    Raises ReferenceInvalid when a part is malformed.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        check_registry(self.registry)
        check_repository(self.repository)
        if self.tag is not None:
            check_tag(self.tag)
        registry, repository = normalised(self.registry, self.repository)
        check_repository(repository)  # "library/" may have made it too long
        object.__setattr__(self, "registry", registry)
        object.__setattr__(self, "repository", repository)

    @classmethod
    def parse(cls, text: str, default_tag: str | None = "latest") -> Reference:
        """Read what a person wrote. Raises ReferenceInvalid, which says what is wrong with it."""
        try:
            return _parse(text, default_tag)
        except (ReferenceInvalid, DigestInvalid) as error:
            shown = repr(text if len(text) <= 300 else text[:300] + "...")
            raise ReferenceInvalid(f"{shown} is not an image reference: {error}") from None

    @classmethod
    def of(cls, registry: str, repository: str, target: str) -> Reference:
        """The reference that a URL names; ``target`` is a tag or a digest.

        Raises ReferenceInvalid or DigestInvalid.
        """
        if ":" in target:
            return cls(registry, repository, None, Digest.parse(target))
        return cls(registry, repository, target)

    @property
    def name(self) -> str:
        """Registry and repository: ``docker.io/library/alpine``."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """What a manifest URL ends with: the digest, else the tag, else nothing."""
        return str(self.digest) if self.digest else self.tag or ""

    def with_tag(self, tag: str) -> Reference:
        """The same repository with this tag and no digest. Raises ReferenceInvalid."""
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> Reference:
        """The same repository with this digest and no tag."""
        return replace(self, tag=None, digest=digest)

    def bare(self) -> Reference:
        """The same repository with neither tag nor digest."""
        return replace(self, tag=None, digest=None)

    def familiar(self) -> str:
        """The shortest form that still means the same: ``alpine:3.20``."""
        whole = str(self)
        for prefix in (f"{DOCKER_HUB}/library/", f"{DOCKER_HUB}/"):
            short = whole.removeprefix(prefix)
            if short != whole and _means(short, self):
                return short
        return whole

    @override
    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def names_registry(component: str) -> bool:
    """Whether the first component of a name is a registry, and not part of the repository."""
    return (
        "." in component
        or ":" in component
        or component == "localhost"
        or component != component.lower()
    )


def normalised(registry: str, repository: str) -> tuple[str, str]:
    """The one spelling of a registry and its repository (both must be valid)."""
    if names_registry(registry.lower()):
        registry = registry.lower()
    if registry in DOCKER_HUB_ALIASES:
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository


def check_registry(registry: str) -> None:
    """Raise ReferenceInvalid unless this is a registry's name as it stands in references."""
    match = _REGISTRY.fullmatch(registry) if len(registry) <= REGISTRY_LIMIT else None
    if not match or (match["port"] and not 0 < int(match["port"]) < 65536):
        raise ReferenceInvalid(f"{registry[:300]!r} is not a registry (want host or host:port)")
    if not names_registry(registry):
        raise ReferenceInvalid(
            f"{registry!r} is not a registry: its name needs a dot or a port, or is localhost"
        )


def check_repository(repository: str) -> None:
    """Raise ReferenceInvalid unless this is a repository's name (distribution spec, "Pull")."""
    if len(repository) > REPOSITORY_LIMIT:
        raise ReferenceInvalid(
            f"the repository name has {len(repository)} characters, {REPOSITORY_LIMIT} are allowed"
        )
    if _REPOSITORY.fullmatch(repository):
        return
    if not repository:
        raise ReferenceInvalid("there is no repository name in it")
    if _REPOSITORY.fullmatch(repository.lower()):
        raise ReferenceInvalid("repository names are lower case")
    raise ReferenceInvalid(
        f"{repository!r} is not a repository name "
        "(lower-case letters and digits, between them one of . _ __ - or /)"
    )


def check_tag(tag: str) -> None:
    """Raise ReferenceInvalid unless this is a tag (distribution spec, "Pull")."""
    if not _TAG.fullmatch(tag):
        raise ReferenceInvalid(
            f"{tag[:140]!r} is not a tag (at most 128 letters, digits, _ . -, no . or - in front)"
        )


def _parse(text: str, default_tag: str | None) -> Reference:
    rest = text.removeprefix("docker://")
    if rest.startswith(("http://", "https://")):
        raise ReferenceInvalid("leave the URL's scheme out")
    if _IMAGE_ID.fullmatch(rest):
        raise ReferenceInvalid("64 hex digits alone are an image ID; write NAME@sha256:HEX")
    rest, at, encoded = rest.partition("@")
    digest = Digest.parse(encoded) if at else None
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    elif not tag:
        raise ReferenceInvalid("there is no tag after the colon")
    registry, slash, repository = name.partition("/")
    if not slash or not names_registry(registry):
        registry, repository = DOCKER_HUB, name
    chosen = tag or (None if digest else default_tag)
    return Reference(registry, repository, chosen, digest)


def _means(short: str, reference: Reference) -> bool:
    try:
        return _parse(short, None) == reference
    except ReferenceInvalid:
        return False
