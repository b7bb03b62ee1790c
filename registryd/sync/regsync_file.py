"""Files of images in the words of regsync (version 1).

Invariants:
- an unknown key is one line with its path; so is a key that would do what is not done here;
- keys that only tune regsync itself are taken, and said to mean nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from registryd.images.transports import ImageLocation
from registryd.oci.errors import UsageError
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference, check_registry, normalised
from registryd.secrets import Login, Secret
from registryd.sync.plan import (
    Door,
    ImageStep,
    Plan,
    RegistryStep,
    RepositoryStep,
    Step,
)
from registryd.sync.rationed import Ration
from registryd.sync.tag_choice import NameRule, TagRule
from registryd.sync.versions import VersionRange
from registryd.sync.whole import Extras
from registryd.sync.words import (
    expanded,
    hidden,
    no_template,
    number,
    plain,
    platform,
    regular,
    sift,
    truth,
    versions,
    word,
)
from registryd.tables import (
    KeyWrong,
    Kind,
    key_step,
    list_of,
    one_of,
    read_table,
    shown,
    stepping,
    table,
)
from registryd.transfer.copy import Terms
from registryd.units import parse_duration

_LAYOUT: Final = "ocidir://"
#: Steps of one file.
STEPS_LIMIT: Final = 10_000
#: Seconds between two looks at an allowance that is running out.
SHORTEST_PAUSE: Final = 60.0

_LATER = "means nothing here: one run is one look (start it by a timer)"
_TUNING = "means nothing here"
_HOOKS = "hooks are not run here: do that around the command"
_SPLIT = "artifacts are looked for where the image is, and put where it is put"

_NOTED_DEFAULTS = {
    "interval": _LATER,
    "schedule": _LATER,
    "userAgent": _TUNING,
    "cacheCount": _TUNING,
    "cacheTime": _TUNING,
    "blobLimit": _TUNING,
    "referrerSlow": _TUNING,
}
_REFUSED = {
    "hooks": _HOOKS,
    "includeExternal": "layers that are kept elsewhere stay there",
    "referrerSource": _SPLIT,
    "referrerTarget": _SPLIT,
    "referrerSrc": _SPLIT,
    "referrerTgt": _SPLIT,
}
_NOTED_CREDS = dict.fromkeys(
    (
        "repoAuth",
        "blobChunk",
        "blobMax",
        "reqPerSec",
        "priority",
        "credExpire",
        "credHost",
        "api",
        "apiOpts",
    ),
    _TUNING,
)
_IN_CONFIG = 'is set in registryd\'s own configuration ([registries."HOST"])'
_REFUSED_CREDS = {
    "regcert": f"{_IN_CONFIG}: ca_file",
    "clientCert": f"{_IN_CONFIG}: client_cert",
    "clientKey": f"{_IN_CONFIG}: client_key",
    "mirrors": _IN_CONFIG,
    "pathPrefix": f"{_IN_CONFIG}: endpoint",
    "credHelper": "is set in docker's config.json: credHelpers",
    "token": "write user and passFile",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filter:
    artifact_type: Annotated[str, plain, "artifactType"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RateLimit:
    min: Annotated[int, number(0, 10**8)] = 0
    retry: Annotated[float, word(parse_duration)] = 900.0

    @property
    def ration(self) -> Ration | None:
        """What has to be left over. The pause is never so short that asking is all we do."""
        return Ration(self.min, max(self.retry, SHORTEST_PAUSE)) if self.min else None


_WORDS: Kind[tuple[str, ...]] = list_of(plain, "words")
_PATTERNS: Kind[tuple[str, ...]] = list_of(regular, "patterns")
_FILTERS: Kind[tuple[_Filter, ...]] = list_of(table(_Filter), "mappings")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tags:
    allow: Annotated[tuple[str, ...], _PATTERNS] = ()
    deny: Annotated[tuple[str, ...], _PATTERNS] = ()
    semver_range: Annotated[
        tuple[VersionRange, ...], list_of(versions, "ranges"), "semverRange"
    ] = ()

    @property
    def rule(self) -> TagRule:
        return TagRule(NameRule(self.allow, self.deny), self.semver_range)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repos:
    allow: Annotated[tuple[str, ...], _PATTERNS] = ()
    deny: Annotated[tuple[str, ...], _PATTERNS] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Defaults:
    """What holds for steps that do not say otherwise."""

    parallel: Annotated[int | None, number(0, 256)] = None
    backup: Annotated[str, plain] = ""
    skip_docker_config: Annotated[bool, truth, "skipDockerConfig"] = False
    digest_tags: Annotated[bool, truth, "digestTags"] = False
    referrers: Annotated[bool, truth] = False
    referrer_filters: Annotated[tuple[_Filter, ...], _FILTERS, "referrerFilters"] = ()
    fast_check: Annotated[bool, truth, "fastCheck"] = False
    force_recursive: Annotated[bool, truth, "forceRecursive"] = False
    media_types: Annotated[tuple[str, ...], _WORDS, "mediaTypes"] = ()
    ratelimit: Annotated[_RateLimit, table(_RateLimit)] = _RateLimit()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    source: Annotated[str, word(no_template)]
    target: Annotated[str, word(no_template)]
    type: Annotated[str, one_of("image", "repository", "registry")]
    tags: Annotated[_Tags | None, table(_Tags)] = None
    tag_sets: Annotated[tuple[_Tags, ...], list_of(table(_Tags), "mappings"), "tagSets"] = ()
    repos: Annotated[_Repos, table(_Repos)] = _Repos()
    platform: Annotated[Platform | None, platform] = None
    platforms: Annotated[tuple[Platform, ...], list_of(platform, "platforms")] = ()
    backup: Annotated[str | None, plain] = None
    digest_tags: Annotated[bool | None, truth, "digestTags"] = None
    referrers: Annotated[bool | None, truth] = None
    referrer_filters: Annotated[tuple[_Filter, ...] | None, _FILTERS, "referrerFilters"] = None
    fast_check: Annotated[bool | None, truth, "fastCheck"] = None
    force_recursive: Annotated[bool | None, truth, "forceRecursive"] = None
    media_types: Annotated[tuple[str, ...] | None, _WORDS, "mediaTypes"] = None
    ratelimit: Annotated[_RateLimit | None, table(_RateLimit)] = None

    def __post_init__(self) -> None:
        if self.platform is not None and self.platforms:
            raise UsageError("platform and platforms contradict each other: give one of the two")

    @property
    def rules(self) -> tuple[TagRule, ...]:
        """What chooses tags: one rule, or one of several."""
        sets = (*([self.tags] if self.tags is not None else []), *self.tag_sets)
        return tuple(each.rule for each in sets)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Creds:
    registry: Annotated[str, plain]
    user: Annotated[str, plain] = ""
    password: Annotated[str, hidden, "pass"] = ""
    password_file: Annotated[str, plain, "passFile"] = ""
    tls: Annotated[str, one_of("enabled", "insecure", "disabled", "")] = ""
    scheme: Annotated[str, one_of("http", "https", "")] = ""
    hostname: Annotated[str, plain] = ""
    connections: Annotated[int | None, number(0, 1024), "reqConcurrent"] = None

    def __post_init__(self) -> None:
        if self.password and self.password_file:
            raise UsageError("pass and passFile contradict each other: give one of the two")


@dataclass(frozen=True, slots=True)
class World:
    """What a file may use of the world: the environment, and files that hold a password."""

    environ: Mapping[str, str]
    password_in: Callable[[str], Secret]


def read_regsync(raw: Mapping[str, object], world: World) -> Plan:
    """The plan in a file of regsync's. Raises KeyWrong."""
    known = ("version", "creds", "defaults", "sync")
    for key in raw:
        if key not in known and not key.startswith("x-"):
            raise _at(key_step(key), f"unknown key (the keys here are {', '.join(known)})")
    if raw.get("version") not in (None, "1"):
        raise _at(".version", f"{shown(raw['version'])} is not known here (1 is)")
    notes: list[str] = []
    defaults = _defaults(raw.get("defaults"), notes)
    doors = _doors(raw.get("creds"), world, notes)
    steps = tuple(_steps(raw.get("sync"), defaults, notes))
    return Plan(
        steps,
        doors,
        jobs=defaults.parallel or None,
        files=not defaults.skip_docker_config,
        notes=tuple(dict.fromkeys(notes)),
    )


def _defaults(raw: object, notes: list[str]) -> _Defaults:
    with stepping(".defaults"):
        left, found = sift(raw or {}, "defaults", _NOTED_DEFAULTS, _REFUSED)
        notes += found
        return read_table(_Defaults, left)


def _steps(raw: object, defaults: _Defaults, notes: list[str]) -> Iterator[Step]:
    if not isinstance(raw, list) or not raw:
        raise _at(".sync", "is missing or no list: there is nothing to copy")
    if len(raw) > STEPS_LIMIT:
        raise _at(".sync", f"{len(raw)} steps are too many ({STEPS_LIMIT} at most)")
    for at, each in enumerate(raw):
        with stepping(f".sync[{at}]"):
            left, found = sift(each, f"sync[{at}]", _NOTED_DEFAULTS, _REFUSED)
            notes += found
            yield _step(read_table(_Step, left), defaults)


def _step(read: _Step, defaults: _Defaults) -> Step:
    extras = _extras(read, defaults)
    if read.type == "image":
        if read.rules:
            raise UsageError("tags choose among those of a repository: write type: repository")
        return ImageStep(location(read.source), location(read.target), extras)
    if read.type == "repository":
        source, target = bare(read.source), bare(read.target)
        return RepositoryStep(source, target, extras, read.rules)
    check_registry(registry_of(read.source))
    rule = NameRule(read.repos.allow, read.repos.deny)
    return RegistryStep(registry_of(read.source), read.target.rstrip("/"), extras, read.rules, rule)


def _extras(read: _Step, defaults: _Defaults) -> Extras:
    """What a step says, and the defaults where it says nothing."""

    def said(name: str) -> Any:
        own = getattr(read, name)
        return getattr(defaults, name) if own is None else own

    platforms = read.platforms or ((read.platform,) if read.platform is not None else ())
    return Extras(
        platforms,
        Terms(index="keep" if read.platforms else "usual", recheck=said("force_recursive")),
        referrers=said("referrers"),
        artifact_types=tuple(each.artifact_type for each in said("referrer_filters")),
        digest_tags=said("digest_tags"),
        media_types=frozenset(said("media_types")),
        backup=said("backup"),
        fast=said("fast_check"),
        ration=said("ratelimit").ration,
    )


def _doors(raw: object, world: World, notes: list[str]) -> dict[str, Door]:
    if raw is not None and not isinstance(raw, list):
        raise _at(".creds", "must be a list")
    found: dict[str, Door] = {}
    for at, each in enumerate(raw or []):
        where = f"creds[{at}]"
        with stepping(f".{where}"):
            left, told = sift(each, where, _NOTED_CREDS, _REFUSED_CREDS)
            notes += told
            read = read_table(_Creds, left)
            name = registry_of(expanded(read.registry, world.environ))
            check_registry(name)
            if name in found:
                raise UsageError(f"{name} is there twice")
            found[name] = _door(read, world)
            if read.password and "{{" not in read.password:
                notes.append(
                    f"{where}.pass: the password of {name} is in this file, for all to see who read"
                    " it: passFile, or registryctl login, keeps it apart"
                )
    return found


def _door(read: _Creds, world: World) -> Door:
    user = expanded(read.user, world.environ)
    password = Secret(expanded(read.password, world.environ))
    if read.password_file:
        password = world.password_in(expanded(read.password_file, world.environ))
    if password and not user:
        raise UsageError("a password needs a user")
    plain_http = read.tls == "disabled" or read.scheme == "http"
    scheme = "http" if plain_http else "https"
    return Door(
        Login(user, password, origin="creds") if user else None,
        tls_verify=False if read.tls == "insecure" else None,
        plain_http=True if plain_http else None,
        endpoint=f"{scheme}://{read.hostname}" if read.hostname else "",
        connections=read.connections or None,
    )


def location(text: str) -> ImageLocation:
    """A place in regsync's words. Raises UsageError, ReferenceInvalid."""
    if text.startswith(_LAYOUT):
        text = f"oci:{text.removeprefix(_LAYOUT)}"
    return ImageLocation.parse(text)


def bare(text: str) -> ImageLocation:
    """A repository, or a layout: a place without tag and digest. Raises UsageError."""
    place = location(text)
    reference = place.reference
    if reference is None:
        if place.tag:
            raise UsageError(f"{text} has a tag: a repository has none here")
        return place
    written = Reference.parse(text.removeprefix("cache:"), default_tag=None)
    if written.target:
        raise UsageError(f"{text} has a tag or digest: a repository has none here")
    return replace(place, reference=reference.bare())


def registry_of(text: str) -> str:
    """The registry as references name it."""
    host = text.removeprefix("docker://").removeprefix("https://").removeprefix("http://")
    return normalised(host.strip("/"), "any")[0]


def _at(step: str, words: str) -> KeyWrong:
    error = KeyWrong(words)
    error.path.append(step)
    return error
