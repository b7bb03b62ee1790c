"""The ``[registries."HOST"]`` sections: how a registry is reached, and as whom.

Invariants:
- no secret is a value here: passwords are in files of their own;
- a registry has one name, that of references, however else it is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated
from urllib.parse import urlsplit

from cache.content import Digest
from cache.errors import DigestInvalid
from registryd.cluster_config import FASTEST
from registryd.oci.errors import ConfigInvalid, ReferenceInvalid
from registryd.oci.reference import check_repository, check_tag
from registryd.tables import (
    absolute_or_none,
    duration,
    flag,
    one_of,
    rate,
    shown,
    table_of,
    text,
    whole,
)

DAY = 86400.0
LARGEST_PORT = 65535

#: Names under which one registry is known elsewhere, and its name in references.
OTHER_NAMES = {"index.docker.io": "docker.io", "registry-1.docker.io": "docker.io"}

_LABEL = r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?"
_PORT = r"(?::(?P<port>[0-9]{1,5}))?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\]){_PORT}")
_TAG_PATTERN = re.compile(r"[a-z0-9*][a-z0-9*._/-]*(?::[A-Za-z0-9*_][A-Za-z0-9*._-]{0,127})?")


def registry_name(name: str) -> str:
    """The name of a registry as references have it: ``ghcr.io``. Raises ConfigInvalid."""
    lower = name.lower()
    match = _REGISTRY.fullmatch(lower)
    if match is None or int(match["port"] or 0) > LARGEST_PORT:
        raise ConfigInvalid(f"{shown(name)} is not a registry (write HOST or HOST:PORT)")
    final = OTHER_NAMES.get(lower, lower)
    if final != name:
        raise ConfigInvalid(f'{shown(name)} is not how images are named (write "{final}")')
    return final


def _pinned(digest: str) -> str:
    """A digest in its text form."""
    try:
        return str(Digest.parse(digest))
    except DigestInvalid as error:
        form = 'write "sha256:" and 64 hex digits'
        raise ConfigInvalid(f"{shown(digest)} is not a digest ({form})") from error


def _tag_pattern(words: str) -> str:
    """``REPOSITORY:TAG``, both with ``*`` for any text; no ``:`` means any tag."""
    if not _TAG_PATTERN.fullmatch(words):
        form = 'write "REPOSITORY:TAG" without the registry, "*" for any text'
        raise ConfigInvalid(f"{shown(words)} is not a pattern of tags ({form})")
    return words


def _tag_name(words: str) -> str:
    """``REPOSITORY:TAG`` of one registry."""
    repository, _, tag = words.partition(":")
    try:
        check_repository(repository)
        check_tag(tag)
    except ReferenceInvalid as error:
        form = 'write "REPOSITORY:TAG" without the registry'
        raise ConfigInvalid(f"{shown(words)} does not name one tag ({form})") from error
    return words


def _endpoint(url: str) -> str:
    """An URL without user, query and fragment; the empty text means https:// and the name."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        raise ConfigInvalid('is not an URL (write "https://HOST[:PORT][/PREFIX]")') from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        plain = f"https://{host or 'HOST'}" + (f":{port}" if port else "") + parts.path
        raise ConfigInvalid(f"holds a user, a query or a fragment (write {shown(plain)})")
    whole_host = scheme in ("http", "https") and bool(host)
    socket = scheme == "unix" and not parts.netloc and parts.path.startswith("/")
    if url and not whole_host and not socket:
        forms = '"https://HOST[:PORT][/PREFIX]", "http://..." or "unix:///PATH"'
        raise ConfigInvalid(f"{shown(url)} is not an endpoint (write {forms})")
    return url


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """How one registry is reached, and as whom. Raises ConfigInvalid for a contradiction."""

    endpoint: Annotated[str, text(_endpoint)] = ""
    plain_http: Annotated[bool, flag] = False
    tls_verify: Annotated[bool, flag] = True
    ca_file: Annotated[Path | None, absolute_or_none] = None
    client_cert: Annotated[Path | None, absolute_or_none] = None
    client_key: Annotated[Path | None, absolute_or_none] = None
    username: Annotated[str, text()] = ""
    password_file: Annotated[Path | None, absolute_or_none] = None
    share_login: Annotated[bool, flag] = False
    tag_ttl: Annotated[float, duration(0, 365 * DAY)] = 300.0
    missing_tags: Annotated[str, one_of("refuse", "serve")] = "refuse"
    offline: Annotated[bool, flag] = False
    tags: Annotated[Mapping[str, float], table_of(_tag_pattern, duration(0, 365 * DAY))] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    pins: Annotated[Mapping[str, str], table_of(_tag_name, text(_pinned))] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    max_connections: Annotated[int, whole(1, 1024)] = 16
    rate: Annotated[int, rate(0, FASTEST)] = 0

    def __post_init__(self) -> None:
        if (self.client_cert is None) != (self.client_key is None):
            raise ConfigInvalid("client_cert and client_key belong together: set both or neither")
        if bool(self.username) != (self.password_file is not None):
            raise ConfigInvalid("username and password_file belong together: set both or neither")
        if self.plain_http and self.endpoint.startswith("https:"):
            raise ConfigInvalid(
                "plain_http contradicts the endpoint's https: (write http: or leave plain_http out)"
            )
