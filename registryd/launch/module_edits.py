"""From modules and devices to what is added to a run on this machine.

Invariants:
- what a module names without ``?`` and this machine lacks is an error before anything starts;
- a variable of the caller's is used where the list below or the module's file allows it, and what
  it holds can neither be a wildcard nor lead out with ``..``.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from registryd.launch.cdi import Devices, device_edits
from registryd.launch.edits import Bind, Device, Edits, EnvChange, together
from registryd.launch.errors import LaunchRefused
from registryd.launch.image_tree import ImageTree
from registryd.launch.libraries import Needs, Replacing
from registryd.launch.loader import LibraryFile, Loader
from registryd.launch.module_file import Module, Place, Variables, Wish

#: Variables of the caller that every module may use.
HOST_VARIABLES: Final = (
    *("HOME", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR", "SCRATCH", "WORK", "PROJECT"),
    *("SLURM_*", "PMI_*", "PMIX_*", "PALS_*", "PBS_*", "FLUX_*", "LSB_*"),
)
#: Files that one wildcard may mean, and device nodes of one folder.
MATCHES_LIMIT: Final = 1000

_DIGITS = re.compile(r"([0-9]{1,18})")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Here:
    """This machine: the caller's environment and groups, and the devices that files name."""

    environ: Mapping[str, str]
    groups: Sequence[int]
    devices: Devices
    loader: Loader


@dataclass(frozen=True, slots=True)
class Added:
    """What modules and devices add to a run in any image, what they need of libraries (for
    ``libraries.placed``, when the image's files are there), and a line for each thing left out."""

    edits: Edits = field(default_factory=Edits)
    libraries: tuple[Needs, ...] = ()
    notes: tuple[str, ...] = ()


def added(modules: Iterable[Module], devices: Sequence[str], here: Here) -> Added:
    """What these modules, and devices by their names, add to a run.

    ``devices`` are names of the Container Device Interface or paths of device nodes. Looks at this
    machine's files. Raises LaunchRefused.
    """
    parts = []
    for module in modules:
        who = f"module {module.name}"
        try:
            parts += [_module(module, who, here), _cdi(module.cdi, who, here)]
        except LaunchRefused as error:
            raise LaunchRefused(f"{who}: {error}") from error
    nodes = [_node(each) for each in devices if each.startswith("/")]
    parts.append(Added(Edits(devices=tuple(_nodes(nodes, {})))))
    parts.append(_cdi([each for each in devices if not each.startswith("/")], "--device", here))
    notes = dict.fromkeys(note for each in parts for note in each.notes)
    needs = tuple(need for each in parts for need in each.libraries)
    return Added(together(each.edits for each in parts), needs, tuple(notes))


def _node(words: str) -> Place:
    """A device node as docker's flag names it: ``/dev/x[:TARGET[:PERMISSIONS]]``.

    Raises LaunchRefused.
    """
    source, _, rest = words.partition(":")
    if not os.path.exists(source):
        raise LaunchRefused(f"--device {source} is not on this machine")
    return Place(glob.escape(source), rest.partition(":")[0])


def _module(module: Module, who: str, here: Here) -> Added:
    """What one module adds, but for its devices by name."""
    allowed = usable(here.environ, (*HOST_VARIABLES, *module.variables))
    edits = Edits(
        tuple(_binds(module.binds, allowed)),
        tuple(_changes(module.env, here.environ, allowed)),
        tuple(_nodes(module.devices, allowed)),
    )
    wishes = module.libraries
    needs = Needs(
        who,
        tuple(
            Replacing(file, wish.soname or file.name, wishes.abi)
            for wish, file in _found(wishes.replace, here.loader, allowed)
        ),
        tuple(
            (wish.soname or file.name, file)
            for wish, file in _found(wishes.add, here.loader, allowed)
        ),
        wishes.search,
        wishes.dependencies,
    )
    return Added(edits, (needs,) if needs.replacing or needs.adding else ())


def usable(environ: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """The variables whose names are among the patterns."""
    wanted = tuple(patterns)
    return {
        name: value
        for name, value in environ.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)
    }


# --- paths and variables -------------------------------------------------------------------------


def filled(words: str, allowed: Mapping[str, str], *, pattern: bool = False) -> str:
    """The text with its ``${NAME}``; in a pattern a value's wildcards are letters.

    Raises LaunchRefused for a variable that is not set, or may not be used.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in allowed:
            raise LaunchRefused(f"{words}: {match[1]} is not set here, or not in variables:")
        return glob.escape(allowed[match[1]]) if pattern else allowed[match[1]]

    return _VARIABLE.sub(value, words)


def _sources(path: str, optional: bool, allowed: Mapping[str, str]) -> tuple[str, ...]:
    """The files of this machine that a path means."""
    try:
        pattern = filled(path.replace("?", "[?]"), allowed, pattern=True)
    except LaunchRefused:
        if optional:
            return ()
        raise
    found = sorted(glob.glob(pattern))[: MATCHES_LIMIT + 1]
    if len(found) > MATCHES_LIMIT:
        raise LaunchRefused(f"{path} means more than {MATCHES_LIMIT} files")
    if not found and not optional:
        raise LaunchRefused(
            f"{path} is not on this machine (write {path}? for what may be missing)"
        )
    return tuple(found)


def _pairs(places: Iterable[Place], allowed: Mapping[str, str]) -> Iterator[tuple[Place, str, str]]:
    """Each place with a source and a target; a wildcard's files go into the target."""
    for each in places:
        several = "*" in each.source or "[" in each.source
        for source in _sources(each.source, each.optional, allowed):
            target = filled(each.target, allowed) or source
            if several and each.target:
                target = f"{target}/{PurePosixPath(source).name}"
            yield each, source, target


def _binds(places: Iterable[Place], allowed: Mapping[str, str]) -> Iterator[Bind]:
    for each, source, target in _pairs(places, allowed):
        yield Bind(source, target, read_only=each.mode == "ro", optional=each.optional)


def _nodes(places: Iterable[Place], allowed: Mapping[str, str]) -> Iterator[Device]:
    """The device nodes; of a folder, those directly in it."""
    for each, source, target in _pairs(places, allowed):
        inside = sorted(os.listdir(source))[:MATCHES_LIMIT] if os.path.isdir(source) else [""]
        nodes = [
            name for name in inside if _is_node(os.path.join(source, name) if name else source)
        ]
        if not nodes and not each.optional:
            raise LaunchRefused(f"{source} is no device")
        for name in nodes:
            end = f"/{name}" if name else ""
            yield Device(source + end, target + end, read_only=each.mode == "ro")


def _is_node(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _changes(
    env: Variables, environ: Mapping[str, str], allowed: Mapping[str, str]
) -> Iterator[EnvChange]:
    """The changes of the environment, in the order of the module's fields."""
    for name, value in sorted(usable(environ, env.pass_).items()):
        yield EnvChange(name, value)
    for pattern in env.unset:
        for name in sorted(usable(environ, [pattern])) if "*" in pattern else [pattern]:
            yield EnvChange(name, how="unset")
    for how in ("set", "default", "prepend", "append"):
        for name, value in (getattr(env, how) or {}).items():
            yield EnvChange(name, filled(value, allowed), how=how)


# --- libraries -----------------------------------------------------------------------------------


def _found(
    wishes: Iterable[Wish], loader: Loader, allowed: Mapping[str, str]
) -> Iterator[tuple[Wish, LibraryFile]]:
    """The libraries of this machine that are wished for; for one name, the first one's newest."""
    seen: set[tuple[str, tuple[int, str, int]]] = set()
    for wish in wishes:
        for path in sorted(_sources(wish.path, wish.optional, allowed), key=_age, reverse=True):
            file = loader.library(path)
            if file is None:
                raise LaunchRefused(f"{path} is no shared library")
            key = wish.soname or file.name, file.library.abi
            if key not in seen:
                seen.add(key)
                yield wish, file


def _age(path: str) -> list[tuple[int, str]]:
    """By this a path's numbers are compared as numbers: 8.1.9 is older than 8.1.28."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(path)]


def _cdi(names: Sequence[str], who: str, here: Here) -> Added:
    """What devices of the Container Device Interface add."""
    if not names:
        return Added()
    own = device_edits(names, here.devices, groups=here.groups)
    files = [each for path in own.libraries if (each := here.loader.library(path)) is not None]
    adding = {each.name: each for each in files}
    known = adding | {each.path.rpartition("/")[2]: each for each in files}
    for name, target in own.aliases:
        if target in known:
            adding.setdefault(name, known[target])
    needs = (Needs(who, adding=tuple(adding.items()), along=False),) if adding else ()
    return Added(own.edits, needs, own.notes)


def this_machine(environ: Mapping[str, str], groups: Sequence[int], devices: Devices) -> Here:
    """This machine, as the caller's environment and groups say."""
    return Here(environ, groups, devices, Loader(ImageTree(Path("/"))))
