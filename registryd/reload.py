"""What a reload takes over from a new configuration, and what waits for a restart (pure).

Taken over: the log level, the certificates of listeners, which registries may be dialled, what is
said of each registry's tags and mirrors, which images must be signed, all limits of bandwidth, how
much room the cache may take, and whose files show who a node is. A key is taken over whole or not
at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from registryd.config import ClusterConfig, Config, DaemonConfig, RegistryConfig

#: The keys of a registry, and of the cluster, that a running daemon takes over.
REGISTRY_KEYS = (
    "tag_ttl",
    "tags",
    "pins",
    "missing_tags",
    "offline",
    "rate",
    "mirrors",
    "fallback",
)
CLUSTER_KEYS = ("up", "down")
#: Where a cluster goes on: whose files show who the node is.
IDENTITY_KEYS = ("ca_file", "cert", "key")


def taken_over(running: Config, new: Config) -> Config:
    """The running configuration with what can be changed in it."""
    return replace(
        running,
        daemon=_daemon(running.daemon, new.daemon),
        registries=_registries(running.registries, new.registries),
        access=replace(running.access, allow=new.access.allow),
        hosts=new.hosts,
        cache=replace(new.cache, root=running.cache.root),
        signatures=new.signatures,
        cluster=_cluster(running.cluster, new.cluster),
    )


def waiting(running: Config, new: Config) -> list[str]:
    """The sections in which something waits for a restart."""
    after = taken_over(running, new)
    return [
        each.name
        for each in fields(Config)
        if _meaning(getattr(after, each.name)) != _meaning(getattr(new, each.name))
    ]


def _meaning(section: object) -> object:
    """A table of a registry that says nothing means what its absence means."""
    if isinstance(section, Mapping):
        return {name: table for name, table in section.items() if table != RegistryConfig()}
    return section


def _daemon(running: DaemonConfig, new: DaemonConfig) -> DaemonConfig:
    doors = [(each.address, each.default_registry) for each in running.listen]
    same = doors == [(each.address, each.default_registry) for each in new.listen]
    listen = new.listen if same else running.listen
    return replace(running, log_level=new.log_level, listen=listen)


def _registries(
    running: Mapping[str, RegistryConfig], new: Mapping[str, RegistryConfig]
) -> dict[str, RegistryConfig]:
    default = RegistryConfig()
    merged = {}
    for name in {**running, **new}:
        changes = _said(new.get(name, default), REGISTRY_KEYS)
        merged[name] = replace(running.get(name, default), **changes)
    return merged


def _cluster(running: ClusterConfig, new: ClusterConfig) -> ClusterConfig:
    keys = CLUSTER_KEYS + (IDENTITY_KEYS if running.on and new.on else ())
    return replace(running, **_said(new, keys))


def _said(section: RegistryConfig | ClusterConfig, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: getattr(section, key) for key in keys}
