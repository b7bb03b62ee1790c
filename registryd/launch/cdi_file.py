"""One file of the Container Device Interface, as values (pure).

Invariants:
- a file is taken whole or not at all: an unknown key, a version that does not have what the file
  uses, or a name that the specification forbids is CdiFileWrong, with the way to the key;
- what is here is what the file says. Whether this machine has it is not looked at.

Specification: Container Device Interface 0.3.0 to 1.1.0, "CDI JSON Specification".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from registryd.launch.edits import absolute
from registryd.launch.plain_values import mapping_of_texts, number, without_nulls, yes_or_no
from registryd.oci.errors import UsageError
from registryd.tables import KeyWrong, list_of, one_of, read_table, table, text
from registryd.yaml_values import TEXT_LIMIT, read_yaml

VERSIONS: Final = (
    *("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0"),
    *("1.0.0", "1.1.0"),
)
#: What a file may use that says nothing newer.
EARLIEST: Final = "0.3.0"
#: When a hook is called (runtime specification 1.2, "POSIX-platform Hooks").
_HOOK_POINTS: Final = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
#: Characters of all annotations of one place (Kubernetes' limit, which the specification takes).
ANNOTATIONS_LIMIT: Final = 256 << 10
LARGEST_ID: Final = 2**32 - 1
LARGEST_NUMBER: Final = 2**31 - 1

_INNER = r"[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_KIND = re.compile(rf"{_INNER}/{_INNER}")
_DEVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?")
_ANNOTATION = re.compile(r"(?:[a-z0-9.-]{1,253}/)?[a-z0-9](?:[a-z0-9_.-]{0,61}[a-z0-9])?")
#: The two segments of a kind.
_VENDOR_LIMIT, _CLASS_LIMIT = 253, 63


class CdiFileWrong(UsageError):
    """Raised when a file is none of the Container Device Interface; names the key."""


def check_kind(kind: str) -> str:
    """``vendor.com/class``. Raises UsageError."""
    vendor, _, name = kind.partition("/")
    if not _KIND.fullmatch(kind) or len(vendor) > _VENDOR_LIMIT or len(name) > _CLASS_LIMIT:
        raise UsageError(f"{kind[:60]!r} is not a kind of devices (write vendor.com/class)")
    return kind


def check_device(name: str) -> str:
    """The name of a device within its kind. Raises UsageError."""
    if not _DEVICE.fullmatch(name):
        raise UsageError(f"{name[:60]!r} is not the name of a device (letters, digits, _ . : -)")
    return name


def _version(words: str) -> str:
    version = words.removeprefix("v")
    if version not in VERSIONS:
        raise UsageError(f"{words[:20]!r} is no version that is known ({', '.join(VERSIONS[2:])})")
    return version


def _path(words: str) -> str:
    return absolute(words, "the path")


def _variable(words: str) -> str:
    if words.find("=") <= 0 or "\0" in words:
        raise UsageError(f"{words[:60]!r} is not a variable (write NAME=VALUE)")
    return words


def _permissions(words: str) -> str:
    if words != "none" and words.strip("rwm"):
        raise UsageError(f"{words[:20]!r} are no permissions (letters of rwm, or none)")
    return words


def _class_of_service(words: str) -> str:
    if words in (".", "..") or (words != "/" and ("/" in words or "\n" in words)):
        raise UsageError("is no name of a class of service")
    return words


def _annotations(raw: object) -> Mapping[str, str]:
    found = mapping_of_texts(raw)
    wrong = next((key for key in found if not _ANNOTATION.fullmatch(key.lower())), None)
    if wrong is not None:
        raise UsageError(f"{wrong[:60]!r} is no key of an annotation")
    if sum(len(key) + len(value) for key, value in found.items()) > ANNOTATIONS_LIMIT:
        raise UsageError(f"have more than {ANNOTATIONS_LIMIT} characters")
    return found


_texts = list_of(text(), "texts")
_ids = number(0, LARGEST_ID)


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device node: ``path`` in the container, ``host_path`` here (empty: the same)."""

    path: Annotated[str, text(_path)]
    host_path: Annotated[str, text(_path), "hostPath"] = ""
    type: Annotated[str, one_of("b", "c", "u", "p", "")] = ""
    major: Annotated[int, number(0, LARGEST_NUMBER)] = 0
    minor: Annotated[int, number(0, LARGEST_NUMBER)] = 0
    file_mode: Annotated[int | None, number(0, LARGEST_ID), "fileMode"] = None
    permissions: Annotated[str, text(_permissions)] = ""
    uid: Annotated[int | None, _ids] = None
    gid: Annotated[int | None, _ids] = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount; without ``type``, or with ``bind`` among its options, one of a file or folder."""

    host_path: Annotated[str, text(), "hostPath"]
    container_path: Annotated[str, text(_path), "containerPath"]
    type: Annotated[str, text()] = ""
    options: Annotated[tuple[str, ...], _texts] = ()


@dataclass(frozen=True, slots=True)
class CdiHook:
    """A program that an OCI runtime would call."""

    point: Annotated[str, one_of(*_HOOK_POINTS), "hookName"]
    path: Annotated[str, text(_path)]
    args: Annotated[tuple[str, ...], _texts] = ()
    env: Annotated[tuple[str, ...], list_of(text(_variable), "variables")] = ()
    timeout: Annotated[int, number(1, LARGEST_NUMBER)] = 0


@dataclass(frozen=True, slots=True)
class IntelRdt:
    """Shares of caches and memory bandwidth."""

    clos_id: Annotated[str, text(_class_of_service), "closID"] = ""
    l3_cache: Annotated[str, text(), "l3CacheSchema"] = ""
    memory_bandwidth: Annotated[str, text(), "memBwSchema"] = ""
    schemata: Annotated[tuple[str, ...], _texts] = ()
    monitoring: Annotated[bool, yes_or_no, "enableMonitoring"] = False
    # Until 1.0.0; taken and without effect here.
    cmt: Annotated[bool, yes_or_no, "enableCMT"] = False
    mbm: Annotated[bool, yes_or_no, "enableMBM"] = False


@dataclass(frozen=True, slots=True)
class NetDevice:
    """A network interface that would move into the container."""

    host_name: Annotated[str, text(), "hostInterfaceName"]
    name: Annotated[str, text()]


@dataclass(frozen=True, slots=True)
class ContainerEdits:
    """Everything that one device, or every device of a file, brings."""

    env: Annotated[tuple[str, ...], list_of(text(_variable), "variables")] = ()
    nodes: Annotated[
        tuple[DeviceNode, ...], list_of(table(DeviceNode), "nodes"), "deviceNodes"
    ] = ()
    net: Annotated[tuple[NetDevice, ...], list_of(table(NetDevice), "devices"), "netDevices"] = ()
    hooks: Annotated[tuple[CdiHook, ...], list_of(table(CdiHook), "hooks")] = ()
    mounts: Annotated[tuple[Mount, ...], list_of(table(Mount), "mounts")] = ()
    rdt: Annotated[IntelRdt | None, table(IntelRdt), "intelRdt"] = None
    gids: Annotated[tuple[int, ...], list_of(_ids, "group ids"), "additionalGids"] = ()


@dataclass(frozen=True, slots=True)
class CdiDevice:
    """One device of a kind."""

    name: Annotated[str, text(check_device)]
    annotations: Annotated[Mapping[str, str] | None, _annotations] = None
    edits: Annotated[ContainerEdits, table(ContainerEdits), "containerEdits"] = ContainerEdits()


@dataclass(frozen=True, slots=True)
class CdiFile:
    """One file: its kind, its devices, and what each of them brings besides its own."""

    version: Annotated[str, text(_version), "cdiVersion"]
    kind: Annotated[str, text(check_kind)]
    devices: Annotated[tuple[CdiDevice, ...], list_of(table(CdiDevice), "devices")]
    annotations: Annotated[Mapping[str, str] | None, _annotations] = None
    edits: Annotated[ContainerEdits, table(ContainerEdits), "containerEdits"] = ContainerEdits()

    def __post_init__(self) -> None:
        if not self.devices:
            raise UsageError("has no devices")
        names = [device.name for device in self.devices]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"has the device {twice} twice")
        needed, why = required_version(self)
        if VERSIONS.index(needed) > VERSIONS.index(self.version):
            raise UsageError(f"says cdiVersion {self.version}, but {why} needs {needed}")


def required_version(file: CdiFile) -> tuple[str, str]:
    """The lowest version that has all that a file uses, and what asks for it ("Released
    versions")."""
    every = [file.edits, *(device.edits for device in file.devices)]
    return next(
        ((version, what) for version, what, used in _FEATURES if used(file, every)),
        (EARLIEST, "every file"),
    )


_Uses = Callable[[CdiFile, list[ContainerEdits]], bool]


def _rdt_of_110(edits: ContainerEdits) -> bool:
    return edits.rdt is not None and bool(edits.rdt.schemata or edits.rdt.monitoring)


#: Version, what it brought, and whether a file uses that; the newest first.
_FEATURES: Final[tuple[tuple[str, str, _Uses], ...]] = (
    ("1.1.0", "netDevices", lambda _, every: any(each.net for each in every)),
    ("1.1.0", "intelRdt.schemata", lambda _, every: any(map(_rdt_of_110, every))),
    ("0.7.0", "intelRdt", lambda _, every: any(each.rdt is not None for each in every)),
    ("0.7.0", "additionalGids", lambda _, every: any(each.gids for each in every)),
    (
        "0.6.0",
        "annotations",
        lambda file, _: bool(file.annotations or any(each.annotations for each in file.devices)),
    ),
    ("0.6.0", "a dot in the class", lambda file, _: "." in file.kind.partition("/")[2]),
    (
        "0.5.0",
        "a name that begins with a digit",
        lambda file, _: any(each.name[0].isdigit() for each in file.devices),
    ),
    (
        "0.5.0",
        "deviceNodes[].hostPath",
        lambda _, every: any(node.host_path for each in every for node in each.nodes),
    ),
    (
        "0.4.0",
        "mounts[].type",
        lambda _, every: any(mount.type for each in every for mount in each.mounts),
    ),
)


def read_cdi(words: str, *, in_json: bool) -> CdiFile:
    """The file that a text is. Raises CdiFileWrong."""
    try:
        raw = _read_json(words) if in_json else read_yaml(words)
        return read_table(CdiFile, without_nulls(raw))
    except (KeyWrong, UsageError) as error:
        raise CdiFileWrong(str(error)) from None


def _read_json(words: str) -> object:
    """JSON with its numbers as they were written, as ``read_yaml`` gives them."""
    if len(words) > TEXT_LIMIT:
        raise UsageError(f"has {len(words)} characters, {TEXT_LIMIT} are allowed")
    try:
        return json.loads(
            words, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_once
        )
    except (ValueError, RecursionError) as error:
        raise UsageError(f"is not JSON: {str(error)[:200] or type(error).__name__}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found
