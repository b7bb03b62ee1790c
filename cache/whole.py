"""Whole: what is here with all that it needs (pure)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def whole(held: set[K], links: Iterable[tuple[K, K, str]]) -> set[K]:
    """The held digests that have what they need, by links of parent, child and rule.

    From the leaves up, each link once, not by recursion from the top: a registry can send
    indexes as deep as it likes, and such that the ways through them double at every level.
    """
    parents: dict[K, list[K]] = {}
    wanting: dict[K, int] = {}
    for parent, child, rule in links:
        parents.setdefault(child, []).append(parent)
        wanting[parent] = 1 if rule == "any" else wanting.get(parent, 0) + 1
    whole = held - wanting.keys()
    ready = list(whole)
    while ready:
        for parent in parents.get(ready.pop(), ()):
            wanting[parent] -= 1
            if wanting[parent] == 0 and parent in held:
                whole.add(parent)
                ready.append(parent)
    return whole
