"""The configuration of a command that works in this process: the user's file, bent by flags.

Invariant: a flag for a connection changes the registries that the command names, and no other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registryd.cli.command import Context
from registryd.config import Config, RegistryConfig, default_config, load, user_places
from registryd.oci.errors import UsageError

if TYPE_CHECKING:
    from registryd.sync.plan import Door


@dataclass(frozen=True, slots=True)
class Connection:
    """How one side of a command reaches its registry; None: as it is configured."""

    tls_verify: bool | None = None
    plain_http: bool | None = None
    cert_dir: str | None = None
    ca_file: str | None = None

    def applied(self, registry: RegistryConfig) -> RegistryConfig:
        """The registry's configuration with this on top. Raises UsageError."""
        if self.tls_verify is not None:
            registry = replace(registry, tls_verify=self.tls_verify)
        if self.plain_http is not None:
            registry = replace(registry, plain_http=self.plain_http)
        if self.cert_dir is not None:
            registry = _with_certificates(registry, Path(self.cert_dir))
        if self.ca_file is not None:
            registry = replace(registry, ca_file=Path(self.ca_file).absolute())
        return registry


def connection(context: Context, side: str = "") -> Connection:
    """What the flags say of connections; ``side``'s own flags win over the shared ones."""

    def value(name: str) -> Any:
        own = getattr(context.options, f"{side}{name}", None)
        return getattr(context.options, name) if own is None else own

    return Connection(value("tls_verify"), value("plain_http"), value("cert_dir"), value("ca_file"))


def settings(
    context: Context,
    *,
    root: Path | None = None,
    registries: Iterable[str] = (),
    side: str = "",
    door: Door | None = None,
) -> Config:
    """The user's configuration with this cache root, and the flags for these registries.

    ``door`` is what a list of images says of them: more than the file, less than a flag.
    Raises ConfigInvalid, UsageError.
    """
    places = user_places(context.environ, context.home)
    config = load(places.config, places) if places.config.exists() else default_config(places)
    if root is not None:
        config = replace(config, cache=replace(config.cache, root=root.absolute()))
    if context.options.jobs is not None:
        config = replace(config, transfer=replace(config.transfer, jobs=context.options.jobs))
    if context.options.authfile:  # it is the only one: what it has not, no other has either
        only = (Path(context.options.authfile).absolute(),)
        config = replace(config, access=replace(config.access, authfiles=only))
    if context.options.no_creds:  # no file at all would mean those in their usual places
        config = replace(config, access=replace(config.access, authfiles=(Path(os.devnull),)))
    retries = getattr(context.options, "retry_times", None)
    if retries is not None:
        config = replace(config, transfer=replace(config.transfer, attempts=retries + 1))
    wanted = connection(context, side)
    known = dict(config.registries)
    for registry in registries:
        config_of = known.get(registry, RegistryConfig())
        if door is not None:
            config_of = door.applied(config_of)
            if door.cert_dir is not None:
                config_of = _with_certificates(config_of, door.cert_dir)
        known[registry] = wanted.applied(config_of)
    return replace(config, registries=known)


def _with_certificates(registry: RegistryConfig, folder: Path) -> RegistryConfig:
    """The registry with a directory of the certs.d kind. Raises UsageError."""
    if not folder.is_dir():
        raise UsageError(f"--cert-dir {folder} is not a directory")
    return replace(registry, cert_dir=folder.absolute())
