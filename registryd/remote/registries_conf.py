"""``registries.conf`` (version 2) of podman, skopeo, buildah and CRI-O, as values.

Read as containers-registries.conf(5) says. Invariants:
- the table with the longest prefix counts, alone; of two with the same, that of the later file;
- mirrors come in their order, and the registry itself last;
- keys that we do not know are another version's, and are left alone; what we know must be right.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

from registryd.oci.errors import ConfigInvalid
from registryd.remote.course import ALL, Course, Place, serving
from registryd.remote.hosts import API_HOSTS
from registryd.remote.tls import TlsSetting
from registryd.tables import KeyWrong, Kind, flag, list_of, one_of, read_table, shown, text

#: The form before version 2, which may not stand beside it.
OLD = "registries"
UNSAFE = TlsSetting(verify=False)


def _location(words: str) -> str:
    """``HOST[:PORT][/PATH]``."""
    plain = words.rstrip("/")
    host = plain.partition("/")[0]
    if "://" in plain or (words and not host) or any(c.isspace() or c in "@?#*" for c in plain):
        raise ConfigInvalid(f"{shown(words)} is not a location (write HOST[:PORT][/PATH])")
    return plain


def _prefix(words: str) -> str:
    """A location, or ``*.`` and a domain."""
    if words.startswith("*.") and "/" not in words and len(words) > len("*."):
        return words
    return _location(words)


def _lenient(shape: type[Any]) -> Kind[Any]:
    """A table with the fields of a dataclass, dashes for underscores, and whatever else."""
    known = {each.name.replace("_", "-"): each.name for each in fields(shape)}

    def read(raw: object) -> Any:
        if isinstance(raw, dict):
            raw = {known[key]: value for key, value in raw.items() if key in known}
        return read_table(shape, raw)

    return read


@dataclass(frozen=True, slots=True)
class Mirror:
    """One ``[[registry.mirror]]``. Raises ConfigInvalid."""

    location: Annotated[str, text(_location)] = ""
    insecure: Annotated[bool, flag] = False
    pull_from_mirror: Annotated[str, one_of("all", "digest-only", "tag-only", "")] = ""

    def __post_init__(self) -> None:
        if not self.location:
            raise ConfigInvalid("location is missing (write HOST[:PORT][/PATH])")


@dataclass(frozen=True, slots=True)
class Table:
    """One ``[[registry]]``. Raises ConfigInvalid."""

    prefix: Annotated[str, text(_prefix)] = ""
    location: Annotated[str, text(_location)] = ""
    insecure: Annotated[bool, flag] = False
    blocked: Annotated[bool, flag] = False
    mirror_by_digest_only: Annotated[bool, flag] = False
    mirror: Annotated[tuple[Mirror, ...], list_of(_lenient(Mirror), "tables")] = ()

    def __post_init__(self) -> None:
        if not self.prefix and not self.location:
            raise ConfigInvalid("prefix and location are both missing: set one of them")
        if self.mirror_by_digest_only and any(each.pull_from_mirror for each in self.mirror):
            raise ConfigInvalid(
                "mirror-by-digest-only and a mirror's pull-from-mirror exclude each other"
            )

    @property
    def key(self) -> str:
        """What the table is for: a location that names begin with, or ``*.`` and a domain."""
        return self.prefix or self.location

    def matches(self, registry: str, repository: str) -> bool:
        """Whether the table speaks of a repository."""
        if self.key.startswith("*."):
            return registry.partition(":")[0].endswith(self.key[1:])
        return f"{registry}/{repository}/".startswith(f"{self.key}/")


@dataclass(frozen=True, slots=True)
class _File:
    registry: Annotated[tuple[Table, ...], list_of(_lenient(Table), "tables")] = ()
    credential_helpers: Annotated[tuple[str, ...] | None, list_of(text(), "names")] = None


@dataclass(frozen=True, slots=True)
class RegistriesConf:
    """What all files together say; ``tables`` by their prefixes, each with the file it is from."""

    tables: Mapping[str, tuple[Table, str]] = field(default_factory=dict)
    credential_helpers: tuple[str, ...] = ()

    def course(self, registry: str, repository: str) -> Course | None:
        """How a repository is reached; None where no table speaks of it."""
        found = [each for each in self.tables.values() if each[0].matches(registry, repository)]
        if not found:
            return None
        table, file = max(found, key=lambda each: len(each[0].key))
        if table.blocked:
            return Course(blocked=f"{table.key} is blocked by {file}")
        strip = "" if table.key.startswith("*.") else table.key.partition("/")[2]
        mirrors = tuple(_mirror(each, strip, table) for each in table.mirror)
        return Course(mirrors, primary=_primary(table, registry, strip))


def parse(content: bytes, origin: str) -> RegistriesConf:
    """What one file says. Raises ConfigInvalid, which names it and the key."""
    try:
        raw = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{origin}: is not UTF-8 text (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigInvalid(f"{origin}: is not TOML: {error}") from error
    old = raw.get(OLD)
    new = raw.keys() - {OLD}
    if old is not None and new:
        raise ConfigInvalid(
            f"{origin}: {OLD}: the form before version 2 may not stand beside the new one "
            f"({min(new)}); write [[registry]] tables alone"
        )
    try:
        file = _lenient(_File)(_converted(old) if old is not None else raw)
    except KeyWrong as error:
        error.path = [step.replace("_", "-") for step in error.path]
        raise ConfigInvalid(f"{origin}: {error}") from error
    tables = {each.key: (each, origin) for each in file.registry}
    return RegistriesConf(tables, file.credential_helpers or ())


def merged(files: Iterable[RegistriesConf]) -> RegistriesConf:
    """All files in their order: a later table replaces the one with the same prefix."""
    tables: dict[str, tuple[Table, str]] = {}
    helpers: tuple[str, ...] = ()
    for each in files:
        tables |= each.tables
        helpers = each.credential_helpers or helpers
    return RegistriesConf(tables, helpers)


def _converted(old: object) -> dict[str, Any]:
    """The tables that the old form's lists of insecure and blocked registries mean."""
    if not isinstance(old, dict):
        raise KeyWrong(f"{OLD}: {shown(old)} is not a table")

    def listed(key: str) -> list[str]:
        entry = old.get(key)
        names = entry.get("registries") if isinstance(entry, dict) else None
        return [each for each in names or [] if isinstance(each, str) and each]

    insecure, blocked = listed("insecure"), listed("block")
    names = dict.fromkeys((*insecure, *blocked))
    return {
        "registry": [
            {"location": name, "insecure": name in insecure, "blocked": name in blocked}
            for name in names
        ]
    }


def _mirror(mirror: Mirror, strip: str, table: Table) -> Place:
    kind = mirror.pull_from_mirror.removesuffix("-only") or "all"
    kind = "digest" if table.mirror_by_digest_only else kind
    serves = serving(("pull", "resolve", "referrers"), kind)
    return replace(_at(mirror.location, insecure=mirror.insecure), serves=serves, strip=strip)


def _primary(table: Table, registry: str, strip: str) -> Place | None:
    """Where the registry itself is; None: where its name says, and as our configuration says."""
    location = table.location or (registry if table.key.startswith("*.") else table.key)
    moved = bool(table.prefix and table.location and table.location != table.prefix)
    if not moved and not table.insecure:
        return None
    if not moved:
        return replace(_at(registry, insecure=True), serves=ALL)
    return replace(_at(location, insecure=table.insecure), serves=ALL, strip=strip)


def _at(location: str, *, insecure: bool) -> Place:
    host, _, path = location.partition("/")
    tls = UNSAFE if insecure else TlsSetting()
    url = f"https://{API_HOSTS.get(host, host)}"
    return Place(url, prefix=path, tls=tls, lax=insecure)
