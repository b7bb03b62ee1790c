"""Placement: which nodes answer for a chunk, by rendezvous hashing. Pure: no clock, no network.

Invariants:
- the ranking of a chunk depends on the set of nodes alone: not on the order in which they were
  named, joined or left, and not on the machine that computes it;
- a node that leaves moves only the chunks that it owned; one that joins takes only its own share;
- ``ranked`` names only nodes that are members now.

The first in rank is the chunk's owner; the next few stand in for it; the first ``relay_count`` of
them are its relays, whom the other nodes ask so that the owner is not asked by everyone.
"""

from __future__ import annotations

import hashlib
from bisect import insort
from collections.abc import Iterable
from heapq import nsmallest
from itertools import chain
from math import isqrt

from cache.content import Digest

_MASK = (1 << 64) - 1
#: The multipliers of a 64-bit finaliser: odd, and known to let each bit change half of the result.
_FIRST = 0xFF51AFD7ED558CCD
_SECOND = 0xC4CEB9FE1A85EC53
#: The step between the keys of neighbouring chunks: 2**64 / golden ratio, odd.
_STEP = 0x9E3779B97F4A7C15
#: Nodes kept in rank beyond what was asked for: so many can leave before it is computed again.
SPARE = 8
#: Rankings kept: those of the chunks of a few large blobs (64 GiB); the oldest go first.
KEPT = 8192
#: A cluster this small has no relays: its owners can answer everyone.
SMALL = 8


def mix(value: int) -> int:
    """A 64-bit integer from another one, with every bit depending on every bit."""
    value &= _MASK
    value = ((value ^ (value >> 33)) * _FIRST) & _MASK
    value = ((value ^ (value >> 33)) * _SECOND) & _MASK
    return value ^ (value >> 33)


def node_seed(node: str) -> int:
    """The 64 bits that stand for a node's name, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(node.encode(), digest_size=8).digest(), "big")


def blob_key(digest: Digest) -> int:
    """The 64 bits that stand for a blob."""
    return int(digest.hex[:16], 16)


def relay_count(members: int) -> int:
    """How many nodes stand between a chunk's owner and everyone: the square root of the cluster.

    The owner is then asked by about as many relays as each relay is asked by other nodes.
    """
    return 1 if members <= SMALL else isqrt(members)


class Placement:
    """The members as one node sees them, and the ranking of each chunk among them."""

    def __init__(self, nodes: Iterable[str] = ()) -> None:
        self._seeds = {node: node_seed(node) for node in nodes}
        self._kept: dict[tuple[int, int], list[tuple[int, str]]] = {}
        #: The names alone, as they were asked for last; made again when a ranking changes.
        self._names: dict[tuple[int, int, int], tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._seeds)

    def __contains__(self, node: object) -> bool:
        return node in self._seeds

    @property
    def nodes(self) -> frozenset[str]:
        """Everyone who is a member now."""
        return frozenset(self._seeds)

    def join(self, node: str) -> None:
        """Take in a node; joining twice changes nothing."""
        if node in self._seeds:
            return
        seed = self._seeds[node] = node_seed(node)
        self._names.clear()
        for (blob, chunk), ranking in self._kept.items():
            entry = (_score(seed, blob, chunk), node)
            if len(ranking) < len(self._seeds) - 1 and entry > ranking[-1]:
                continue
            insort(ranking, entry)

    def leave(self, node: str) -> None:
        """Let a node go; leaving twice changes nothing."""
        seed = self._seeds.pop(node, None)
        if seed is None:
            return
        self._names.clear()
        for (blob, chunk), ranking in list(self._kept.items()):
            entry = (_score(seed, blob, chunk), node)
            if ranking and entry <= ranking[-1]:
                ranking.remove(entry)
            if not ranking:
                del self._kept[blob, chunk]

    def ranked(self, blob: int, chunk: int, count: int) -> tuple[str, ...]:
        """The first ``count`` members of a chunk's ranking, the owner first."""
        names = self._names.get((blob, chunk, count))
        if names is None:
            if len(self._names) > KEPT:
                self._names.clear()
            names = tuple(name for _, name in self._ranking(blob, chunk, count)[:count])
            self._names[blob, chunk, count] = names
        return names

    def relays(self, blob: int, chunk: int) -> tuple[str, ...]:
        """The owner and its relays, in rank."""
        return self.ranked(blob, chunk, relay_count(len(self._seeds)))

    def _ranking(self, blob: int, chunk: int, count: int) -> list[tuple[int, str]]:
        ranking = self._kept.get((blob, chunk), [])
        if len(ranking) < min(count, len(self._seeds)):
            key = mix(blob + chunk * _STEP)
            scores = ((mix(seed ^ key), node) for node, seed in self._seeds.items())
            ranking = nsmallest(count + SPARE, scores)
            if len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[blob, chunk] = ranking
        return ranking


def _score(seed: int, blob: int, chunk: int) -> int:
    """A node's score for a chunk; the lowest one owns it."""
    return mix(seed ^ mix(blob + chunk * _STEP))


def rotated(nodes: Iterable[str], turn: int) -> list[str]:
    """The same nodes, begun at another place: each asker with a ``turn`` of its own."""
    line = list(nodes)
    if not line:
        return line
    start = turn % len(line)
    return list(chain(line[start:], line[:start]))
