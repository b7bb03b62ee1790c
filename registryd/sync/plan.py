"""What a list of images to mirror says: its steps, and how the registries in it are reached.

Invariants:
- a Plan that exists can be run: its names are read, its patterns compile;
- a password is a Secret from the moment it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cache.content import Digest
from registryd.images.transports import ImageLocation
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference
from registryd.registry_config import RegistryConfig
from registryd.secrets import Login
from registryd.sync.tag_choice import NameRule, TagRule
from registryd.sync.whole import Extras


@dataclass(frozen=True, slots=True)
class Door:
    """How a registry is reached; None and empty: as it is configured."""

    login: Login | None = None
    tls_verify: bool | None = None
    plain_http: bool | None = None
    endpoint: str = ""
    cert_dir: Path | None = None
    connections: int | None = None

    def applied(self, config: RegistryConfig) -> RegistryConfig:
        """A registry's configuration with this on top. Raises ConfigInvalid."""
        if self.tls_verify is not None:
            config = replace(config, tls_verify=self.tls_verify)
        if self.plain_http is not None:
            config = replace(config, plain_http=self.plain_http, endpoint="")
        if self.endpoint:
            config = replace(config, endpoint=self.endpoint)
        if self.connections is not None:
            config = replace(config, max_connections=self.connections)
        return config


@dataclass(frozen=True, slots=True)
class ImageStep:
    """One image."""

    source: ImageLocation
    target: ImageLocation
    extras: Extras = field(default_factory=Extras)


@dataclass(frozen=True, slots=True)
class RepositoryStep:
    """The tags of a repository (or layout) that a rule chooses; at the target with ``suffix``."""

    source: ImageLocation
    target: ImageLocation
    extras: Extras = field(default_factory=Extras)
    rules: tuple[TagRule, ...] = ()
    suffix: str = ""

    def image(self, tag: str) -> ImageStep:
        """The step for one of its tags."""
        target = tagged(self.target, f"{tag}{self.suffix}")
        return ImageStep(tagged(self.source, tag), target, self.extras)

    def exact(self, source: Reference) -> ImageStep:
        """The step for one of its images by tag or digest."""
        if source.digest is None:
            return self.image(source.tag or "latest")
        place = replace(self.source, reference=source)
        return ImageStep(place, at_digest(self.target, source.digest), self.extras)


@dataclass(frozen=True, slots=True)
class RegistryStep:
    """The repositories of a registry that a rule chooses, below a prefix at the target."""

    source: str
    target: str
    extras: Extras = field(default_factory=Extras)
    rules: tuple[TagRule, ...] = ()
    repositories: NameRule = field(default_factory=NameRule)

    def repository(self, name: str) -> RepositoryStep:
        """The step for one of its repositories."""
        return RepositoryStep(
            ImageLocation.parse(f"{self.source}/{name}"),
            ImageLocation.parse(f"{self.target}/{name}"),
            self.extras,
            self.rules,
        )


Step = ImageStep | RepositoryStep | RegistryStep


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in their order; ``doors`` by the names of registries; ``notes`` are for people.

    ``jobs``: how many images at once (None: as usual). Without ``files`` no credential file of the
    user is looked at.
    """

    steps: tuple[Step, ...]
    doors: Mapping[str, Door] = field(default_factory=dict)
    jobs: int | None = None
    files: bool = True
    notes: tuple[str, ...] = ()


def bent(plan: Plan, *, strip: bool, recheck: bool) -> Plan:
    """A plan bent by flags: ``strip`` indexes that are kept for some platforms; look again."""

    def step(one: Step) -> Step:
        terms = one.extras.terms
        index = "strip" if strip and terms.index == "keep" else terms.index
        terms = replace(terms, index=index, recheck=terms.recheck or recheck)
        return replace(one, extras=replace(one.extras, terms=terms))

    return replace(plan, steps=tuple(map(step, plan.steps)))


def at_digest(place: ImageLocation, digest: Digest) -> ImageLocation:
    """The same place for what has no tag. Raises UsageError."""
    if place.reference is not None:
        return replace(place, reference=place.reference.bare().with_digest(digest))
    return tagged(place, str(digest))


def tagged(place: ImageLocation, tag: str) -> ImageLocation:
    """The same place with this tag: of a folder, a folder beside the others. Raises UsageError."""
    if place.reference is not None:
        return replace(place, reference=place.reference.bare().with_tag(tag))
    if place.transport == "oci":
        return replace(place, tag=f"{place.tag}:{tag}" if place.tag else tag)
    if place.transport == "dir" and place.path is not None:
        return replace(place, path=place.path.with_name(f"{place.path.name}:{tag}"))
    raise UsageError(f"{place} holds one image: tags need a registry, oci:DIR or dir:DIR")
