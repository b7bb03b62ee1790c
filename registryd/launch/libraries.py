"""This machine's libraries in the place of an image's of the same soname.

Invariants:
- a library of the machine lies over every file that the image's loader may take for its soname, so
  that a program of the image, unchanged, gets the machine's;
- where the image has none, and for what the machine's libraries need besides, there is one folder
  of our own, at the head of LD_LIBRARY_PATH;
- glibc itself is never brought along: a process has the one of its image;
- nothing is replaced where the versions say that it will not do: that is an error before the start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from registryd.launch.edits import Bind, Edits, EnvChange
from registryd.launch.errors import LaunchRefused
from registryd.launch.image_tree import ImageTree
from registryd.launch.loader import LibraryFile, Loader

#: How alike two versions must be: ``major``: the first number; ``full``: the machine's second
#: number is not below the image's; ``strict``: the second numbers are equal.
POLICIES: Final = ("major", "full", "strict")
#: The folder of libraries that the image has not.
FOLDER: Final = "/run/registryd/lib"
_ENV: Final = (EnvChange("LD_LIBRARY_PATH", FOLDER, how="prepend"),)
#: Libraries that are brought along with those that were asked for; Debian's MPICH needs 60.
ALONG_LIMIT: Final = 500

#: Parts of glibc, which must fit the image's own loader.
_GLIBC = re.compile(
    r"(?:lib(?:c|m|mvec|pthread|dl|rt|util|resolv|anl|nsl|BrokenLocale|thread_db|nss_\w+)\.so"
    r"|ld(?:-linux.*|64)\.so)(?:\.[0-9]+)*"
)
_VERSION = re.compile(r"\.so\.([0-9]{1,9}(?:\.[0-9]{1,9})*)")


@dataclass(frozen=True, slots=True)
class Replacing:
    """A library that takes the place of ``name``; ``abi`` is one of POLICIES."""

    file: LibraryFile
    name: str
    abi: str


@dataclass(frozen=True, slots=True)
class Needs:
    """What a module or device wants of libraries, of whichever image; ``who`` is its name.

    ``adding`` has names of our own folder; ``search`` more folders of the image, with ``*`` for any
    one name; ``along`` takes what the libraries need and the image lacks.
    """

    who: str
    replacing: tuple[Replacing, ...] = ()
    adding: tuple[tuple[str, LibraryFile], ...] = ()
    search: tuple[str, ...] = ()
    along: bool = True


@dataclass(frozen=True, slots=True)
class Placed:
    """Binds and variables for the libraries, and what is worth a line."""

    edits: Edits = field(default_factory=Edits)
    notes: tuple[str, ...] = ()


def placed(
    needs: Iterable[Needs], *, here: Loader, image: ImageTree, library_path: str = ""
) -> Placed:
    """What puts libraries of this machine into an image whose LD_LIBRARY_PATH is given.

    Reads files. Raises LaunchRefused where a version does not allow its library to be replaced.
    """
    over: dict[str, Bind] = {}
    folder: dict[str, LibraryFile] = {}
    notes: list[str] = []
    first = library_path.split(":")
    for each in needs:
        search = [path for pattern in each.search for path in image.folders(pattern)]
        loader = Loader(image, first=[*first, *search])
        try:
            _place(each, here, loader, over, folder, notes)
        except LaunchRefused as error:
            raise LaunchRefused(f"{each.who}: {error}") from None
    inside = [Bind(file.path, f"{FOLDER}/{name}", read_only=True) for name, file in folder.items()]
    return Placed(Edits(binds=(*over.values(), *inside), env=_ENV if inside else ()), tuple(notes))


def seen_already(there: Callable[[str], bool]) -> Edits:
    """What is left to do where the libraries are in place, as others of the same job found them;
    ``there`` says whether a path is."""
    return Edits(env=_ENV if there(FOLDER) else ())


def _place(
    each: Needs,
    here: Loader,
    image: Loader,
    over: dict[str, Bind],
    folder: dict[str, LibraryFile],
    notes: list[str],
) -> None:
    """Adds what one module needs. Raises LaunchRefused."""
    for wish in each.replacing:
        found = image.named(wish.name, wish.file.library)
        for old in found:
            _check(wish, old)
            over[old.path] = Bind(wish.file.path, old.path, read_only=True)
        if not found:
            folder.setdefault(wish.name, wish.file)
    for name, file in each.adding:
        folder.setdefault(name, file)
    brought = {wish.name: wish.file for wish in each.replacing} | dict(each.adding)
    needed, lacking = _needed(brought, here, image)
    if each.along:
        folder |= {name: file for name, file in needed.items() if name not in folder}
    notes += [f"{each.who}: {note}" for note in lacking]


def version_of(file: LibraryFile) -> tuple[int, ...]:
    """The numbers behind ``.so`` in the name of the file, or else in the soname."""
    for name in (file.path.rpartition("/")[2], file.library.soname):
        match = _VERSION.search(name)
        if match:
            return tuple(int(number) for number in match[1].split("."))
    return ()


def _check(each: Replacing, old: LibraryFile) -> None:
    """Whether the machine's library may take the place of the image's. Raises LaunchRefused."""
    new, there = version_of(each.file), version_of(old)
    allowed = not new or not there or new[0] == there[0]
    if each.abi != "major":
        allowed = allowed and len(new) > 1 and len(there) > 1
        fits = new[1:2] >= there[1:2] if each.abi == "full" else new[1:2] == there[1:2]
        allowed = allowed and fits
    if not allowed:
        raise LaunchRefused(
            f"{each.file.path} of this machine cannot replace {old.path} of the image"
            f" (abi: {each.abi} compares {_shown(new)} with {_shown(there)}): leave the module"
            " out with --module none"
        )


def _shown(version: Iterable[int]) -> str:
    return ".".join(map(str, version)) or "no version"


def _needed(
    brought: Mapping[str, LibraryFile], here: Loader, image: Loader
) -> tuple[dict[str, LibraryFile], tuple[str, ...]]:
    """What these libraries need and the image lacks; and a line for what nobody has."""
    extra: dict[str, LibraryFile] = {}
    lacking: dict[str, str] = {}
    waiting = list(brought.values())
    seen = set(brought)
    while waiting:
        user = waiting.pop()
        for name in user.library.needed:
            if name in seen:
                continue
            seen.add(name)
            if image.named(name, user.library):
                continue
            if name.startswith("libc.so."):
                _without_glibc(user, name)
            own = () if _GLIBC.fullmatch(name) else here.named(name, user.library)
            if not own:
                lacking[name] = user.path
            elif len(extra) < ALONG_LIMIT:
                extra[name] = own[0]
                waiting.append(own[0])
    notes = tuple(
        f"{path} needs {name}, which the image lacks and nobody brings"
        for name, path in lacking.items()
    )
    return extra, notes


def _without_glibc(user: LibraryFile, name: str) -> None:
    raise LaunchRefused(
        f"{user.path} of this machine needs {name}, which the image has not (it has another C"
        " library than glibc, or one for another machine): leave the module out with --module none"
    )
