"""Image configurations as values (image specification 1.1, "Image Configuration").

Invariants: every member that is given out has the type it promises; what is missing or null is
empty. The bytes themselves are a blob like any other and are not kept here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cache.content import Digest
from cache.errors import DigestInvalid
from registryd.oci import fields
from registryd.oci.errors import ManifestInvalid, UsageError
from registryd.oci.fields import NOTHING, Malformed
from registryd.oci.manifest import read_platform
from registryd.oci.platform import Platform

#: Largest configuration that is read: long histories reach some hundred kB.
CONFIG_LIMIT: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image's configuration says about running it; made by ``parse_config``."""

    platform: Platform
    created: str = ""
    author: str = ""
    diff_ids: tuple[Digest, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: NOTHING, hash=False)


def parse_config(raw: bytes) -> ImageConfig:
    """Read an image configuration. Raises ManifestInvalid when it is malformed or too large."""
    if len(raw) > CONFIG_LIMIT:
        raise ManifestInvalid(
            f"the image configuration has {len(raw)} bytes, {CONFIG_LIMIT} are allowed"
        )
    try:
        return _config(fields.load(raw))
    except (Malformed, UsageError) as error:
        raise ManifestInvalid(f"the image configuration is not usable: {error}") from None


def _config(members: dict[str, object]) -> ImageConfig:
    run = _optional(members, "config")
    return ImageConfig(
        platform=read_platform(members, "it"),
        created=fields.text(members, "created"),
        author=fields.text(members, "author"),
        diff_ids=_diff_ids(_optional(members, "rootfs")),
        env=fields.texts(run, "Env", "config."),
        entrypoint=fields.texts(run, "Entrypoint", "config."),
        cmd=fields.texts(run, "Cmd", "config."),
        working_dir=fields.text(run, "WorkingDir", "config."),
        user=fields.text(run, "User", "config."),
        stop_signal=fields.text(run, "StopSignal", "config."),
        exposed_ports=tuple(_optional(run, "ExposedPorts", "config.")),
        volumes=tuple(_optional(run, "Volumes", "config.")),
        labels=fields.labels(run, "Labels", "config."),
    )


def _optional(parent: Mapping[str, object], key: str, where: str = "") -> dict[str, object]:
    value = parent.get(key)
    return {} if value is None else fields.mapping(value, f"{where}{key}")


def _diff_ids(rootfs: Mapping[str, object]) -> tuple[Digest, ...]:
    listed = fields.texts(rootfs, "diff_ids", "rootfs.")
    try:
        return tuple(Digest.parse(text) for text in listed)
    except DigestInvalid as error:
        raise Malformed(f"rootfs.diff_ids: {error}") from None
