"""A plan with the small files by which apptainer, enroot and charliecloud start the image.

Invariants:
- layers and configuration alone decide: the same files come of them, whoever makes them, whatever
  the image is called and however its layers are compressed;
- what belongs to those tools is replaced, everything else is added where nothing is: no file of
  the image changes;
- a link in the way is followed inside the image; what has no place there is left out;
- each path is there once, and its folder comes before it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from registryd.images.dressing import charliecloud, enroot, singularity
from registryd.images.dressing.pieces import Piece, folder
from registryd.images.layers.headers import FILE, FOLDER, SYMLINK, Entry, way_of
from registryd.images.layers.names import Names
from registryd.images.layers.plan import Named, Plan
from registryd.oci.image_config import ImageConfig

#: What is taken away first: it belongs to the tools that we write it for.
REPLACED: Final = (singularity.HOME, "etc/rc", "etc/fstab", "etc/environment")
#: What runtimes mount on. A read-only image has to have it.
_PLACES: Final = (
    folder("dev"),
    folder("proc", 0o555),
    folder("sys", 0o555),
    folder("run"),
    folder("tmp", 0o1777),
    folder("var/tmp", 0o1777),
    folder("root", 0o700),
    folder("home"),
    *(Piece(f"etc/{name}") for name in ("group", "hostname", "hosts", "passwd", "resolv.conf")),
)
#: So many folders of a configuration are made: real ones have a handful.
_VOLUMES_LIMIT: Final = 256
_SECOND: Final = 10**9
_TIME_LIMIT: Final = 2**32 - 1


def dress(plan: Plan, config: ImageConfig) -> Plan:
    """The plan with those files, for an image with this configuration."""
    dressing = _Dressing(Names(plan), created(config) * _SECOND)
    gone = dressing.take_away(REPLACED)
    return dressing.put(_pieces(config), without(plan, gone) if gone else plan)


def with_places(plan: Plan, config: ImageConfig) -> Plan:
    """The plan with what runtimes mount on, and the folders that the configuration names."""
    dressing = _Dressing(Names(plan), created(config) * _SECOND)
    return dressing.put((*_PLACES, *map(folder, _folders(config))), plan)


def created(config: ImageConfig) -> int:
    """When an image was made, in seconds that 32 bits hold; 0 where it does not say so."""
    try:
        said = datetime.fromisoformat(config.created)
    except ValueError:
        return 0
    aware = said if said.tzinfo else said.replace(tzinfo=UTC)
    return min(max(int((aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()), 0), _TIME_LIMIT)


def without(plan: Plan, gone: Sequence[bytes]) -> Plan:
    """The plan without these paths and what is below them; other names of a file keep it."""
    exact, below = frozenset(gone), tuple(each + b"/" for each in gone)

    def lost(path: bytes) -> bool:
        return path in exact or path.startswith(below)

    heirs: dict[bytes, bytes] = {}
    links = []
    for path, first in plan.links:
        if lost(path):
            continue
        if not lost(first):
            links.append((path, first))
        elif heirs.setdefault(first, path) != path:
            links.append((path, heirs[first]))

    def kept(named: Sequence[Named]) -> Iterator[Named]:
        for each in named:
            path = heirs.get(each.path, each.path)
            if not lost(path):
                yield Named(path, each.entry)

    return Plan(
        tuple(kept(plan.folders)),
        tuple(kept(plan.others)),
        tuple(tuple(kept(layer)) for layer in plan.files),
        tuple(links),
        tuple((named, content) for named, content in plan.extras if not lost(named.path)),
    )


def _pieces(config: ImageConfig) -> Iterator[Piece]:
    yield from singularity.pieces(config)
    yield from enroot.pieces(config, [f"/{path}" for path in _volumes(config)])
    yield from charliecloud.pieces(config)
    yield from _PLACES
    yield from map(folder, _folders(config))


def _folders(config: ImageConfig) -> list[str]:
    working = _inside(config.working_dir)
    return [*_volumes(config), *([working] if working else ())]


def _volumes(config: ImageConfig) -> list[str]:
    named = dict.fromkeys(map(_inside, config.volumes[:_VOLUMES_LIMIT]))
    return [path for path in named if path]


def _inside(path: str) -> str:
    """A path of the configuration from the top of the image; empty where it is none."""
    return posixpath.normpath(f"/{path}").lstrip("/") if "\0" not in path else ""


@dataclass
class _Dressing:
    """What is added to the names that are there."""

    names: Names
    when: int
    folders: list[Named] = field(default_factory=list)
    links: list[Named] = field(default_factory=list)
    files: list[tuple[Named, bytes]] = field(default_factory=list)

    def take_away(self, paths: Sequence[str]) -> list[bytes]:
        """Forget what is at these places, but for a folder where a file belongs."""
        gone = []
        for text in paths:
            path = self.names.place(way_of(text.encode()))
            there = self.names.known.get(path) if path is not None else None
            if path is None or there is None:
                continue
            if there.kind != FOLDER or text == singularity.HOME:
                gone.append(path)
        if gone:
            self.names.forget(gone)
        return gone

    def put(self, pieces: Iterable[Piece], plan: Plan) -> Plan:
        """The plan with these pieces where nothing is."""
        for piece in pieces:
            self._add(piece)
        return replace(
            plan,
            folders=(*plan.folders, *self.folders),
            others=(*plan.others, *self.links),
            extras=(*plan.extras, *self.files),
        )

    def _add(self, piece: Piece) -> None:
        # What is mounted on may be a link: then it is mounted where that leads.
        mounted = piece.kind == FILE and not piece.content
        place = self.names.end if mounted else self.names.place
        try:
            path = place(way_of(piece.path.encode()), self._implied)
        except ValueError:
            return  # a folder of the configuration that no file system takes
        if path is None or path in self.names.known:
            return
        entry = self._entry(piece)
        named = Named(path, entry)
        self.names.known[path] = entry
        if piece.kind == FOLDER:
            self.folders.append(named)
        elif piece.kind == SYMLINK or not entry.size:
            self.links.append(named)
        else:
            self.files.append((named, piece.content))

    def _implied(self, path: bytes) -> Entry:
        entry = self._entry(folder(""))
        self.folders.append(Named(path, entry))
        return entry

    def _entry(self, piece: Piece) -> Entry:
        content = piece.content
        size = len(content) if piece.kind == FILE else 0
        target = content if piece.kind == SYMLINK else b""
        return Entry((), piece.kind, piece.mode, mtime=self.when, size=size, link=target)
