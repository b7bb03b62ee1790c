"""The configuration: one frozen dataclass a section, read from one TOML file.

Invariants:
- values only: nothing here reads the environment, the user's home or another file;
- what ``load`` gives obeys every bound below; what is made in code obeys the rules between fields;
- whatever is wrong with the file is one ConfigInvalid of one line: file, key's path, what is
  wrong, what is allowed. No secret is a value here (passwords are in files of their own).
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from registryd.cache_config import CacheConfig
from registryd.cluster_config import FASTEST, ClusterConfig
from registryd.convert_config import ConvertConfig
from registryd.gateway_config import GatewayConfig
from registryd.oci.errors import ConfigInvalid
from registryd.places import Places, system_places, user_places
from registryd.registry_config import (
    DAY,
    ENVIRONMENT,
    LARGEST_PORT,
    MirrorConfig,
    RegistryConfig,
    common_proxy,
    registry_name,
)
from registryd.run_config import RunConfig
from registryd.signature_config import SignatureConfig, name_prefix
from registryd.tables import (
    KeyWrong,
    absolute,
    absolute_or_none,
    duration,
    flag,
    list_of,
    mode,
    one_of,
    rate,
    read_table,
    shown,
    size,
    table,
    table_of,
    text,
    whole,
)
from registryd.units import parse_duration, parse_size

__all__ = [
    "AccessConfig",
    "CacheConfig",
    "ClusterConfig",
    "Config",
    "ConvertConfig",
    "DaemonConfig",
    "GatewayConfig",
    "HostsConfig",
    "Listen",
    "MirrorConfig",
    "Places",
    "RegistryConfig",
    "RunConfig",
    "SignatureConfig",
    "TransferConfig",
    "default_config",
    "load",
    "parse_duration",
    "parse_size",
    "system_places",
    "user_places",
]

KIB, MIB, GIB = 2**10, 2**20, 2**30
MINUTE, HOUR = 60.0, 3600.0

_ADDRESS = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")


def _pattern(words: str) -> str:
    """A registry, ``*`` for all, or ``*.example.com`` for all below a domain."""
    if words != "*":
        registry_name(words.removeprefix("*."))
    return words


def _address(address: str) -> str:
    """HOST:PORT, where HOST is an IP address or ``localhost``."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > LARGEST_PORT:
        raise ConfigInvalid(f'{shown(address)} is not an address (write "127.0.0.1:5050")')
    host = match["six"] or match["host"]
    if host != "localhost" and _ip(host) is None:
        allowed = "write 127.0.0.1, [::1] or localhost"
        raise ConfigInvalid(f"{shown(address)} is not an address of this machine ({allowed})")
    return address


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Listen:
    """One TCP address to answer on, and the registry that a path without a host means there.

    With ``tls_cert`` it speaks TLS; with ``client_ca`` it answers only who shows a certificate of
    that authority. Raises ConfigInvalid for an address that strangers could reach.
    """

    address: Annotated[str, text(_address)]
    default_registry: Annotated[str, text(registry_name)] = "docker.io"
    tls_cert: Annotated[Path | None, absolute_or_none] = None
    tls_key: Annotated[Path | None, absolute_or_none] = None
    client_ca: Annotated[Path | None, absolute_or_none] = None

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigInvalid("tls_cert and tls_key belong together: set both or neither")
        if self.client_ca is not None and self.tls_cert is None:
            raise ConfigInvalid("client_ca needs tls_cert and tls_key")
        if not self.loopback and self.client_ca is None:
            raise ConfigInvalid(
                f"{shown(self.address)} is not an address of this machine alone (use 127.0.0.1,"
                " [::1] or localhost, or set tls_cert, tls_key and client_ca)"
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        host = self.address.rpartition(":")[0].strip("[]")
        address = _ip(host)
        return host == "localhost" if address is None else address.is_loopback


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """How the daemon is reached, and how it talks and ends."""

    socket: Annotated[Path | None, absolute_or_none] = None
    socket_mode: Annotated[int, mode] = 0o666
    listen: Annotated[tuple[Listen, ...], list_of(table(Listen), "tables")] = (
        Listen("127.0.0.1:5050"),
    )
    log_level: Annotated[str, one_of("debug", "info", "warning", "error")] = "info"
    drain_timeout: Annotated[float, duration(0, HOUR)] = 30.0
    ui: Annotated[bool, flag] = True


@dataclass(frozen=True, slots=True)
class TransferConfig:
    """How much at once, and how long to wait."""

    jobs: Annotated[int, whole(1, 256)] = 6
    ranges: Annotated[int, whole(1, 64)] = 8
    range_size: Annotated[int, size(64 * KIB, 4 * GIB)] = 32 * MIB
    connect_timeout: Annotated[float, duration(0.1, HOUR)] = 10.0
    stall_timeout: Annotated[float, duration(0.1, HOUR)] = 30.0
    low_speed: Annotated[int, rate(0, FASTEST)] = KIB
    low_speed_time: Annotated[float, duration(1, HOUR)] = 30.0
    attempts: Annotated[int, whole(1, 100)] = 5
    proxy: Annotated[str, common_proxy] = ENVIRONMENT
    no_proxy: Annotated[tuple[str, ...], list_of(text(), "hosts")] = ()


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """Which registries may be dialled, and with whose credentials."""

    allow: Annotated[tuple[str, ...], list_of(text(_pattern), "registries")] = ("*",)
    authfiles: Annotated[tuple[Path, ...], list_of(absolute, "paths")] = ()
    grant_ttl: Annotated[float, duration(0, 365 * DAY)] = 3600.0


@dataclass(frozen=True, slots=True)
class HostsConfig:
    """Which files of other programs say how registries are reached."""

    system_files: Annotated[bool, flag] = True
    registries_conf: Annotated[tuple[Path, ...], list_of(absolute, "paths")] = ()
    certs_d: Annotated[tuple[Path, ...], list_of(absolute, "paths")] = ()
    hosts_d: Annotated[tuple[Path, ...], list_of(absolute, "paths")] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a file can set."""

    daemon: Annotated[DaemonConfig, table(DaemonConfig)] = DaemonConfig()
    cache: Annotated[CacheConfig, table(CacheConfig)]
    registries: Annotated[
        Mapping[str, RegistryConfig], table_of(registry_name, table(RegistryConfig))
    ] = field(default_factory=dict)
    transfer: Annotated[TransferConfig, table(TransferConfig)] = TransferConfig()
    access: Annotated[AccessConfig, table(AccessConfig)] = AccessConfig()
    hosts: Annotated[HostsConfig, table(HostsConfig)] = HostsConfig()
    run: Annotated[RunConfig, table(RunConfig)] = RunConfig()  # noqa: RUF009 - frozen
    cluster: Annotated[ClusterConfig, table(ClusterConfig)] = ClusterConfig()  # noqa: RUF009 - frozen
    convert: Annotated[ConvertConfig, table(ConvertConfig)] = ConvertConfig()  # noqa: RUF009 - frozen
    gateway: Annotated[GatewayConfig, table(GatewayConfig)] = GatewayConfig()  # noqa: RUF009 - frozen
    signatures: Annotated[
        Mapping[str, SignatureConfig], table_of(name_prefix, table(SignatureConfig))
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "registries", MappingProxyType(dict(self.registries)))
        object.__setattr__(self, "signatures", MappingProxyType(dict(self.signatures)))


def default_config(defaults: Places) -> Config:
    """The configuration of an empty file."""
    return read_table(Config, _placed({}, defaults))


def load(path: Path, defaults: Places | None = None) -> Config:
    """The configuration in this file; ``defaults`` are the machine's places unless given.

    Raises ConfigInvalid.
    """
    try:
        raw = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigInvalid(f"{path}: is not TOML: {error}") from error
    try:
        return read_table(Config, _placed(raw, defaults or system_places()))
    except KeyWrong as error:
        raise ConfigInvalid(f"{path}: {error}") from error


def _placed(raw: dict[str, Any], places: Places) -> dict[str, Any]:
    """What the file says, and the default places where it says nothing."""
    for section, key, place in (
        ("cache", "root", places.root),
        ("daemon", "socket", places.socket),
    ):
        chosen = raw.setdefault(section, {})
        if isinstance(chosen, dict):
            chosen.setdefault(key, str(place))
    return raw
