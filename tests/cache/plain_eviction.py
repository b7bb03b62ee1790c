"""The rule of eviction written plainly, by digests: what the quick one is held against."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from cache import eviction
from cache.content import Digest
from cache.eviction import (
    ALONE,
    ARRIVING,
    GRACE,
    LEASED,
    NEEDLESS,
    OPEN,
    OVER_QUOTA,
    PINNED,
    ROUND_TRIP,
    SHARED,
    UNREFERENCED,
    UNUSED,
    Busy,
    Choice,
    Verdict,
)
from cache.weights import Weights


@dataclass(frozen=True, slots=True)
class Table:
    """What a store holds and what keeps it, at one instant."""

    #: Blobs that are here, in bytes, and when each was last used (Unix seconds).
    sizes: Mapping[Digest, int]
    used: Mapping[Digest, float]
    #: What manifests point to, here or not, and what was made of them.
    links: Mapping[Digest, Sequence[Digest]]
    #: Images by their digests, with all their names.
    names: Mapping[Digest, Sequence[str]]
    pinned: AbstractSet[Digest] = frozenset()
    leased: AbstractSet[Digest] = frozenset()
    #: Manifests of what was made here of others, as the links say.
    made: AbstractSet[Digest] = frozenset()

    def closure(self, root: Digest) -> set[Digest]:
        """All that is reachable from a digest, here or not, itself included."""
        found, waiting = {root}, [root]
        while waiting:
            for child in self.links.get(waiting.pop(), ()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return found


@dataclass(slots=True)
class _Image:
    digest: Digest
    names: tuple[str, ...]
    needs: set[Digest]
    held: set[Digest]
    why: str = ""
    used: float = 0.0


@dataclass(slots=True)
class _Round:
    table: Table
    busy: Busy
    holders: Counter[Digest] = field(default_factory=Counter)

    def frees(self, image: _Image) -> dict[Digest, int]:
        """What goes with an image: what it alone holds by now."""
        sizes = self.table.sizes
        return {digest: sizes[digest] for digest in image.held if self.holders[digest] == 1}


def choose(table: Table, busy: Busy, wanted: int, now: float) -> Choice:
    """What goes so that ``wanted`` bytes become free, if as much may go; else all that may."""
    images = [_image(table, digest, names) for digest, names in table.names.items()]
    roots = [table.closure(d) for d in (*table.pinned, *table.leased, *busy.arriving)]
    round_ = _Round(table, busy)
    for needs in (*(image.needs for image in images), *roots):
        round_.holders.update(needs)
    for image in images:
        own = round_.frees(image)
        image.used = max((table.used.get(d, 0.0) for d in (*own, image.digest)), default=0.0)
        image.why = _kept(table, busy, image)
    spare = _spare(round_, now)
    free = wanted - sum(each.bytes for each in spare)
    order = sorted(
        (image for image in images if not image.why),
        key=lambda image: (-_idle(round_, image, now), image.digest.hex),
    )
    going = _images(round_, order, free)
    gone = {each.digest for each in going}
    otherwise = NEEDLESS if sum(each.bytes for each in going) >= free else SHARED
    staying = (
        _verdict(image, {}, image.why or otherwise) for image in images if image.digest not in gone
    )
    return Choice((*spare, *going), tuple(staying))


def give_way(
    table: Table,
    busy: Busy,
    own: AbstractSet[Digest],
    spared: AbstractSet[Digest],
    wanted: int,
) -> Choice:
    """Which of one user's images go so that they hold ``wanted`` bytes less: the longest unused,
    whatever others hold. ``spared``: what needs one of these stays."""
    images = [_image(table, digest, table.names.get(digest, ())) for digest in own]
    round_ = _Round(table, busy)
    for image in images:
        round_.holders.update(image.needs)
    for image in images:
        image.used = max((table.used.get(d, 0.0) for d in image.held), default=0.0)
        image.why = _kept(table, busy, image) or ("" if image.needs.isdisjoint(spared) else LEASED)
    going, freed = list[Verdict](), 0
    for image in sorted(images, key=lambda image: (image.used, image.digest.hex)):
        frees = round_.frees(image) if freed < wanted and not image.why else {}
        if frees and busy.opened.isdisjoint(frees):
            going.append(_verdict(image, frees, OVER_QUOTA))
            round_.holders.subtract(image.needs)
            freed += sum(frees.values())
    gone = {each.digest for each in going}
    staying = (_verdict(each, {}, each.why) for each in images if each.digest not in gone)
    return Choice(tuple(going), tuple(staying))


def _image(table: Table, digest: Digest, names: Sequence[str]) -> _Image:
    needs = table.closure(digest)
    return _Image(digest, tuple(names), needs, needs & table.sizes.keys())


def _kept(table: Table, busy: Busy, image: _Image) -> str:
    """Why an image must stay, whatever room is wanted ("": it need not)."""
    if image.digest in table.pinned:
        return PINNED
    if image.digest in table.leased:
        return LEASED
    if not image.needs.isdisjoint(busy.arriving):
        return ARRIVING
    if any(name.startswith(busy.alone) for name in image.names):
        return ALONE
    return ""


def _verdict(image: _Image, frees: Mapping[Digest, int], why: str) -> Verdict:
    return Verdict(image.digest, image.names, frees, image.used, why)


def _idle(round_: _Round, image: _Image, now: float) -> float:
    """How long an image was not used, the less of it the less room it gives for a round trip."""
    own = sum(round_.frees(image).values())
    return max(0.0, now - image.used) * own / (own + ROUND_TRIP)


def _spare(round_: _Round, now: float) -> list[Verdict]:
    """The blobs that nothing needs, the longest unused first."""
    table = round_.table
    free = [
        Verdict(digest, (), {digest: size}, table.used.get(digest, 0.0), UNREFERENCED)
        for digest, size in table.sizes.items()
        if not round_.holders[digest] and digest not in round_.busy.opened
    ]
    settled = (each for each in free if now - each.used >= GRACE)
    return sorted(settled, key=lambda each: (each.used, each.digest.hex))


def _images(round_: _Round, order: Sequence[_Image], wanted: int) -> list[Verdict]:
    """Images until there is enough; again and again, as one that goes lets others free more."""
    going: list[Verdict] = []
    rest, before, freed = list(order), -1, 0
    while len(rest) != before and freed < wanted:
        before, left = len(rest), list[_Image]()
        for image in rest:
            frees = round_.frees(image) if freed < wanted else {}
            if not round_.busy.opened.isdisjoint(frees):
                image.why = OPEN
            elif frees:
                going.append(_verdict(image, frees, UNUSED))
                round_.holders.subtract(image.needs)
                freed += sum(frees.values())
            else:
                left.append(image)
        rest = left
    return going


def read(db: sqlite3.Connection, now: float) -> Table:
    """A table by all rows of an index."""
    links, names = defaultdict[Digest, list[Digest]](list), defaultdict[Digest, list[str]](list)
    parse = Digest.parse
    for parent, child in db.execute("SELECT parent, child FROM links"):
        links[parse(parent)].append(parse(child))
    for digest, name in db.execute("SELECT digest, name FROM names ORDER BY name"):
        names[parse(digest)].append(name)
    blobs = db.execute("SELECT digest, size, used FROM blobs").fetchall()
    pins = db.execute("SELECT digest FROM pins WHERE expires IS NULL OR expires > ?", (now,))
    leases = db.execute("SELECT digest FROM leases WHERE expires > ?", (now,))
    return Table(
        sizes={parse(digest): size for digest, size, _ in blobs},
        used={parse(digest): used for digest, _, used in blobs},
        links=links,
        names=names,
        pinned={parse(digest) for (digest,) in pins},
        leased={parse(digest) for (digest,) in leases},
    )


def numbered(table: Table) -> eviction.Table:
    """The same table by numbers."""
    numbers = dict[Digest, int]()
    digests, here, sizes, used = list[str](), list[int](), list[int](), list[float]()

    def number(digest: Digest) -> int:
        if digest not in numbers:
            numbers[digest] = len(digests)
            digests.append(str(digest))
            here.append(digest in table.sizes)
            sizes.append(table.sizes.get(digest, 0))
            used.append(table.used.get(digest, 0.0))
        return numbers[digest]

    def all_of(these: Iterable[Digest]) -> set[int]:
        return set(map(number, these))

    for each in [*table.sizes, *table.links, *table.names, *table.pinned, *table.leased]:
        all_of(table.closure(each))
    names = {number(digest): known for digest, known in table.names.items()}
    weights = Weights(sizes, used)
    weights.bring(names.keys(), lambda root: all_of(table.closure(Digest.parse(digests[root]))))
    return eviction.Table(
        number=number,
        digests=digests,
        here=here,
        sizes=sizes,
        used=used,
        closure=lambda root: all_of(table.closure(Digest.parse(digests[root]))),
        names=names,
        weights=weights,
        pinned=all_of(table.pinned),
        leased=all_of(table.leased),
        made=all_of(table.made),
    )


def chosen(table: Table, busy: Busy, wanted: int, now: float) -> Choice:
    """What the quick rule chooses of it."""
    return eviction.choose(numbered(table), busy, wanted, now)
