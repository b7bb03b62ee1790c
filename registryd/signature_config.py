"""The ``[signatures."REGISTRY/PREFIX"]`` sections: which images must be signed, and by whose key.

Invariants:
- a prefix ends where a component of a name ends: ``ghcr.io/org`` says nothing of ``ghcr.io/organ``;
- a section that requires signatures names at least one key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from registryd.oci.errors import ConfigInvalid, ReferenceInvalid
from registryd.oci.reference import check_repository
from registryd.registry_config import registry_name
from registryd.tables import absolute, flag, list_of, shown

#: The prefix of all registries but the node's own.
ALL = "*"


def name_prefix(prefix: str) -> str:
    """``*``, a registry, or a registry with the beginning of repositories. Raises ConfigInvalid."""
    if prefix == ALL:
        return prefix
    registry, slash, rest = prefix.partition("/")
    registry_name(registry)
    if slash:
        try:
            check_repository(rest)
        except ReferenceInvalid as error:
            form = 'write "REGISTRY", "REGISTRY/NAMESPACE" or "*"'
            raise ConfigInvalid(f"{shown(prefix)} is no beginning of names ({form})") from error
    return prefix


@dataclass(frozen=True, slots=True)
class SignatureConfig:
    """Whose signatures admit the images of a prefix. Raises ConfigInvalid for none."""

    keys: Annotated[tuple[Path, ...], list_of(absolute, "paths")]
    require: Annotated[bool, flag] = True

    def __post_init__(self) -> None:
        if self.require and not self.keys:
            raise ConfigInvalid(
                "keys names no key, so nothing could be admitted (name one, or set require = false)"
            )
