"""What the layers of an image are together: each path once, by the headers alone.

Image specification 1.1, "Applying Changesets" and "Whiteouts".

Invariants:
- a whiteout hides what layers below have, in whichever order it stands among its own layer's
  entries: what the same layer puts there stays;
- a link in the way to an entry is followed inside the image, as if its top were ``/``; the last
  part of a way is never followed;
- an entry takes the place of what is there, but a folder on a folder keeps what is in it;
- a hard link shares its file however many layers lie between, and after the first name is gone;
- the work is bounded: no image makes it more than STEPS_LIMIT.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, NoReturn

from registryd.images.errors import NotAnImage
from registryd.images.layers.headers import (
    DEPTH_LIMIT,
    FILE,
    FOLDER,
    LINK,
    PATH_LIMIT,
    SYMLINK,
    Entry,
    way_of,
)

WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
#: What aufs wrote beside the whiteouts: files that only hard links speak of.
_ASIDE: Final = b".wh..wh."
#: How many links may be followed on the way to one entry, as in Linux.
_LINKS_LIMIT: Final = 40
#: How many parts of names are looked at for one image: a hundred for each of the entries allowed.
STEPS_LIMIT: Final = 100_000_000
#: A folder that no layer speaks of.
_IMPLIED: Final = Entry((), FOLDER)


class _Place:
    """A name in a folder: what it means now, and the last layer that put something there."""

    __slots__ = ("children", "entry", "layer")

    def __init__(self, entry: Entry, layer: int) -> None:
        self.entry = entry
        self.layer = layer
        self.children: dict[bytes, _Place] | None = {} if entry.kind == FOLDER else None


class Named(NamedTuple):
    """A path of the image (its top is empty) and what it is."""

    path: bytes
    entry: Entry


@dataclass(frozen=True, slots=True)
class Plan:
    """An image's files, in the order in which they can be made.

    ``folders`` parents first; ``others`` have no bytes; ``files`` by layer, in the order in which
    their bytes come; ``links`` are further names of what is in those two: path, and the first name.
    ``extras`` are files that are in no layer, with their bytes.
    """

    folders: tuple[Named, ...]
    others: tuple[Named, ...] = ()
    files: tuple[tuple[Named, ...], ...] = ()
    links: tuple[tuple[bytes, bytes], ...] = ()
    extras: tuple[tuple[Named, bytes], ...] = ()

    @property
    def inodes(self) -> int:
        """How many there will be."""
        several = sum(map(len, self.files))
        return len(self.folders) + len(self.others) + several + len(self.extras)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        of_layers = sum(named.entry.size for layer in self.files for named in layer)
        return of_layers + sum(len(content) for _, content in self.extras)


def flatten(layers: Sequence[Iterable[Entry]], where: str) -> Plan:
    """The plan of an image with these layers, lowest first. Raises NotAnImage."""
    tree = _Tree(where)
    for number, entries in enumerate(layers):
        tree.begin(number)
        for entry in entries:
            tree.apply(entry)
    return _listed(tree.top, len(layers), where)


@dataclass
class _Tree:
    """The image as far as it was applied."""

    where: str
    top: _Place = field(default_factory=lambda: _Place(_IMPLIED, 0))
    layer: int = 0
    steps: int = 0
    #: What this layer took away, by its way: a hard link may still mean it.
    gone: dict[tuple[bytes, ...], _Place] = field(default_factory=dict)
    aside: dict[tuple[bytes, ...], _Place] = field(default_factory=dict)
    #: The folder of the last entry, which is mostly that of the next one too.
    near: tuple[tuple[bytes, ...], _Place] | None = None

    def begin(self, layer: int) -> None:
        self.layer = layer
        self.gone, self.near = {}, None

    def apply(self, entry: Entry) -> None:
        """Take in an entry of this layer."""
        way = entry.way
        if not way:
            if entry.kind != FOLDER:
                self._refuse("the top of the image is no folder")
            self.top.entry = entry
            return
        name = way[-1]
        if way[0].startswith(_ASIDE) and way[0] != OPAQUE:
            self.aside[way] = _Place(entry, self.layer)
        elif name.startswith(WHITEOUT):
            self._hide(way)
        elif entry.kind == LINK:
            self._put(way, self._target(entry))
        else:
            self._put(way, entry)

    def _put(self, way: tuple[bytes, ...], entry: Entry) -> None:
        folder = self._folder_of(way)
        children = folder.children
        assert children is not None  # noqa: S101 (_folder gives folders)
        name = way[-1]
        there = children.get(name)
        if there is not None:
            if there.children is not None and entry.kind == FOLDER:
                there.entry, there.layer = entry, self.layer
                return
            self.gone[way] = there
        children[name] = _Place(entry, self.layer)

    def _folder_of(self, way: tuple[bytes, ...]) -> _Place:
        """The folder that an entry is in, made where it is missing."""
        above = way[:-1]
        if self.near is not None and self.near[0] == above:
            return self.near[1]
        found = self._walk(above, make=True)
        assert found is not None  # noqa: S101 (it is made)
        self.near = (above, found)
        return found

    def _walk(self, way: tuple[bytes, ...], *, make: bool) -> _Place | None:
        """The folder of this way, links followed; None where it is missing and not to be made."""
        passed = [self.top]
        left = list(reversed(way))
        links = 0
        while left:
            self._count(1)
            part = left.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                if len(passed) > 1:
                    passed.pop()
                continue
            children = passed[-1].children
            assert children is not None  # noqa: S101 (only folders are passed)
            place = children.get(part)
            if place is not None and place.entry.kind == SYMLINK:
                links += 1
                if links > _LINKS_LIMIT:
                    self._refuse(f"the links of {_shown(way)} lead on and on")
                if place.entry.link.startswith(b"/"):
                    passed = [self.top]
                left += reversed(place.entry.link.split(b"/"))
                continue
            if place is None or place.children is None:
                if not make:
                    return None
                place = children[part] = _Place(_IMPLIED, self.layer)
            passed.append(place)
            if len(passed) > DEPTH_LIMIT:
                self._refuse(f"{_shown(way)} lies in more than {DEPTH_LIMIT} folders")
        if make:
            for place in passed:
                place.layer = self.layer
        return passed[-1]

    def _hide(self, way: tuple[bytes, ...]) -> None:
        """Obey a whiteout."""
        folder = self._walk(way[:-1], make=False)
        name = way[-1][len(WHITEOUT) :]
        if name in (b"", b".", b".."):
            self._refuse(f"{_shown(way)} hides no name")
        if folder is None or folder.children is None:
            return
        self.near = None
        if way[-1] == OPAQUE:
            self._clear(folder, way[:-1])
            return
        there = folder.children.get(name)
        if there is not None:
            self._drop(folder.children, name, (*way[:-1], name))

    def _clear(self, folder: _Place, way: tuple[bytes, ...]) -> None:
        """Take away everything in a folder that layers below put there."""
        left = [(folder, way)]
        while left:
            place, above = left.pop()
            if place.children is None:
                continue
            self._count(len(place.children))
            for name in list(place.children):
                child = place.children[name]
                if child.layer < self.layer:
                    self._drop(place.children, name, (*above, name))
                elif child.children:
                    left.append((child, (*above, name)))

    def _drop(self, children: dict[bytes, _Place], name: bytes, way: tuple[bytes, ...]) -> None:
        """Take away a name, but for what this layer has put there or below it."""
        there = children[name]
        if there.layer < self.layer:
            self.gone[way] = children.pop(name)
        elif there.children:
            self._clear(there, way)

    def _target(self, entry: Entry) -> Entry:
        """What a hard link means."""
        try:
            way = way_of(entry.link)
        except ValueError as error:
            self._refuse(f"{_shown(entry.way)} is a link: {error}")
        folder = self._walk(way[:-1], make=False) if way else self.top
        children = folder.children if folder is not None else None
        found = children.get(way[-1]) if children and way else self.top if not way else None
        found = found or self.aside.get(way) or self._was(way)
        if found is None:
            self._refuse(f"{_shown(entry.way)} is a link to {_shown(way)}, which is not there")
        if found.children is not None:
            self._refuse(f"{_shown(entry.way)} is a link to a folder")
        return found.entry

    def _was(self, way: tuple[bytes, ...]) -> _Place | None:
        """What this layer has taken away under a name."""
        for length in range(len(way), 0, -1):
            place = self.gone.get(way[:length])
            for part in way[length:]:
                place = place.children.get(part) if place and place.children else None
            if place is not None:
                return place
        return None

    def _count(self, steps: int) -> None:
        self.steps += steps
        if self.steps > STEPS_LIMIT:
            self._refuse("its links and whiteouts lead on and on")

    def _refuse(self, why: str) -> NoReturn:
        raise NotAnImage(f"{self.where}, layer {self.layer + 1}: {why}")


def _listed(top: _Place, layers: int, where: str) -> Plan:
    """Everything in order: by names, folders before what is in them, and files by their bytes."""
    folders, others, links = [], [], []
    files: list[list[Named]] = [[] for _ in range(layers)]
    first: dict[int, bytes] = {}
    left = [(b"", top)]
    while left:
        path, place = left.pop()
        if len(path) > PATH_LIMIT:
            raise NotAnImage(f"{where}: a path has more than {PATH_LIMIT} bytes")
        entry = place.entry
        if place.children is not None:
            folders.append(Named(path, entry))
            above = path + b"/" if path else b""
            children = sorted(place.children.items(), reverse=True)
            place.children = {}  # what was listed is let go: never the whole image twice
            left += [(above + name, child) for name, child in children]
        elif (known := first.setdefault(id(entry), path)) != path:
            links.append((path, known))
        elif entry.kind == FILE and entry.size:
            files[entry.layer].append(Named(path, entry))
        else:
            others.append(Named(path, entry))
    for each in files:
        each.sort(key=lambda named: named.entry.offset)
    return Plan(tuple(folders), tuple(others), tuple(map(tuple, files)), tuple(links))


def _shown(way: Sequence[bytes]) -> str:
    return repr(b"/".join(way)[:140].decode(errors="replace"))
