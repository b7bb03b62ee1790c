"""``hosts.toml`` of containerd (and docker with its image store), as values.

Invariants:
- hosts come in the file's order, and the server (the registry itself, unless it says another) last;
- pushes go to a host only where the file says so in words: elsewhere they are the server's;
- keys that we do not know are another version's, and are left alone; what we know must be right.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from registryd.oci.errors import ConfigInvalid, UsageError
from registryd.oci.routes import PREFIX
from registryd.registry_config import CAPABILITIES
from registryd.remote.course import ALL, BLOB, HOME, Course, Place, serving
from registryd.remote.tls import TlsSetting
from registryd.tables import shown
from registryd.units import parse_duration

#: What a host is asked for that says nothing of it.
USUAL = ("pull", "resolve", "referrers")
API = PREFIX.strip("/")
#: Seconds to wait for a connection to a host that says nothing of it.
DIAL = 2.0


@dataclass(frozen=True, slots=True)
class HostsFile:
    """One file: the hosts before the server, and the server where the file says more of it."""

    hosts: tuple[Place, ...] = ()
    server: Place | None = None
    origin: str = field(default="", compare=False)

    def course(self, registry: str) -> Course:
        """How a registry is reached by this file."""
        mirrors = tuple(_told(each, registry) for each in self.hosts)
        server = None if self.server is None else _told(self.server, registry)
        return Course(mirrors, primary=server)


def _told(place: Place, registry: str) -> Place:
    """The place, told which registry is meant where it is not that registry itself."""
    return replace(place, namespace=place.name != registry)


def parse(content: bytes, origin: Path) -> HostsFile:
    """What a file says; relative paths are beside it. Raises ConfigInvalid."""
    try:
        raw = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{origin}: is not UTF-8 text (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigInvalid(f"{origin}: is not TOML: {error}") from error
    try:
        hosts = tuple(
            _place(url, entry, f'host."{url}"', origin.parent)
            for url, entry in _table(raw.get("host", {}), "host").items()
        )
        return HostsFile(hosts, _server(raw, origin.parent), str(origin))
    except UsageError as error:
        raise ConfigInvalid(f"{origin}: {error}") from error


def _server(raw: Mapping[str, Any], folder: Path) -> Place | None:
    url = _text(raw.get("server", ""), "server")
    if not url:
        return None
    entry = {key: value for key, value in raw.items() if key not in ("server", "host")}
    place = _place(url, entry, "", folder)
    may = place.serves | {HOME, BLOB, "push"} if "capabilities" in entry else ALL
    return replace(place, serves=may, connect_timeout=_dial(entry, "dial_timeout", 0.0))


def _place(url: str, raw: object, key: str, folder: Path) -> Place:
    entry = _table(raw, key)
    at = f"{key}." if key else ""
    base, api = _address(url, key or "server", own_path=_flag(entry, f"{at}override_path", False))
    given = entry.get("capabilities")
    words = USUAL if given is None else _capabilities(given, f"{at}capabilities")
    prefix = ""
    if api.startswith(f"/{API}/"):
        api, prefix = f"/{API}", api[len(f"/{API}/") :]
    return Place(
        url=base,
        serves=serving(tuple(words)),
        prefix=prefix,
        api=api,
        tls=TlsSetting(
            not _flag(entry, f"{at}skip_verify", False),
            tuple(folder / name for name in _texts(entry.get("ca", []), f"{at}ca")),
            _clients(entry.get("client", []), f"{at}client", folder),
        ),
        headers=_headers(_table(entry.get("header", {}), f"{at}header"), f"{at}header"),
        connect_timeout=_dial(entry, f"{at}dial_timeout", DIAL),
    )


def _address(url: str, key: str, *, own_path: bool) -> tuple[str, str]:
    """The base and the path of the API of a host's URL."""
    whole = url if "://" in url else f"https://{url}"
    try:
        parts = urlsplit(whole)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        good, parts = False, urlsplit("")
    if not good or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigInvalid(f'{key}: {shown(url)} is not a host (write "https://HOST[:PORT]")')
    base, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    if own_path:
        return base, path
    return f"{base}{path.removesuffix(f'/{API}')}", f"/{API}"


def _capabilities(raw: object, key: str) -> list[str]:
    words = _texts(raw, key)
    for word in words:
        if word not in CAPABILITIES:
            allowed = ", ".join(f'"{each}"' for each in CAPABILITIES)
            raise ConfigInvalid(f"{key}: {shown(word)} is not allowed (use one of {allowed})")
    return words


def _clients(raw: object, key: str, folder: Path) -> tuple[tuple[Path, Path], ...]:
    """One file with both, several such, or pairs of certificate and key."""
    entries = [raw] if isinstance(raw, str) else raw
    if not isinstance(entries, list):
        raise ConfigInvalid(f"{key}: {shown(raw)} is not a list of pairs of files")
    pairs = []
    for entry in entries:
        names = [entry, entry] if isinstance(entry, str) else entry
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise ConfigInvalid(f"{key}: {shown(entry)} is not a pair of files")
        if len(names) != len(("cert", "key")) and len(names) != 1:
            raise ConfigInvalid(f"{key}: {shown(entry)} is not a pair of files")
        pairs.append((folder / names[0], folder / (names[1:] or names)[0]))
    return tuple((cert, other if other.name else cert) for cert, other in pairs)


def _headers(raw: Mapping[str, Any], key: str) -> tuple[tuple[str, str], ...]:
    pairs = [(name, ", ".join(_texts(value, f"{key}.{name}"))) for name, value in raw.items()]
    for name, value in pairs:
        if not name.isascii() or not (name + value).isprintable() or not value.isascii():
            raise ConfigInvalid(f"{key}: a header must be one line of ASCII")
    return tuple(pairs)


def _dial(entry: Mapping[str, Any], key: str, usual: float) -> float:
    words = entry.get("dial_timeout")
    if words is None:
        return usual
    try:
        return max(0.05, parse_duration(_text(words, key)))
    except UsageError as error:
        raise ConfigInvalid(f"{key}: {error}") from error


def _table(raw: object, key: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ConfigInvalid(f"{key}: {shown(raw)} is not a table")
    return raw


def _flag(entry: Mapping[str, Any], key: str, usual: bool) -> bool:
    value = entry.get(key.rpartition(".")[2], usual)
    if not isinstance(value, bool):
        raise ConfigInvalid(f"{key}: {shown(value)} is not true or false")
    return value


def _text(raw: object, key: str) -> str:
    if not isinstance(raw, str):
        raise ConfigInvalid(f"{key}: {shown(raw)} is not a text in quotes")
    return raw


def _texts(raw: object, key: str) -> list[str]:
    """A text, or a list of them."""
    entries = [raw] if isinstance(raw, str) else raw
    if not isinstance(entries, list) or not all(isinstance(each, str) for each in entries):
        raise ConfigInvalid(f"{key}: {shown(raw)} is not a list of texts")
    return entries
