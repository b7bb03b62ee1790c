"""The paths below ``/v2/``: read into values, and written from them.

Distribution specification 1.1, "Endpoints". Paths are taken and given decoded.

Invariants:
- ``parse(route.path()) == route`` for every route that can be made;
- a path is read from its end, so a repository may have components that are called ``manifests``,
  ``blobs`` or ``tags``;
- a repository in a route may begin with a registry's name (``docker.io/library/alpine``): which
  registry is meant is what ``locate`` says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cache.content import Digest
from registryd.oci.errors import (
    ManifestUnknown,
    NameUnknown,
    ReferenceInvalid,
    Unsupported,
    UploadUnknown,
)
from registryd.oci.reference import (
    Reference,
    check_registry,
    check_repository,
    check_tag,
    names_registry,
    normalised,
)

PREFIX: Final = "/v2/"
#: Paths whose meaning is remembered, for images are asked for again and again. Only what is well
#: formed is kept, which is short: a few hundred bytes each.
KEPT_PATHS: Final = 2048

_SESSION = re.compile(r"[A-Za-z0-9_-]{1,200}")


@dataclass(frozen=True, slots=True)
class Ping:
    """Whether there is a registry that speaks version 2."""

    def path(self) -> str:
        """This route's path."""
        return PREFIX


@dataclass(frozen=True, slots=True)
class Catalog:
    """The list of repositories."""

    def path(self) -> str:
        """This route's path."""
        return f"{PREFIX}_catalog"


@dataclass(frozen=True, slots=True)
class ManifestRoute:
    """A manifest by tag or digest. Raises ReferenceInvalid or DigestInvalid."""

    repository: str
    target: str

    def __post_init__(self) -> None:
        _check_name(self.repository)
        if self.digest is None:
            check_tag(self.target)

    @property
    def digest(self) -> Digest | None:
        """The target where it is a digest, else None."""
        return Digest.parse(self.target) if ":" in self.target else None

    def path(self) -> str:
        """This route's path."""
        return f"{PREFIX}{self.repository}/manifests/{self.target}"


@dataclass(frozen=True, slots=True)
class BlobRoute:
    """A blob. Raises ReferenceInvalid."""

    repository: str
    digest: Digest

    def __post_init__(self) -> None:
        _check_name(self.repository)

    def path(self) -> str:
        """This route's path."""
        return f"{PREFIX}{self.repository}/blobs/{self.digest}"


@dataclass(frozen=True, slots=True)
class TagsRoute:
    """The tags of a repository. Raises ReferenceInvalid."""

    repository: str

    def __post_init__(self) -> None:
        _check_name(self.repository)

    def path(self) -> str:
        """This route's path."""
        return f"{PREFIX}{self.repository}/tags/list"


@dataclass(frozen=True, slots=True)
class UploadsRoute:
    """Where uploads to a repository begin. Raises ReferenceInvalid."""

    repository: str

    def __post_init__(self) -> None:
        _check_name(self.repository)

    def path(self) -> str:
        """This route's path."""
        return f"{PREFIX}{self.repository}/blobs/uploads/"


@dataclass(frozen=True, slots=True)
class UploadRoute:
    """One upload session of our own. Raises ReferenceInvalid or UploadUnknown."""

    repository: str
    session: str

    def __post_init__(self) -> None:
        _check_name(self.repository)
        if not _SESSION.fullmatch(self.session):
            raise UploadUnknown(f"there is no upload {self.session[:140]!r}", status=404)

    def path(self) -> str:
        """This route's path."""
        return f"{PREFIX}{self.repository}/blobs/uploads/{self.session}"


@dataclass(frozen=True, slots=True)
class ReferrersRoute:
    """What refers to a manifest. Raises ReferenceInvalid."""

    repository: str
    digest: Digest

    def __post_init__(self) -> None:
        _check_name(self.repository)

    def path(self) -> str:
        """This route's path."""
        return f"{PREFIX}{self.repository}/referrers/{self.digest}"


Route = (
    Ping
    | Catalog
    | ManifestRoute
    | BlobRoute
    | TagsRoute
    | UploadsRoute
    | UploadRoute
    | ReferrersRoute
)


@lru_cache(KEPT_PATHS)
def parse(path: str) -> Route:
    """What a path asks for.

    Raises NameUnknown when it is no path of a registry, Unsupported for extensions and other
    versions, ReferenceInvalid for a malformed repository, DigestInvalid, UploadUnknown, and
    ManifestUnknown for a tag that cannot exist.
    """
    if path in ("/v2", PREFIX):
        return Ping()
    if not path.startswith(PREFIX):
        raise NameUnknown(f"{path[:140]!r} is not a path of a registry", status=404)
    parts = path.removeprefix(PREFIX).split("/")
    if parts == ["_catalog"]:
        return Catalog()
    if parts[0].startswith("_"):
        raise Unsupported(f"{path[:140]!r} is an extension that is not offered", status=404)
    route = _ends_in_name(parts) or _ends_in_value(parts)
    if route is None:
        raise NameUnknown(f"{path[:140]!r} is not a path of a registry", status=404)
    return route


def locate(repository: str, ns: str | None, default_registry: str) -> tuple[str, str]:
    """Which registry a route's repository is in, and its name there, both in normal form.

    In this order: ``ns`` (the query parameter that names the upstream; that name is then taken
    off the repository's front, if it is there too); a first component that names a registry; the
    default. Raises ReferenceInvalid.
    """
    first, slash, rest = repository.partition("/")
    registry = default_registry
    if ns:
        registry = ns
        if slash and normalised(first, rest)[0] == normalised(ns, rest)[0]:
            repository = rest
    elif slash and _is_host(first):
        registry, repository = first, rest
    located = Reference(registry, repository)
    return located.registry, located.repository


@lru_cache(KEPT_PATHS)
def refer(repository: str, target: str, ns: str | None, default_registry: str) -> Reference:
    """The reference that a route's repository and target (or "") mean, as ``locate`` says.

    Raises ReferenceInvalid or DigestInvalid.
    """
    registry, name = locate(repository, ns, default_registry)
    return Reference.of(registry, name, target) if target else Reference(registry, name)


def _ends_in_name(parts: list[str]) -> Route | None:
    """Routes whose last components are fixed words."""
    if parts[-2:] == ["tags", "list"]:
        return TagsRoute("/".join(parts[:-2]))
    # The trailing slash belongs to the path; clients that leave it out are understood.
    if parts[-2:] == ["blobs", "uploads"]:
        return UploadsRoute("/".join(parts[:-2]))
    if parts[-3:] == ["blobs", "uploads", ""]:
        return UploadsRoute("/".join(parts[:-3]))
    return None


def _ends_in_value(parts: list[str]) -> Route | None:
    """Routes whose last component is a tag, a digest or a session."""
    if len(parts) < 2:
        return None
    *name, kind, value = parts
    repository = "/".join(name)
    match kind:
        case "manifests":
            return _manifest_route(repository, value)
        case "blobs":
            return BlobRoute(repository, Digest.parse(value))
        case "referrers":
            return ReferrersRoute(repository, Digest.parse(value))
        case "uploads" if name[-1:] == ["blobs"]:
            return UploadRoute("/".join(name[:-1]), value)
        case _:
            return None


def _manifest_route(repository: str, target: str) -> ManifestRoute:
    _check_name(repository)
    try:
        return ManifestRoute(repository, target)
    except ReferenceInvalid as error:
        raise ManifestUnknown(f"{repository}: {error}", status=404) from None


def _is_host(component: str) -> bool:
    """Whether a path's first component is a registry: it has a dot or a colon, or is localhost.

    Upper-case letters alone do not make one here as they do in a reference: what was sent on a
    path must not be dialled for a slip of the shift key.
    """
    return names_registry(component.lower())


def _check_name(repository: str) -> None:
    """Raise ReferenceInvalid unless this is a repository, with or without a registry in front."""
    first, slash, rest = repository.partition("/")
    if slash and _is_host(first):
        try:
            check_registry(first)
        except ReferenceInvalid:
            rest = repository
        check_repository(rest)
    else:
        check_repository(repository)
