"""What a command sees of files: the image, and over it the mounts, as steps in their order.

An image is read only, so a place that it lacks cannot be made in it. Where one is needed, the
nearest folder that is there is *opened*: a small tmpfs takes its place, with each of its entries
bound back and the missing names beside them. With a writable layer over the image nothing has to
be opened.

Invariants:
- a target's links are followed inside the image alone: an absolute one begins at its root;
- nothing is ever made in a folder of the machine: a place that a bind lacks is an error;
- later steps lie on top of earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from registryd.launch.errors import LaunchRefused
from registryd.launch.files import Files, Machine

#: Links in one path: as many as Linux follows.
LINKS_LIMIT: Final = 40

#: ``overlay``: the image under a layer in memory; ``seal``: nothing more is made in a tmpfs.
Action = Literal["bind", "overlay", "tmpfs", "folder", "point", "link", "write", "seal"]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do at a path of the image: with a source, or a text for a link and a file."""

    action: Action
    target: str
    source: str = ""
    text: str = ""
    read_only: bool = False
    devices: bool = False
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount that is wanted: of a source, of a text, or else an empty tmpfs.

    What is ``optional`` is left out where it does not fit. With a ``link``, which has a place in a
    tmpfs only, it is no mount but that.
    """

    target: str
    source: str = ""
    text: str | None = None
    link: str = ""
    read_only: bool = False
    devices: bool = False
    optional: bool = False
    mode: int = 0o755


def steps(
    image: Files, machine: Machine, mounts: Sequence[Mount], *, writable: bool
) -> tuple[Step, ...]:
    """How to build the view. Raises LaunchRefused for a mount that has no place."""
    view = _View(image, machine, writable=writable)
    for mount in mounts:
        view.add(mount)
    return view.steps()


class _View:
    """The view while it is planned."""

    def __init__(self, image: Files, machine: Machine, *, writable: bool) -> None:
        self._image = image
        self._machine = machine
        self._writable = writable
        self._opened: set[str] = set()
        self._made: dict[str, Step] = {}
        self._mounts: dict[str, Mount] = {}
        self._steps: list[Step] = []

    def add(self, mount: Mount) -> None:
        """Put one more mount on top. Raises LaunchRefused."""
        if mount.link:
            self._steps.append(Step("link", mount.target, text=mount.link))
            return
        folder = self._is_folder(mount)
        if folder is None:
            if mount.optional:
                return
            raise LaunchRefused(f"{mount.source} is not there: it cannot be bound")
        try:
            target = self._place(mount.target, folder=folder)
        except LaunchRefused:
            if mount.optional:
                return
            raise
        self._mounts.pop(target, None)
        self._mounts[target] = mount
        self._steps.append(_step(mount, target))

    def steps(self) -> tuple[Step, ...]:
        """All of it, from the root on."""
        made = [self._made[path] for path in sorted(self._made, key=_depth)]
        root = self._image.root
        if self._writable:
            return (Step("overlay", "/", root), *made, *self._steps)
        begun: list[Step] = []
        if "/" not in self._opened:
            begun.append(Step("bind", "/", root, read_only=True))
        opened = sorted(self._opened, key=_depth)
        for folder in opened:
            begun += self._reopened(folder)
        seals = [Step("seal", folder) for folder in opened]
        return (*begun, *made, *seals, *self._steps)

    def _reopened(self, folder: str) -> list[Step]:
        """A tmpfs with the entries of the image's own folder."""
        found = [Step("tmpfs", folder)]
        for name in self._image.names(folder):
            path = _joined(folder, name)
            kind = self._image.kind(path)
            if kind == "link":
                found.append(Step("link", path, text=self._image.link(path)))
                continue
            found.append(Step("folder" if kind == "folder" else "point", path))
            if path in self._mounts:  # nothing of it will be seen
                continue
            found.append(Step("bind", path, self._image.root + path, read_only=True))
        return found

    def _is_folder(self, mount: Mount) -> bool | None:
        """Whether a folder is needed, or a file; None where there is no source."""
        if mount.text is not None:
            return False
        if not mount.source:
            return True
        kind = self._machine.there(mount.source)
        return None if kind == "none" else kind == "folder"

    def _place(self, target: str, *, folder: bool) -> str:
        """The path of a mount without links, which is there from now on. Raises LaunchRefused."""
        waiting = target.split("/")[::-1]
        here, links = "/", 0
        while waiting:
            name = waiting.pop()
            if name in ("", "."):
                continue
            if name == "..":
                here = _parent(here)
                continue
            if here in self._mounts:
                return self._below(here, [name, *waiting[::-1]], target, folder=folder)
            path = _joined(here, name)
            kind = self._kind(path)
            if kind == "none":
                return self._missing(here, [name, *waiting[::-1]], target, folder=folder)
            if kind == "link":
                links += 1
                if links > LINKS_LIMIT:
                    raise LaunchRefused(f"{target} is a link in the image that turns in a circle")
                text = self._image.link(path)
                here = "/" if text.startswith("/") else here
                waiting += text.split("/")[::-1]
                continue
            if kind == "file" and any(each not in ("", ".") for each in waiting):
                raise LaunchRefused(f"{target} has no place in the image: {path} is a file there")
            here = path
        _check_kind(target, self._kind(here) == "folder", folder)
        return here

    def _kind(self, path: str) -> str:
        made = self._made.get(path)
        if made is not None:
            return "folder" if made.action == "folder" else "file"
        if path in self._mounts:
            return "folder" if self._is_folder(self._mounts[path]) else "file"
        return self._image.kind(path)

    def _missing(self, here: str, names: Sequence[str], target: str, *, folder: bool) -> str:
        """Names that the image lacks, made in a folder of it that is opened for them."""
        if here not in self._made and not self._writable:
            self._opened.add(here)

        def make(path: str, *, last: bool) -> None:
            self._made[path] = Step("folder" if folder or not last else "point", path)

        return _chain(here, names, target, make)

    def _below(self, here: str, names: Sequence[str], target: str, *, folder: bool) -> str:
        """A place below an earlier mount: made in a tmpfs, found in a folder of the machine."""
        mount = self._mounts[here]
        if mount.text is not None:
            raise LaunchRefused(f"{target} has no place: {here} is a file")
        if mount.source:
            source = _chain(mount.source, names, target)
            kind = self._machine.kind(source)
            if kind not in ("folder", "file") or self._machine.real(source) != source:
                raise LaunchRefused(
                    f"{target} has no place: {here} is {mount.source} of this machine, which has"
                    f" no {'/'.join(names)} (make it there, or bind to another place)"
                )
            _check_kind(target, kind == "folder", folder)
            return _chain(here, names, target)

        def make(path: str, *, last: bool) -> None:
            self._steps.append(Step("folder" if folder or not last else "point", path))

        return _chain(here, names, target, make)


def _step(mount: Mount, target: str) -> Step:
    """What is done for a mount."""
    if mount.text is not None:
        return Step("write", target, text=mount.text, read_only=True)
    if not mount.source:
        return Step("tmpfs", target, mode=mount.mode)
    return Step("bind", target, mount.source, read_only=mount.read_only, devices=mount.devices)


def _chain(
    here: str,
    names: Sequence[str],
    target: str,
    make: Callable[..., None] | None = None,
) -> str:
    """The path of these names below a folder; each step of the way is told to ``make``."""
    kept = [name for name in names if name not in ("", ".")]
    if ".." in kept:
        raise LaunchRefused(f"{target} has no place in the image: a link there leads up again")
    for at, name in enumerate(kept, 1):
        here = _joined(here, name)
        if make is not None:
            make(here, last=at == len(kept))
    return here


def _check_kind(target: str, is_folder: bool, wanted: bool) -> None:
    """Raises LaunchRefused where a file is to lie on a folder, or a folder on a file."""
    if is_folder != wanted:
        kinds = ("folder", "file") if is_folder else ("file", "folder")
        raise LaunchRefused(f"{target} is a {kinds[0]} in the image, its source is a {kinds[1]}")


def _joined(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _depth(path: str) -> tuple[int, str]:
    return (0 if path == "/" else path.count("/")), path
