"""Shares: what each image takes of a store, alone and together with others (pure).

Invariants:
- each held blob counts once: as one shown image's own, as several shown ones', as spare, or as
  ``other``, so that these are all that is held;
- an image counts with what was made of it, and once, however many names it has.
"""

from __future__ import annotations

from collections import Counter
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
    graph = _Graph(table)
    needs = {root: graph.held([root]) for root in shown}
    users = Counter[int]()
    for each in needs.values():
        users.update(each)
    sizes = graph.sizes
    images = {
        root: Share(
            sum(sizes[place] for place in each),
            sum(sizes[place] for place in each if users[place] == 1),
        )
        for root, each in needs.items()
    }
    total, taken = sum(sizes), sum(sizes[place] for place in users)
    unique = sum(image.own for image in images.values())
    kept = graph.held([*table.names, *table.pinned, *table.leased, *shown])
    spare = total - sum(sizes[place] for place in kept)
    made = graph.held([each for each in table.made if graph.places.get(each) in users])
    staying = _staying(graph, table, busy, now)
    return Shares(
        images=images,
        unique=unique,
        shared=taken - unique,
        spare=spare,
        other=total - taken - spare,
        saved=sum(image.size for image in images.values()) - taken,
        made=sum(sizes[place] for place in made if place in users),
        leaving=total - sum(sizes[place] for place in staying),
    )


def _staying(graph: _Graph, table: Table, busy: Busy, now: float) -> set[int]:
    """What no want of room takes, by the rules of ``eviction``."""
    kept = (*table.pinned, *table.leased, *busy.arriving)
    alone = (d for d, names in table.names.items() if any(n.startswith(busy.alone) for n in names))
    fresh = {graph.places[digest] for digest, used in table.used.items() if now - used < GRACE}
    return graph.held([*kept, *alone]) | (fresh - graph.held([*kept, *table.names]))


class _Graph:
    """The blobs of a table by number, those that are here first: a store has a hundred thousand,
    and numbers are gone through several times as fast as digests."""

    def __init__(self, table: Table) -> None:
        self.sizes = list(table.sizes.values())
        self.places = {digest: place for place, digest in enumerate(table.sizes)}
        place = self._place
        self._links = {
            place(parent): [place(child) for child in children]
            for parent, children in table.links.items()
        }

    def _place(self, digest: Digest) -> int:
        return self.places.setdefault(digest, len(self.places))

    def held(self, roots: Iterable[Digest]) -> set[int]:
        """What is here of all that is reachable from any of these, themselves included."""
        found = {self._place(root) for root in roots}
        waiting, here = list(found), len(self.sizes)
        while waiting:
            for child in self._links.get(waiting.pop(), ()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return {place for place in found if place < here}
