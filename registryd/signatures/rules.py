"""Which rule an image falls under (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from registryd.signature_config import ALL, SignatureConfig

#: The node's own registry: what is there was put there by this node's users.
OWN_REGISTRY = "localhost"


@dataclass(frozen=True, slots=True)
class Rule:
    """Images of this prefix are given only when one of these keys has signed them."""

    prefix: str
    keys: tuple[Path, ...]


def rule_for(name: str, sections: Mapping[str, SignatureConfig]) -> Rule | None:
    """The rule for a repository by its whole name: that of the longest prefix, or None.

    ``*`` does not mean the node's own registry, which can be named.
    """
    fitting = [prefix for prefix in sections if _fits(name, prefix)]
    if not fitting:
        return None
    prefix = max(fitting, key=lambda each: (each != ALL, len(each)))
    section = sections[prefix]
    return Rule(prefix, section.keys) if section.require else None


def _fits(name: str, prefix: str) -> bool:
    if prefix == ALL:
        return not name.startswith(f"{OWN_REGISTRY}/")
    return name == prefix or name.startswith(f"{prefix}/")
