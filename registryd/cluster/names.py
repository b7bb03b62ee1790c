"""Names of nodes as people write them in host lists: whole, without the port, or the first part.

Invariant: an address has no first part (``10`` is not ``10.0.0.1``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import lru_cache

from registryd.hostlist import split_port
from registryd.oci.errors import UsageError

#: Names whose spellings are remembered: those of a large cluster, and of a list of it.
KEPT = 1 << 14


def answers(node: str, name: str) -> bool:
    """Whether a node (its name, perhaps with a port) is meant by a name in a list."""
    return _meant(name) in _spellings(node)


def answers_any(node: str, names: Iterable[str]) -> bool:
    """Whether a node is meant by one of the names in a list."""
    return not _spellings(node).isdisjoint(_all_meant(tuple(names)))


def absent(names: Iterable[str], nodes: Collection[str]) -> list[str]:
    """The names in a list that none of these nodes answers to."""
    known: set[str] = set().union(*map(_spellings, nodes))
    return [name for name in names if _meant(name) not in known]


@lru_cache(KEPT)
def _spellings(node: str) -> frozenset[str]:
    """All that a node answers to."""
    node = node.lower()
    host = _host(node)
    return frozenset({node, host, _first_label(host)})


@lru_cache(KEPT)
def _meant(name: str) -> str:
    """A name of a list in the form of spellings: who writes a port means that one."""
    name = name.lower()
    with suppress(UsageError):
        host, port = split_port(name)
        return host if port is None else name
    return name


@lru_cache(64)
def _all_meant(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(_meant, names))


def _host(node: str) -> str:
    """The host in a node's name, without port and brackets; what is no host as it is."""
    try:
        return split_port(node)[0]
    except UsageError:
        return node


def _first_label(host: str) -> str:
    """The part before the first dot; an address is whole."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return host
    return host.partition(".")[0]
