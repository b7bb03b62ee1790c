"""Graph: the images of a store and all that hangs from them, in memory, by small numbers.

A question about all images at once would otherwise read every row of the index. Invariants:
- it says what the index said when it was last brought up to date, and costs then what has changed;
- whatever a digest's row says, its number never changes while the graph lives; one that is ``worn``
  has more numbers of what has gone than of anything else, and is to be replaced by a new one.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from cache.changes import Changed
from cache.eviction import Table
from cache.weights import Weights
from cache.whole import whole

#: Numbers that have come to a graph since it was loaded, beyond as many as it had.
SPARE = 10_000

_NAMES = "SELECT name, repository, digest, media_type, complete FROM names"


class Image(NamedTuple):
    """A named manifest with all that is reachable from it, by numbers; made anew where any of that
    came, went, was used or linked.

    ``size`` is in bytes, ``used`` the last use of any of it (Unix seconds); ``whole``: of an index,
    its children that are here with all that they need.
    """

    digest: str
    closure: tuple[int, ...]
    size: int
    used: float
    whole: frozenset[str]


class Entry(NamedTuple):
    """A name, as the index has it."""

    name: str
    repository: str
    digest: str
    media_type: str
    complete: int = 1


class Shown(NamedTuple):
    """A name, its image, and the bytes of what no other shown image has.

    The same object as long as all of that is the same.
    """

    entry: Entry
    image: Image
    own: int


class _Owners(NamedTuple):
    """The entries of some repositories, sorted, and what each image alone of them has."""

    visible: Collection[str] | None
    entries: list[Entry]
    own: dict[str, int]


class Graph:
    """Numbers, and what they mean. Used by one thread."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._digests: list[str] = []
        self._sizes: list[int] = []  #: of what is here; 0 otherwise
        self._used: list[float] = []
        self._here = bytearray()
        self._weights = Weights(self._sizes, self._used)
        self._links: dict[int, list[tuple[int, str]]] = {}
        self._entries: dict[str, Entry] = {}
        self._named: dict[int, list[str]] | None = None
        self._closures: dict[int, tuple[int, ...]] = {}
        self._images: dict[str, Image] = {}
        self._rows: dict[str, Shown] = {}
        self._owners: _Owners | None = None
        self._loaded = 0

    @property
    def worn(self) -> bool:
        """Whether it had better be made anew: in a cache of years most of what came has gone."""
        return len(self._digests) > 2 * self._loaded + SPARE

    def _number(self, digest: str) -> int:
        number = self._numbers.get(digest)
        if number is None:
            number = self._numbers[digest] = len(self._digests)
            self._digests.append(digest)
            self._sizes.append(0)
            self._used.append(0.0)
            self._here.append(0)
        return number

    # bringing it up to date

    def load(self, db: sqlite3.Connection) -> None:
        """Take in everything; a new graph is empty."""
        for row in db.execute("SELECT digest, size, used FROM blobs"):
            self._set_blob(*row)
        for parent, child, rule in db.execute("SELECT parent, child, rule FROM links"):
            link = self._number(child), rule
            self._links.setdefault(self._number(parent), []).append(link)
        for row in db.execute(_NAMES):
            self._entries[row[0]] = Entry(*row)
        self._loaded = len(self._digests)

    def update(self, db: sqlite3.Connection, changed: Changed) -> None:
        """Read again what has changed."""
        linked = {self._read_links(db, digest) for digest in changed["links"]}
        written = {self._read_blob(db, digest) for digest in changed["blobs"]}
        for name in changed["names"]:
            row = db.execute(f"{_NAMES} WHERE name = ?", (name,)).fetchone()
            self._entries.pop(name, None)
            self._rows.pop(name, None)
            if row:
                self._entries[name] = Entry(*row)
        if linked or written:
            self._renew(linked, written)
        if linked or changed["names"]:
            self._owners = None
        if changed["names"]:
            self._named = None
            named = {entry.digest for entry in self._entries.values()}
            for digest in self._images.keys() - named:
                del self._images[digest]
            for number in self._closures.keys() - {self._number(digest) for digest in named}:
                del self._closures[number]
                self._weights.drop(number)

    def _renew(self, linked: set[int], written: set[int]) -> None:
        """Make those images anew that have some of these."""
        if linked:
            found = [n for n, each in self._closures.items() if not linked.isdisjoint(each)]
            for number in found:
                del self._closures[number]
                self._weights.drop(number)
        for digest, image in list(self._images.items()):
            if not linked.isdisjoint(image.closure):
                del self._images[digest]
            elif not written.isdisjoint(image.closure):
                self._images[digest] = self._made(digest, image.closure)

    def _read_links(self, db: sqlite3.Connection, digest: str) -> int:
        number = self._number(digest)
        rows = db.execute("SELECT child, rule FROM links WHERE parent = ?", (digest,))
        self._links[number] = [(self._number(child), rule) for child, rule in rows]
        return number

    def _read_blob(self, db: sqlite3.Connection, digest: str) -> int:
        number = self._number(digest)
        self._weights.written(number)
        before = self._sizes[number]
        row = db.execute("SELECT size, used FROM blobs WHERE digest = ?", (digest,)).fetchone()
        if row:
            self._set_blob(digest, *row)
        else:
            self._sizes[number], self._used[number], self._here[number] = 0, 0.0, 0
        if before != self._sizes[number]:
            self._owners = None
        return number

    def _set_blob(self, digest: str, size: int, used: float) -> None:
        number = self._number(digest)
        self._sizes[number], self._used[number], self._here[number] = size, used, 1

    # answers

    def table(
        self, pinned: Iterable[str], leased: Iterable[str], meant: Callable[[str], bool]
    ) -> Table:
        """What eviction is decided by, good until this is brought up to date again.

        ``meant`` says of a name whether it keeps its image, as if that were pinned.
        """
        names = self._names_by_number()
        kept = {number for number, known in names.items() if any(map(meant, known))}
        kept.update(map(self._number, pinned))
        self._weights.bring(names.keys(), self._closure)
        return Table(
            number=lambda digest: self._number(str(digest)),
            digests=self._digests,
            here=self._here,
            sizes=self._sizes,
            used=self._used,
            closure=self._closure,
            weights=self._weights,
            names=names,
            pinned=kept,
            leased=set(map(self._number, leased)),
        )

    def made(self) -> AbstractSet[int]:
        """What was made here of others."""
        links = self._links.values()
        return {child for each in links for child, rule in each if rule == "made"}

    def _names_by_number(self) -> dict[int, list[str]]:
        """All names, complete or not, by what they mean; sorted."""
        if self._named is None:
            found = defaultdict[int, list[str]](list)
            for name in sorted(self._entries):
                found[self._number(self._entries[name].digest)].append(name)
            self._named = dict(found)
        return self._named

    def repositories(self) -> set[str]:
        """Those that have a complete name."""
        return {entry.repository for entry in self._entries.values() if entry.complete}

    def shown(self, visible: Collection[str] | None) -> list[Shown]:
        """The complete names of these repositories (None: of all), sorted.

        What they share with images that are not shown counts as their own.
        """
        if self._owners is None or self._owners.visible != visible:
            self._owners = self._counted(visible)
        own, rows = self._owners.own, self._rows
        found = []
        for entry in self._owners.entries:
            digest = entry.digest
            image, bytes_ = self._images[digest], own[digest]
            row = rows.get(entry.name)
            if row is None or row.image is not image or row.own != bytes_:
                row = rows[entry.name] = Shown(entry, image, bytes_)
            found.append(row)
        return found

    def _counted(self, visible: Collection[str] | None) -> _Owners:
        entries = [
            entry
            for entry in self._entries.values()
            if entry.complete and (visible is None or entry.repository in visible)
        ]
        entries.sort()
        sizes, users = self._sizes, [0] * len(self._sizes)
        images = [self._image(digest) for digest in {entry.digest for entry in entries}]
        for image in images:
            for number in image.closure:
                users[number] += 1
        own = {
            image.digest: sum([sizes[number] for number in image.closure if users[number] == 1])
            for image in images
        }
        return _Owners(visible, entries, own)

    def _image(self, digest: str) -> Image:
        image = self._images.get(digest)
        if image is None:
            image = self._made(digest, self._closure(self._number(digest)))
            self._images[digest] = image
        return image

    def _made(self, digest: str, closure: tuple[int, ...]) -> Image:
        size = sum(map(self._sizes.__getitem__, closure))
        used = max(map(self._used.__getitem__, closure))
        whole_ones = self._whole_children(self._number(digest), closure)
        return Image(digest, closure, size, used, whole_ones)

    def _closure(self, root: int) -> tuple[int, ...]:
        known = self._closures.get(root)
        if known is None:
            known = self._closures[root] = self._reachable(root)
        return known

    def _reachable(self, root: int) -> tuple[int, ...]:
        found, waiting = {root}, [root]
        while waiting:
            for child, _ in self._links.get(waiting.pop(), ()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return tuple(found)

    def _whole_children(self, root: int, closure: Iterable[int]) -> frozenset[str]:
        children = [child for child, rule in self._links.get(root, ()) if rule == "any"]
        if not children:
            return frozenset()
        held = {number for number in closure if self._here[number]}
        complete = whole(held, self._needs(closure))
        return frozenset(self._digests[child] for child in children if child in complete)

    def _needs(self, parents: Iterable[int]) -> Iterator[tuple[int, int, str]]:
        for parent in parents:
            for child, rule in self._links.get(parent, ()):
                if rule != "made":
                    yield parent, child, rule
