"""Files of images in the words of ``skopeo sync --src yaml``, and its way to name what it copies.

::

    registry.example.com:
      images:
        busybox: []
        redis: ["1.0", "sha256:..."]
      images-by-tag-regex:
        nginx: ^1\\.13\\.[12]-alpine$
      images-by-semver:
        alpine: ">= 3.12.0"
      credentials: {username: ann, password: secret}
      tls-verify: true
      cert-dir: /etc/certs

Invariants:
- a destination is a prefix: below it an image has the last part of its name, or (scoped) all of it;
- an empty list of tags means all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final, Literal

from cache.content import Digest
from cache.errors import DigestInvalid
from registryd.images.transports import ImageLocation
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference, check_registry
from registryd.secrets import Login, Secret
from registryd.sync.plan import Door, ImageStep, Plan, RepositoryStep, Step
from registryd.sync.regsync_file import registry_of
from registryd.sync.tag_choice import NameRule, TagRule
from registryd.sync.versions import VersionRange
from registryd.sync.whole import Extras
from registryd.sync.words import hidden, plain, regular, truth, versions
from registryd.tables import (
    KeyWrong,
    Kind,
    key_step,
    list_of,
    read_table,
    stepping,
    table,
    table_of,
)

Destination = Literal["docker", "dir", "oci"]
#: Images and repositories of one file.
STEPS_LIMIT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Target:
    """Where everything goes: ``place`` is a registry with a prefix, or a folder.

    ``suffix`` is put at the end of every tag.
    """

    kind: Destination
    place: str
    scoped: bool = False
    suffix: str = ""

    def repository(self, source: Reference) -> ImageLocation:
        """Where the tags of a repository go."""
        name = source.repository.rpartition("/")[2]
        if self.scoped:
            name = f"{source.registry}/{source.repository}"
            name = name if self.kind != "docker" else _as_repository(name)
        place = self.place.rstrip("/")
        if self.kind == "docker":
            target = ImageLocation.parse(f"{place.removeprefix('docker://')}/{name}")
            return replace(target, reference=target.reference and target.reference.bare())
        if self.kind == "oci":
            return ImageLocation("oci", Path(place), name)
        return ImageLocation("dir", Path(place) / name)


def _as_repository(name: str) -> str:
    """A host as a part of a repository's name, which has no colon."""
    return name.replace(":", "-", 1) if ":" in name else name


def _tags(raw: object) -> tuple[str, ...]:
    return () if raw is None else _LIST(raw)


_LIST: Kind[tuple[str, ...]] = list_of(plain, "tags")


@dataclass(frozen=True, slots=True)
class _Credentials:
    username: Annotated[str, plain] = ""
    password: Annotated[str, hidden] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Host:
    """What is wanted of one registry."""

    images: Annotated[Mapping[str, tuple[str, ...]], table_of(str, _tags)] = field(
        default_factory=dict
    )
    patterns: Annotated[Mapping[str, str], table_of(str, regular), "images-by-tag-regex"] = field(
        default_factory=dict
    )
    ranges: Annotated[Mapping[str, VersionRange], table_of(str, versions), "images-by-semver"] = (
        field(default_factory=dict)
    )
    credentials: Annotated[_Credentials | None, table(_Credentials)] = None
    tls_verify: Annotated[bool | None, truth, "tls-verify"] = None
    cert_dir: Annotated[str, plain, "cert-dir"] = ""


def read_skopeo(raw: Mapping[str, object], target: Target, extras: Extras) -> Plan:
    """The plan in a file of skopeo's. Raises KeyWrong."""
    steps: list[Step] = []
    doors: dict[str, Door] = {}
    notes: list[str] = []
    for host, value in raw.items():
        with stepping(key_step(host)):
            registry = registry_of(host)
            check_registry(registry)
            read = read_table(_Host, value if value is not None else {})
            steps += _steps(registry, read, target, extras)
            doors[registry] = _door(read)
            if read.credentials is not None and read.credentials.password:
                notes.append(
                    f"{host}.credentials: the password is in this file, for all to see who read it:"
                    " registryctl login keeps it apart"
                )
    if not steps:
        raise KeyWrong("there is nothing to copy (no registry has images)")
    if len(steps) > STEPS_LIMIT:
        raise KeyWrong(f"{len(steps)} images are too many ({STEPS_LIMIT} at most)")
    return Plan(tuple(steps), doors, notes=tuple(notes))


def _steps(registry: str, read: _Host, target: Target, extras: Extras) -> Iterator[Step]:
    for name, tags in read.images.items():
        with stepping(f".images{key_step(name)}"):
            if not tags:
                yield repository_step(_named(registry, name), target, extras)
            for tag in tags:
                yield image_step(_exact(_named(registry, name), tag), target, extras)
    for name, pattern in read.patterns.items():
        with stepping(f".images-by-tag-regex{key_step(name)}"):
            # skopeo looks for the pattern anywhere in the tag.
            rule = TagRule(NameRule((f".*(?:{pattern}).*",)))
            yield repository_step(_named(registry, name), target, extras, rule)
    for name, range_ in read.ranges.items():
        with stepping(f".images-by-semver{key_step(name)}"):
            rule = TagRule(versions=(range_,))
            yield repository_step(_named(registry, name), target, extras, rule)


def repository_step(
    source: Reference, target: Target, extras: Extras, *rules: TagRule
) -> RepositoryStep:
    """All tags of a repository, or those that a rule chooses."""
    place = ImageLocation("registry", reference=source)
    return RepositoryStep(place, target.repository(source), extras, rules, target.suffix)


def image_step(source: Reference, target: Target, extras: Extras) -> ImageStep:
    """One image by its tag or digest."""
    place = ImageLocation("registry", reference=source)
    step = RepositoryStep(place, target.repository(source), extras, (), target.suffix)
    return step.exact(source)


def _named(registry: str, name: str) -> Reference:
    reference = Reference.parse(f"{registry}/{name}", default_tag=None)
    if reference.target:
        raise UsageError(f"{name} has a tag or digest: it is a repository's name here")
    return reference


def _exact(repository: Reference, tag: str) -> Reference:
    if ":" not in tag:
        return repository.with_tag(tag)
    try:
        return repository.with_digest(Digest.parse(tag))
    except DigestInvalid as error:
        raise UsageError(str(error)) from None


def _door(read: _Host) -> Door:
    login = None
    if read.credentials is not None and read.credentials.username:
        secret = Secret(read.credentials.password)
        login = Login(read.credentials.username, secret, origin="credentials")
    return Door(
        login,
        tls_verify=read.tls_verify,
        cert_dir=Path(read.cert_dir) if read.cert_dir else None,
    )
