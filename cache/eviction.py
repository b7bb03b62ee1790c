"""Eviction: which content goes when room is wanted (pure).

Invariants:
- what is pinned, leased, arriving, open, or to be had nowhere else stays, with all that it needs;
- an image goes whole, with what was made of it; of what it shares with one that stays nothing goes;
- what no image needs goes first, but for what has just come: a push names its content last;
- no image goes once there is enough, and none that would free nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from cache.content import Digest

#: Seconds in which content that nothing names may yet be named: uploads come before manifests.
GRACE = 3600.0
#: What asking a registry once more costs, in bytes that come in the same time (0.1 s at 40 MB/s).
ROUND_TRIP = 4 << 20

UNREFERENCED, UNUSED = "no image needs it", "not used for longest"
OVER_QUOTA = "its user's quota is used up"
PINNED, LEASED, ARRIVING = "pinned", "in use", "arriving"
OPEN, ALONE, SHARED = "open", "nowhere else to be had", "shared with what stays"
NEEDLESS = "there is room"


@dataclass(frozen=True, slots=True)
class Table:
    """What a store holds and what keeps it, at one instant; each digest by a small number, for
    all of a store is gone through, and numbers are several times as fast."""

    #: The number of a digest, which may be a new one.
    number: Callable[[Digest], int]
    #: By number: which digest it is, whether it is here, in bytes (0: it is not), and when it was
    #: last used (Unix seconds; 0: it is not here).
    digests: Sequence[str]
    here: Sequence[int]
    sizes: Sequence[int]
    used: Sequence[float]
    #: All that is reachable from one, here or not, itself included: each once.
    closure: Callable[[int], Collection[int]]
    #: Images, with all their names.
    names: Mapping[int, Sequence[str]]
    pinned: AbstractSet[int] = frozenset()
    leased: AbstractSet[int] = frozenset()
    #: Manifests of what was made here of others, which have them in their closures.
    made: AbstractSet[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Busy:
    """What the table cannot know: what is on its way in, what somebody reads, and which names
    begin as those do that no registry could give again."""

    arriving: AbstractSet[Digest] = frozenset()
    opened: AbstractSet[Digest] = frozenset()
    alone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an image (of a blob, where there are no ``names``), and why.

    ``frees``: what goes with it, in bytes; nothing where it stays.
    """

    digest: Digest
    names: tuple[str, ...]
    frees: Mapping[Digest, int]
    used: float
    why: str

    @property
    def bytes(self) -> int:
        """How much that is."""
        return sum(self.frees.values())


@dataclass(frozen=True, slots=True)
class Choice:
    """What goes, in this order, and which images stay."""

    going: tuple[Verdict, ...]
    staying: tuple[Verdict, ...]

    @property
    def freed(self) -> int:
        """Bytes that this makes free."""
        return sum(each.bytes for each in self.going)

    @property
    def digests(self) -> set[Digest]:
        """All blobs that go."""
        return {digest for each in self.going for digest in each.frees}


@dataclass(slots=True)
class _Image:
    root: int
    names: Sequence[str]
    needs: Collection[int]
    why: str = ""
    used: float = 0.0
    idle: float = 0.0


class _Round:
    """A table and what is busy of it, and how many roots need each blob by now."""

    def __init__(self, table: Table, busy: Busy) -> None:
        self.table = table
        self.arriving = frozenset(map(table.number, busy.arriving))
        self.opened = frozenset(map(table.number, busy.opened))
        self._alone = busy.alone
        self.holders: list[int] = []

    def count(self, closures: Iterable[Collection[int]]) -> None:
        """Count whoever needs something. From here on the table gets no new number."""
        self.holders = holders = [0] * len(self.table.sizes)
        for needs in closures:
            for number in needs:
                holders[number] += 1

    def own(self, image: _Image) -> list[int]:
        """What an image alone needs by now, here or not."""
        holders = self.holders
        return [number for number in image.needs if holders[number] == 1]

    def frees(self, image: _Image) -> list[int]:
        """What goes with it."""
        return [number for number in self.own(image) if self.table.here[number]]

    def gone(self, image: _Image) -> None:
        """Count it no more."""
        for number in image.needs:
            self.holders[number] -= 1

    def kept(self, image: _Image) -> str:
        """Why an image must stay, whatever room is wanted ("": it need not)."""
        if image.root in self.table.pinned:
            return PINNED
        if image.root in self.table.leased:
            return LEASED
        if self.arriving and not self.arriving.isdisjoint(image.needs):
            return ARRIVING
        if self._alone and any(name.startswith(self._alone) for name in image.names):
            return ALONE
        return ""

    def verdict(self, image: _Image, frees: Sequence[int], why: str) -> Verdict:
        root = Digest.parse(self.table.digests[image.root])
        return Verdict(root, tuple(image.names), self._weighed(frees), image.used, why)

    def _weighed(self, blobs: Iterable[int]) -> dict[Digest, int]:
        digests, sizes = self.table.digests, self.table.sizes
        return {Digest.parse(digests[number]): sizes[number] for number in blobs}

    def size(self, blobs: Iterable[int]) -> int:
        return sum(map(self.table.sizes.__getitem__, blobs))

    def hex(self, number: int) -> str:
        return self.table.digests[number][7:]  # the name of each algorithm has six letters


def choose(table: Table, busy: Busy, wanted: int, now: float, *, told: bool = True) -> Choice:
    """What goes so that ``wanted`` bytes become free, if as much may go; else all that may.

    Not ``told``: what stays is left out, which takes as long to say as the choice itself.
    """
    round_ = _Round(table, busy)
    images = [_Image(root, names, table.closure(root)) for root, names in table.names.items()]
    roots = [table.closure(root) for root in (*table.pinned, *table.leased, *round_.arriving)]
    round_.count([*(image.needs for image in images), *roots])
    for image in images:
        _weigh(round_, image, now)
    spare = _spare(round_, now)
    free = wanted - sum(each.bytes for each in spare)
    order = [image for image in images if not image.why]
    order.sort(key=lambda image: (-image.idle, round_.hex(image.root)))
    gone, going = _images(round_, order, free)
    if not told:
        return Choice((*spare, *going), ())
    otherwise = NEEDLESS if sum(each.bytes for each in going) >= free else SHARED
    staying = [image for image in images if image.root not in gone]
    return Choice(
        (*spare, *going),
        tuple(round_.verdict(image, (), image.why or otherwise) for image in staying),
    )


def give_way(
    table: Table,
    busy: Busy,
    own: AbstractSet[Digest],
    spared: AbstractSet[Digest],
    wanted: int,
) -> Choice:
    """Which of one user's images go so that they hold ``wanted`` bytes less: the longest unused,
    whatever others hold. ``spared``: what needs one of these stays."""
    round_, sparing = _Round(table, busy), frozenset(map(table.number, spared))
    roots = list(map(table.number, own))
    images = [_Image(root, table.names.get(root, ()), table.closure(root)) for root in roots]
    round_.count(image.needs for image in images)
    for image in images:
        image.used = max(map(table.used.__getitem__, image.needs))
        image.why = round_.kept(image) or ("" if sparing.isdisjoint(image.needs) else LEASED)
    going, staying, freed = list[Verdict](), list[Verdict](), 0
    for image in sorted(images, key=lambda image: (image.used, round_.hex(image.root))):
        frees = round_.frees(image) if freed < wanted and not image.why else []
        if frees and round_.opened.isdisjoint(frees):
            going.append(round_.verdict(image, frees, OVER_QUOTA))
            round_.gone(image)
            freed += round_.size(frees)
        else:
            staying.append(round_.verdict(image, (), image.why))
    return Choice(tuple(going), tuple(staying))


def _weigh(round_: _Round, image: _Image, now: float) -> None:
    """Say when an image was used, and how long it was not: the less of that the less room it gives
    for a round trip."""
    used, own = round_.table.used, round_.own(image)
    image.used = max(used[image.root], max(map(used.__getitem__, own), default=0.0))
    image.why = round_.kept(image)
    size = round_.size(own)
    image.idle = max(0.0, now - image.used) * size / (size + ROUND_TRIP)


def _spare(round_: _Round, now: float) -> list[Verdict]:
    """The blobs that nothing needs, the longest unused first."""
    table, opened = round_.table, round_.opened
    free = [
        number
        for number, users in enumerate(round_.holders)
        if not users
        and table.here[number]
        and now - table.used[number] >= GRACE
        and number not in opened
    ]
    free.sort(key=lambda number: (table.used[number], round_.hex(number)))
    digests = [Digest.parse(table.digests[number]) for number in free]
    return [
        Verdict(digest, (), {digest: table.sizes[number]}, table.used[number], UNREFERENCED)
        for digest, number in zip(digests, free, strict=True)
    ]


def _images(round_: _Round, order: Sequence[_Image], wanted: int) -> tuple[set[int], list[Verdict]]:
    """Images until there is enough; again and again, as one that goes lets others free more."""
    gone, going = set[int](), list[Verdict]()
    rest, before, freed = list(order), -1, 0
    while len(rest) != before and freed < wanted:
        before, left = len(rest), list[_Image]()
        for image in rest:
            if freed >= wanted:
                break
            frees = round_.frees(image)
            if not round_.opened.isdisjoint(frees):
                image.why = OPEN
            elif frees:
                gone.add(image.root)
                going.append(round_.verdict(image, frees, UNUSED))
                round_.gone(image)
                freed += round_.size(frees)
            else:
                left.append(image)
        rest = left
    return gone, going
