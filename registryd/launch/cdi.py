"""Devices of the Container Device Interface: from a name to what it adds to a run.

Invariants:
- of two folders the later one decides; a device that one folder has twice is an error when it is
  asked for, and no sooner: a broken file of another vendor stops nobody;
- what a device asks for and this machine lacks is an error; what needs rights that a user has not
  (hooks, groups, shares of caches, network devices) is left out, and said in one line;
- no hook is run. What nvidia-ctk's hooks ``update-ldcache`` and ``create-symlinks`` are for is had
  by a folder of libraries for LD_LIBRARY_PATH.

Specification: Container Device Interface, "Overview" and "Error Handling".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from registryd.launch.cdi_file import (
    CdiFile,
    CdiHook,
    ContainerEdits,
    DeviceNode,
    Mount,
    check_device,
    check_kind,
    read_cdi,
)
from registryd.launch.edits import Bind, Device, Edits, EnvChange
from registryd.launch.errors import LaunchRefused
from registryd.launch.plain_values import text_of
from registryd.oci.errors import UsageError

#: Files of a folder that are read.
FILES_LIMIT: Final = 1000
#: Every device of a kind, where the kind has none of that name.
ALL: Final = "all"
#: Names in an error, so that it stays one line.
_SHOWN: Final = 20

_TYPES: Final = {"b": stat.S_ISBLK, "c": stat.S_ISCHR, "u": stat.S_ISCHR, "p": stat.S_ISFIFO}
#: Programs whose hooks are known.
_NVIDIA: Final = ("nvidia-ctk", "nvidia-cdi-hook")
#: Hooks of theirs that do nothing for us: permissions of folders that we do not make, and a
#: parameter file of the driver.
_NEEDLESS: Final = ("chmod", "disable-device-node-modification")


@dataclass(frozen=True, slots=True)
class Found:
    """One device: its full name, and the file that it is in."""

    name: str
    file: CdiFile
    path: Path
    rank: int

    @property
    def edits(self) -> ContainerEdits:
        """What this device brings by itself."""
        short = self.name.partition("=")[2]
        return next(each.edits for each in self.file.devices if each.name == short)


@dataclass(frozen=True, slots=True)
class Devices:
    """All devices that this machine's files name; ``problems`` has a line for each bad file."""

    found: dict[str, Found] = field(default_factory=dict)
    twice: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def chosen(self, name: str) -> tuple[Found, ...]:
        """The device of this name, ``vendor.com/class=device``, or all of a kind.

        Raises LaunchRefused.
        """
        kind, short = parse_name(name)
        if name in self.twice:
            first, second = self.twice[name]
            raise LaunchRefused(f"device {name} is in {first} and in {second}: take one away")
        if name in self.found:
            return (self.found[name],)
        prefix = f"{kind}="
        every = [each for key, each in sorted(self.found.items()) if key.startswith(prefix)]
        unclear = [key for key in sorted(self.twice) if key.startswith(prefix)]
        if short == ALL and (every or unclear):
            return tuple(every) if not unclear else self.chosen(unclear[0])
        raise LaunchRefused(f"there is no device {name} ({self._there_is(kind)})")

    def _there_is(self, kind: str) -> str:
        """What there is instead, the kind's own devices first."""
        own = [name for name in sorted(self.found) if name.startswith(f"{kind}=")]
        names = own or sorted(self.found)
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        words = f"there is {shown}" if names else "no file names any device"
        return f"{words}; {self.problems[0]}" if self.problems else words


def parse_name(name: str) -> tuple[str, str]:
    """Kind and device of a full name. Raises LaunchRefused."""
    kind, mark, short = name.partition("=")
    try:
        if not mark:
            raise UsageError("has no =")
        return check_kind(kind), check_device(short)
    except UsageError:
        raise LaunchRefused(
            f"{name[:60]!r} is not a device (write vendor.com/class=name, or a path in /dev)"
        ) from None


def read_folders(folders: Sequence[Path]) -> Devices:
    """The devices in these folders, of which a later one decides. Reads files."""
    found: dict[str, Found] = {}
    twice: dict[str, tuple[Path, Path]] = {}
    problems: list[str] = []
    for rank, folder in enumerate(folders):
        for path in _files(folder, problems):
            try:
                file = read_cdi(text_of(path), in_json=path.suffix == ".json")
            except UsageError as error:
                problems.append(f"{path}: {error}")
                continue
            for device in file.devices:
                name = f"{file.kind}={device.name}"
                old = found.get(name)
                if old is not None and old.rank == rank:
                    twice.setdefault(name, (old.path, path))
                else:
                    twice.pop(name, None)
                    found[name] = Found(name, file, path, rank)
    for name in twice:
        del found[name]
    return Devices(found, twice, tuple(problems))


def _files(folder: Path, problems: list[str]) -> list[Path]:
    """The files of a folder, sorted; a folder that is not there has none."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{folder}: cannot be read: {error.strerror}")
        return []
    return [folder / name for name in names if name.endswith((".json", ".yaml"))][:FILES_LIMIT]


# --- edits -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceEdits:
    """What the devices add; ``libraries`` are files here to be found by their soname in the
    container, ``aliases`` more names of some of them; ``notes`` say what was left out."""

    edits: Edits = field(default_factory=Edits)
    libraries: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def device_edits(names: Iterable[str], devices: Devices, *, groups: Sequence[int]) -> DeviceEdits:
    """What the devices of these names add to a run; ``groups`` are those of the caller.

    A file's own edits come before those of the first of its devices. Looks at the machine's device
    nodes. Raises LaunchRefused.
    """
    chosen = {each.name: each for name in names for each in devices.chosen(name)}
    files: set[Path] = set()
    parts: list[tuple[Found, ContainerEdits]] = []
    for each in chosen.values():
        if each.path not in files:
            files.add(each.path)
            parts.append((each, each.file.edits))
        parts.append((each, each.edits))
    nodes: dict[str, Device] = {}
    binds: dict[str, Bind] = {}
    env: list[EnvChange] = []
    for found, edits in parts:
        for node in edits.nodes:
            nodes[node.path] = _device(found, node)
        for mount in edits.mounts:
            bind = _bind(found, mount)
            binds.pop(bind.target, None)
            binds[bind.target] = bind
        env += [EnvChange(*words.split("=", 1)) for words in edits.env]
    hooks = [hook for _, edits in parts for hook in edits.hooks]
    libraries, aliases = _loader_names(hooks, binds)
    whole = Edits(
        tuple(sorted(binds.values(), key=lambda bind: bind.target.count("/"))),
        tuple(env),
        tuple(nodes.values()),
    )
    notes = _left_out(hooks, [edits for _, edits in parts], groups)
    return DeviceEdits(whole, libraries, aliases, notes)


def _device(found: Found, node: DeviceNode) -> Device:
    """The device, when this machine has it as the file says."""
    source = node.host_path or node.path
    at = f"device {found.name}: {source}"
    try:
        there = os.stat(source)
    except OSError as error:
        raise LaunchRefused(f"{at}: {error.strerror} ({found.path} may be out of date)") from None
    kinds = _TYPES.values() if not node.type else (_TYPES[node.type],)
    if not any(each(there.st_mode) for each in kinds):
        raise LaunchRefused(f"{at} is no device of type {node.type or 'b, c or p'} ({found.path})")
    numbers = os.major(there.st_rdev), os.minor(there.st_rdev)
    if node.major and numbers != (node.major, node.minor):
        asked = f"{node.major}:{node.minor}"
        has = f"{numbers[0]}:{numbers[1]}"
        raise LaunchRefused(f"{at} is device {has}, but {found.path} says {asked}")
    return Device(source, node.path, read_only=node.permissions == "r")


def _bind(found: Found, mount: Mount) -> Bind:
    """The bind, when this machine has its source."""
    at = f"device {found.name}: {mount.host_path}"
    if mount.type not in ("", "none", "bind") and not {"bind", "rbind"} & set(mount.options):
        raise LaunchRefused(f"{at}: a mount of type {mount.type[:20]!r} is not made here")
    try:
        bind = Bind(mount.host_path, mount.container_path, read_only="ro" in mount.options)
        os.stat(bind.source)
    except OSError as error:
        raise LaunchRefused(f"{at}: {error.strerror} ({found.path} may be out of date)") from None
    return bind


def _nvidia(hook: CdiHook) -> tuple[str, tuple[str, ...]] | None:
    """Name and flags of one of nvidia's hooks; None for one of others."""
    if PurePosixPath(hook.path).name not in _NVIDIA:
        return None
    words = [word for word in hook.args[1:] if word != "hook"]
    return (words[0], tuple(words[1:])) if words else None


def _flags(words: Sequence[str], name: str) -> Iterator[str]:
    """The values of a flag: ``--folder X`` and ``--folder=X``, as often as it is there."""
    for number, word in enumerate(words):
        if word == f"--{name}" and number + 1 < len(words):
            yield words[number + 1]
        elif word.startswith(f"--{name}="):
            yield word.partition("=")[2]


def _loader_names(
    hooks: Iterable[CdiHook], binds: dict[str, Bind]
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """What the hooks would have made known to the loader: files here, and more names of them."""
    folders: set[str] = set()
    links: dict[str, str] = {}
    for hook in hooks:
        known = _nvidia(hook)
        if known is not None and known[0] == "update-ldcache":
            folders |= {each.rstrip("/") for each in _flags(known[1], "folder")}
        if known is not None and known[0] == "create-symlinks":
            for pair in _flags(known[1], "link"):
                target, _, link = pair.partition("::")
                links[PurePosixPath(link).name] = PurePosixPath(target).name
    sources = {target: bind.source for target, bind in binds.items() if ".so" in target}
    libraries = [
        source for target, source in sources.items() if target.rpartition("/")[0] in folders
    ]
    return tuple(libraries), tuple((name, of) for name, of in links.items() if ".so" in name)


def _left_out(
    hooks: Iterable[CdiHook], every: Sequence[ContainerEdits], groups: Sequence[int]
) -> tuple[str, ...]:
    """One line for each kind of thing that was asked for and is not done."""
    known = ("update-ldcache", "create-symlinks", *_NEEDLESS)
    asked = (_hook_words(hook) for hook in hooks if (_nvidia(hook) or ("",))[0] not in known)
    names = ", ".join(dict.fromkeys(asked))
    gids = sorted({gid for edits in every for gid in edits.gids if gid} - set(groups))
    lines = []
    if names:
        lines.append(f"hooks of devices are not run: {names}")
    if gids:
        lines.append(f"groups that a device asks for are not yours: {', '.join(map(str, gids))}")
    if any(edits.rdt is not None for edits in every):
        lines.append("intelRdt of a device is not applied")
    if any(edits.net for edits in every):
        lines.append("netDevices of a device are not moved into the container")
    return tuple(lines)


def _hook_words(hook: CdiHook) -> str:
    known = _nvidia(hook)
    return f"{PurePosixPath(hook.path).name} {known[0]}" if known else hook.path
