"""Shares: what each image takes of a store, alone and together with others (pure).

Invariants:
- each held blob counts once: as one shown image's own, as several shown ones', as spare, or as
  ``other``, so that these are all that is held;
- an image counts with what was made of it, and once, however many names it has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cache.content import Digest
from cache.eviction import GRACE, Busy, Table


@dataclass(frozen=True, slots=True)
class Share:
    """Bytes held of an image, and of these those that no other shown image needs."""

    size: int
    own: int


@dataclass(frozen=True, slots=True)
class Shares:
    """Where the room of a store goes, in bytes.

    ``unique`` and ``shared``: of one shown image, and of several. ``spare``: what nothing keeps.
    ``other``: the rest, of images not shown or not whole yet, of pins and of leases. ``saved``:
    what would be here more if each shown image had its own. ``made``: what was made of them here.
    ``leaving``: what may go when room is wanted, at most: nobody was asked what is open.
    """

    images: Mapping[Digest, Share]
    unique: int
    shared: int
    spare: int
    other: int
    saved: int
    made: int
    leaving: int


def count(table: Table, busy: Busy, shown: Collection[Digest], now: float) -> Shares:
    """The account of these images (by digest), and of all that is not theirs."""
    needs = {root: table.closure(table.number(root)) for root in shown}
    staying = _staying(table, busy, now)
    sizes, users = table.sizes, [0] * len(table.sizes)
    for each in needs.values():
        for number in each:
            users[number] += 1
    images = {
        root: Share(
            sum(map(sizes.__getitem__, each)),
            sum([sizes[number] for number in each if users[number] == 1]),
        )
        for root, each in needs.items()
    }
    total = sum(sizes)
    taken = sum(size for size, times in zip(sizes, users, strict=True) if times)
    unique = sum(image.own for image in images.values())
    kept = _needed(table, [*table.names, *table.pinned, *table.leased])
    kept.update(*needs.values())
    spare = total - _size(table, kept)
    made = _needed(table, [n for n in table.made if users[n] and table.here[n]])
    return Shares(
        images=images,
        unique=unique,
        shared=taken - unique,
        spare=spare,
        other=total - taken - spare,
        saved=sum(image.size for image in images.values()) - taken,
        made=_size(table, [number for number in made if users[number]]),
        leaving=total - _size(table, staying),
    )


def _staying(table: Table, busy: Busy, now: float) -> set[int]:
    """What no want of room takes, by the rules of ``eviction``."""
    kept = (*table.pinned, *table.leased, *map(table.number, busy.arriving))
    alone = [n for n, names in table.names.items() if any(x.startswith(busy.alone) for x in names)]
    fresh = {n for n, used in enumerate(table.used) if now - used < GRACE}
    return _needed(table, [*kept, *alone]) | (fresh - _needed(table, [*kept, *table.names]))


def _needed(table: Table, roots: Iterable[int]) -> set[int]:
    """All that is reachable from any of these, themselves included, here or not."""
    return set[int]().union(*map(table.closure, roots))


def _size(table: Table, numbers: Iterable[int]) -> int:
    return sum(map(table.sizes.__getitem__, numbers))
