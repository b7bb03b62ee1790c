"""Eviction: which content goes when room is wanted (pure).

Invariants:
- what is pinned, leased, arriving, open, or to be had nowhere else stays, with all that it needs;
- an image goes whole, with what was made of it; of what it shares with one that stays nothing goes;
- what no image needs goes first, but for what has just come: a push names its content last;
- no image goes once there is enough, and none that would free nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from heapq import heapify, heappop

from cache.content import Digest
from cache.weights import Weight, Weights

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
    #: What each of these images weighs.
    weights: Weights
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


class _Round:
    """A table and what is busy of it, and how many roots need each blob by now."""

    def __init__(self, table: Table, busy: Busy) -> None:
        self.table = table
        self.arriving = frozenset(map(table.number, busy.arriving))
        self.opened = frozenset(map(table.number, busy.opened))
        self._alone = busy.alone
        self.holders: list[int] = []

    def begin(self, holders: Sequence[int] = ()) -> None:
        """Count from here on, where so many need each. The table gets no new number any more."""
        self.holders = [*holders, *[0] * (len(self.table.sizes) - len(holders))]

    def count(self, needs: Iterable[int]) -> None:
        """Count one more, who needs this."""
        for number in needs:
            self.holders[number] += 1

    def frees(self, needs: Iterable[int]) -> list[int]:
        """What goes with an image that needs this."""
        here, holders = self.table.here, self.holders
        return [number for number in needs if holders[number] == 1 and here[number]]

    def gone(self, needs: Iterable[int]) -> None:
        """Count it no more."""
        for number in needs:
            self.holders[number] -= 1

    def kept(self, root: int, names: Sequence[str]) -> str:
        """Why an image must stay, whatever room is wanted ("": it need not)."""
        if root in self.table.pinned:
            return PINNED
        if root in self.table.leased:
            return LEASED
        if self.arriving and not self.arriving.isdisjoint(self.table.closure(root)):
            return ARRIVING
        if self._alone and any(name.startswith(self._alone) for name in names):
            return ALONE
        return ""

    def verdict(
        self, root: int, names: Sequence[str], frees: Iterable[int], used: float, why: str
    ) -> Verdict:
        digests, sizes = self.table.digests, self.table.sizes
        going = {Digest.parse(digests[number]): sizes[number] for number in frees}
        return Verdict(Digest.parse(digests[root]), tuple(names), going, used, why)

    def size(self, blobs: Iterable[int]) -> int:
        return sum(map(self.table.sizes.__getitem__, blobs))

    def hex(self, number: int) -> str:
        return self.table.digests[number][7:]  # the name of each algorithm has six letters


def choose(table: Table, busy: Busy, wanted: int, now: float, *, told: bool = True) -> Choice:
    """What goes so that ``wanted`` bytes become free, if as much may go; else all that may.

    Not ``told``: what stays is left out, which takes longer to say than the choice itself.
    """
    round_ = _Round(table, busy)
    weights = _weights(round_)
    why = {root: round_.kept(root, names) for root, names in table.names.items()}
    spare = _spare(round_, now)
    free = wanted - sum(each.bytes for each in spare)
    going = _images(round_, why, weights, free, now) if free > 0 else {}
    chosen = (*spare, *going.values())
    if not told:
        return Choice(chosen, ())
    otherwise = NEEDLESS if sum(each.bytes for each in going.values()) >= free else SHARED
    staying = (
        round_.verdict(root, names, (), weights[root].used, why[root] or otherwise)
        for root, names in table.names.items()
        if root not in going
    )
    return Choice(chosen, tuple(staying))


def _weights(round_: _Round) -> Mapping[int, Weight]:
    """What images weigh; what is kept for another reason too is nobody's own."""
    table, known = round_.table, round_.table.weights
    kept = [table.closure(root) for root in (*table.pinned, *table.leased, *round_.arriving)]
    round_.begin(known.users)
    less = {known.sole[n] for needs in kept for n in needs if round_.holders[n] == 1}
    for needs in kept:
        round_.count(needs)
    return {**known.all(), **{image: known.weighed(image, round_.holders) for image in less}}


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
    closures = {root: table.closure(root) for root in roots}
    round_.begin()
    for needs in closures.values():
        round_.count(needs)
    order = sorted(
        (max(map(table.used.__getitem__, needs)), round_.hex(root), root)
        for root, needs in closures.items()
    )
    going, staying, freed = list[Verdict](), list[Verdict](), 0
    for used, _, root in order:
        needs, names = closures[root], table.names.get(root, ())
        why = round_.kept(root, names) or ("" if sparing.isdisjoint(needs) else LEASED)
        frees = round_.frees(needs) if freed < wanted and not why else []
        if frees and round_.opened.isdisjoint(frees):
            going.append(round_.verdict(root, names, frees, used, OVER_QUOTA))
            round_.gone(needs)
            freed += round_.size(frees)
        else:
            staying.append(round_.verdict(root, names, (), used, why))
    return Choice(tuple(going), tuple(staying))


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


def _images(
    round_: _Round,
    why: dict[int, str],
    weights: Mapping[int, Weight],
    wanted: int,
    now: float,
) -> dict[int, Verdict]:
    """Images until there is enough; again and again, as one that goes lets others free more.

    Those that are open are given that as why they stay.
    """
    going, freed = dict[int, Verdict](), 0
    left = list[int]()
    rest, before = _order(round_, why, weights, now), -1
    while freed < wanted:
        for root in rest:
            needs = round_.table.closure(root)
            frees = round_.frees(needs)
            if not round_.opened.isdisjoint(frees):
                why[root] = OPEN
            elif frees:
                names = round_.table.names[root]
                going[root] = round_.verdict(root, names, frees, weights[root].used, UNUSED)
                round_.gone(needs)
                freed += round_.size(frees)
                if freed >= wanted:
                    return going
            else:
                left.append(root)
        if len(left) == before:
            break
        rest, before, left = iter(left), len(left), []
    return going


def _order(
    round_: _Round, why: Mapping[int, str], weights: Mapping[int, Weight], now: float
) -> Iterator[int]:
    """The images that may go, the one first that was not used for longest; the less of that counts
    the less room an image gives for a round trip."""
    heap = [
        (-max(0.0, now - used) * own / (own + ROUND_TRIP), round_.hex(root), root)
        for root, (used, own) in weights.items()
        if not why[root]
    ]
    heapify(heap)
    while heap:
        yield heappop(heap)[2]
