"""The ``[gateway]`` section: images imported for many users, and Shifter's own routes to them.

Invariants:
- Shifter's routes are off unless ``listen`` names where: who calls there is known by munge alone;
- no secret is a value here: munge's key is munged's own, passwords come with each request.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from registryd.oci.errors import ConfigInvalid
from registryd.registry_config import DAY, LARGEST_PORT, registry_name
from registryd.tables import (
    absolute,
    absolute_or_none,
    duration,
    flag,
    list_of,
    one_of,
    shown,
    text,
    whole,
)

#: Where Shifter's documentation has its gateway.
PORT = 5000
#: The word that stands for every user.
EVERYBODY = "all"

_ADDRESS = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_SYSTEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?")


def _address(address: str) -> str:
    """HOST:PORT to listen on, HOST an IP address; or nothing."""
    if not address:
        return address
    match = _ADDRESS.fullmatch(address)
    form = f'write "0.0.0.0:{PORT}"'
    if match is None or int(match["port"]) > LARGEST_PORT:
        raise ConfigInvalid(f"{shown(address)} is not an address with a port ({form})")
    try:
        ipaddress.ip_address(match["six"] or match["host"])
    except ValueError:
        raise ConfigInvalid(
            f"{shown(address)} is not an address of this machine ({form})"
        ) from None
    return address


def _system(name: str) -> str:
    if not _SYSTEM.fullmatch(name):
        raise ConfigInvalid(f"{shown(name)} is no name of a system (letters, digits, _ . -)")
    return name


def _user(name: str) -> str:
    if not _USER.fullmatch(name):
        raise ConfigInvalid(f"{shown(name)} is neither a user's name nor a number")
    return name


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """How images are imported for many users. Raises ConfigInvalid for a contradiction."""

    listen: Annotated[str, text(_address)] = ""
    munge_socket: Annotated[Path | None, absolute_or_none] = None
    anonymous: Annotated[bool, flag] = False
    system: Annotated[str, text(_system)] = "cluster"
    default_registry: Annotated[str, text(registry_name)] = "docker.io"
    admins: Annotated[tuple[str, ...], list_of(text(_user), "users")] = ()
    import_users: Annotated[tuple[str, ...], list_of(text(_user), "users")] = ()
    import_dirs: Annotated[tuple[Path, ...], list_of(absolute, "paths")] = ()
    workers: Annotated[int, whole(1, 64)] = 2
    compressor: Annotated[str, one_of("zstd", "gzip")] = "zstd"
    examiner: Annotated[Path | None, absolute_or_none] = None
    examiner_timeout: Annotated[float, duration(1, DAY)] = 600.0
    image_dir: Annotated[Path | None, absolute_or_none] = None
    update_timeout: Annotated[float, duration(0, DAY)] = 300.0
    expiration: Annotated[float, duration(60, 3650 * DAY)] = 90 * DAY

    def __post_init__(self) -> None:
        if self.import_dirs and not self.import_users:
            raise ConfigInvalid('import_dirs is for import_users: name them, or "all"')
        if self.anonymous and not self.listen:
            raise ConfigInvalid("anonymous speaks of listen, which is not set")
