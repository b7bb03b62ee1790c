"""The ``[cluster]`` section: who the other nodes are, and how this one meets them.

Invariants:
- members are told by a list (``peers``) or by NATS (``nats``), never by both;
- who meets others shows who it is: without an identity there is no cluster;
- no secret is a value here (keys and credentials are in files of their own).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated
from urllib.parse import urlsplit

from registryd.hostlist import expand, split_port
from registryd.oci.errors import ConfigInvalid, UsageError
from registryd.tables import absolute_or_none, list_of, rate, shown, table_of, text

#: Where nodes meet unless their configuration says otherwise.
PORT = 5051
#: Bytes a second that no link of today has: a limit beyond it is a slip of the pen.
FASTEST = 1 << 40


def _meeting(address: str) -> str:
    """HOST:PORT to listen on, HOST an IP address."""
    host, port = _split(address)
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        raise ConfigInvalid(f'{shown(address)} is not an address (write "0.0.0.0:5051")') from None
    if port is None:
        raise ConfigInvalid(f'{shown(address)} has no port (write "{address}:{PORT}")')
    return address


def _dialled(address: str) -> str:
    """HOST[:PORT] as others dial it, or nothing."""
    if address:
        _split(address)
    return address.lower()


def _split(address: str) -> tuple[str, int | None]:
    try:
        return split_port(address)
    except UsageError as error:
        raise ConfigInvalid(str(error)) from error


def _host_list(words: str) -> str:
    try:
        expand(words)
    except UsageError as error:
        raise ConfigInvalid(str(error)) from error
    return words


def _server(url: str) -> str:
    """``nats://HOST[:PORT]`` or ``tls://HOST[:PORT]``, without user and password."""
    try:
        parts = urlsplit(url)
        scheme, host, _ = parts.scheme, parts.hostname, parts.port
    except ValueError:
        parts, scheme, host = urlsplit(""), "", None
    if scheme not in ("nats", "tls") or not host or parts.path or parts.query or parts.fragment:
        raise ConfigInvalid(
            'is not a server of NATS (write "nats://HOST:4222" or "tls://HOST:4222")'
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigInvalid("holds a user or a password (put them into nats_credentials)")
    return url


def _zone(name: str) -> str:
    if not name.isprintable() or len(name) > 63:
        raise ConfigInvalid(f"{shown(name)} is not a name for a zone (63 characters at most)")
    return name


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """The other nodes. Raises ConfigInvalid for a contradiction."""

    listen: Annotated[str, text(_meeting)] = f"0.0.0.0:{PORT}"
    address: Annotated[str, text(_dialled)] = ""
    ca_file: Annotated[Path | None, absolute_or_none] = None
    cert: Annotated[Path | None, absolute_or_none] = None
    key: Annotated[Path | None, absolute_or_none] = None
    peers: Annotated[tuple[str, ...], list_of(text(_host_list), "host lists")] = ()
    nats: Annotated[tuple[str, ...], list_of(text(_server), "servers")] = ()
    nats_credentials: Annotated[Path | None, absolute_or_none] = None
    nats_ca_file: Annotated[Path | None, absolute_or_none] = None
    nats_cert: Annotated[Path | None, absolute_or_none] = None
    nats_key: Annotated[Path | None, absolute_or_none] = None
    zone: Annotated[str, text(_zone)] = ""
    zones: Annotated[Mapping[str, str], table_of(_zone, text(_host_list))] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    up: Annotated[int, rate(0, FASTEST)] = 0
    down: Annotated[int, rate(0, FASTEST)] = 0

    def __post_init__(self) -> None:
        if self.peers and self.nats:
            raise ConfigInvalid("peers and nats contradict each other: members are told by one")
        if self.on and not (self.ca_file and self.cert and self.key):
            raise ConfigInvalid(
                "nodes know one another by certificates: set ca_file, cert and key"
                " (registryctl cluster init makes them)"
            )
        if (self.nats_cert is None) != (self.nats_key is None):
            raise ConfigInvalid("nats_cert and nats_key belong together: set both or neither")

    @property
    def on(self) -> bool:
        """Whether there is a cluster."""
        return bool(self.peers or self.nats)
