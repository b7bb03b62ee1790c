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
    Kind,
    absolute_or_none,
    duration,
    flag,
    list_of,
    one_of,
    rate,
    shown,
    table,
    table_of,
    text,
    whole,
)

DAY = 86400.0
LARGEST_PORT = 65535
#: What a host may be asked for: content by digest, what a tag means, lists of referrers, pushes.
CAPABILITIES = ("pull", "resolve", "referrers", "push")
#: A proxy as the section above says, or as the environment does.
INHERITED = "inherit"
ENVIRONMENT = "environment"

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


def _mirror_url(url: str) -> str:
    """An endpoint, which a mirror must have."""
    if not url:
        raise ConfigInvalid('is empty (write "https://HOST[:PORT][/PREFIX]")')
    return _endpoint(url)


def proxy_url(url: str) -> str:
    """The URL of a proxy without a user, or the empty text for none. Raises ConfigInvalid."""
    if url in ("", INHERITED, ENVIRONMENT):
        return url
    try:
        parts = urlsplit(url)
        named, user = parts.hostname is not None, "@" in parts.netloc
        _ = parts.port
    except ValueError:
        named = user = False
    if user:
        raise ConfigInvalid(
            "holds a user or a password, which this file is no place for: set https_proxy in the "
            'environment, and write "environment"'
        )
    if not named or not url.startswith("http://"):
        raise ConfigInvalid(f'{shown(url)} is not a proxy (write "http://HOST:PORT", "" for none)')
    return url


def _proxy(word: str) -> Kind[str]:
    """A proxy, or the one word that is allowed besides."""

    def check(url: str) -> str:
        if url in (INHERITED, ENVIRONMENT) and url != word:
            raise ConfigInvalid(f'{shown(url)} is not allowed here (write "{word}" or a URL)')
        return proxy_url(url)

    return text(check)


own_proxy, common_proxy = _proxy(INHERITED), _proxy(ENVIRONMENT)


@dataclass(frozen=True, slots=True)
class MirrorConfig:
    """One mirror of a registry: where it is, and what it is asked for.

    Raises ConfigInvalid for a contradiction.
    """

    url: Annotated[str, text(_mirror_url)]
    by: Annotated[str, one_of("path", "ns", "plain")] = "path"
    capabilities: Annotated[tuple[str, ...], list_of(one_of(*CAPABILITIES), "words")] = (
        "pull",
        "resolve",
    )
    pull: Annotated[str, one_of("all", "digest", "tag")] = "all"
    tls_verify: Annotated[bool, flag] = True
    ca_file: Annotated[Path | None, absolute_or_none] = None
    client_cert: Annotated[Path | None, absolute_or_none] = None
    client_key: Annotated[Path | None, absolute_or_none] = None
    cert_dir: Annotated[Path | None, absolute_or_none] = None
    connect_timeout: Annotated[float, duration(0.05, 3600)] = 2.0

    def __post_init__(self) -> None:
        if (self.client_cert is None) != (self.client_key is None):
            raise ConfigInvalid("client_cert and client_key belong together: set both or neither")


_mirror_table = table(MirrorConfig)


def _mirror(raw: object) -> MirrorConfig:
    """A mirror's URL, or a table that says more of it."""
    return _mirror_table({"url": raw} if isinstance(raw, str) else raw)


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """How one registry is reached, and as whom. Raises ConfigInvalid for a contradiction."""

    endpoint: Annotated[str, text(_endpoint)] = ""
    plain_http: Annotated[bool, flag] = False
    tls_verify: Annotated[bool, flag] = True
    ca_file: Annotated[Path | None, absolute_or_none] = None
    client_cert: Annotated[Path | None, absolute_or_none] = None
    client_key: Annotated[Path | None, absolute_or_none] = None
    cert_dir: Annotated[Path | None, absolute_or_none] = None
    mirrors: Annotated[tuple[MirrorConfig, ...], list_of(_mirror, "URLs or tables")] = ()
    fallback: Annotated[str, one_of("always", "not-found", "never")] = "always"
    proxy: Annotated[str, own_proxy] = INHERITED
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
