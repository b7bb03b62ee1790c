"""What the bytes of a SIF mean (SIF specification, version 01): a prefix and a squashfs. Pure.

A header of 128 bytes, a table of descriptors, and objects from where the table ends; all little
endian.

Invariants:
- the same image gives the same prefix: identifier and times are the image's own;
- the squashfs begins on a border of 4096 bytes, so that it can be mounted where it lies and a file
  system can share its blocks with the file that it was copied from;
- what is read is bounded by the limits below, and what lies outside the file is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from cache.content import Digest
from registryd.images.errors import NotAnImage

_LAUNCH: Final = b"#!/usr/bin/env run-singularity\n"
_MAGIC: Final = b"SIF_MAGIC\0"
_VERSION: Final = b"01\0"
#: Launch line, magic, version, architecture, identifier, two times, free and all descriptors, where
#: they are and how long, where objects are and how long.
_HEADER: Final = struct.Struct("<32s10s3s3s16s8q")
#: Type, in use, number, group, link, offset, size, size with the padding before it, two times, two
#: owners, name, and what belongs to the type.
_DESCRIPTOR: Final = struct.Struct("<i?IIIqqqqqqq128s384s")
_PARTITION: Final = struct.Struct("<ii3s")
_DEFINITION: Final = 0x4001
_FILE_SYSTEM: Final = 0x4004
_JSON: Final = 0x4006
_GROUP: Final = 0xF0000001
_SQUASHFS: Final = 1
_ENCRYPTED: Final = 5
_PRIMARY: Final = 2
#: So many descriptors apptainer makes room for; others may add objects to the file.
_ROOM: Final = 48
_TABLE: Final = 4096
_BORDER: Final = 4096
#: Most descriptors that are read: far beyond what any tool writes.
DESCRIPTORS_LIMIT: Final = 4096
#: Most bytes of an image's configuration that is read back (what ``parse_config`` takes).
CONFIG_LIMIT: Final = 16 << 20
#: Under this name apptainer keeps the image's configuration.
CONFIG_NAME: Final = b"oci-config"
#: What SIF calls the machines that Go names.
_ARCHITECTURES: Final[Mapping[str, bytes]] = {
    "386": b"01",
    "amd64": b"02",
    "arm": b"03",
    "arm64": b"04",
    "ppc64": b"05",
    "ppc64le": b"06",
    "mips": b"07",
    "mipsle": b"08",
    "mips64": b"09",
    "mips64le": b"10",
    "s390x": b"11",
    "riscv64": b"12",
    "loong64": b"13",
}
_UNKNOWN: Final = b"00"
_FILE_SYSTEMS: Final = {2: "an ext3", 3: "an archive", 4: "a raw", _ENCRYPTED: "an encrypted"}


@dataclass(frozen=True, slots=True)
class SifImage:
    """What a SIF says of its image; ``created`` is in seconds, ``named`` how docker finds it."""

    digest: Digest
    config: bytes
    architecture: str
    created: int = 0
    named: str = ""


class Stretch(NamedTuple):
    """Bytes of a file."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Partition:
    """The squashfs in a SIF, for which machine it is (empty where it does not say), and where the
    image's configuration is, which not every SIF has.
    """

    squashfs: Stretch
    architecture: str = ""
    config: Stretch | None = None


class _Object(NamedTuple):
    kind: int
    name: bytes
    content: bytes
    size: int
    extra: bytes = b""


class _Found(NamedTuple):
    kind: int
    name: bytes
    stretch: Stretch | None
    extra: bytes


def prefix(image: SifImage, size: int) -> bytes:
    """What comes before a squashfs of this size."""
    architecture = _ARCHITECTURES.get(image.architecture, _UNKNOWN)
    definition = f"bootstrap: docker\nfrom: {image.named or image.digest}\n".encode()
    objects = (
        _Object(_DEFINITION, b"definition", definition, len(definition)),
        _Object(_JSON, CONFIG_NAME, image.config, len(image.config)),
        _Object(
            _FILE_SYSTEM,
            b"squashfs",
            b"",
            size,
            _PARTITION.pack(_SQUASHFS, _PRIMARY, architecture),
        ),
    )
    content, descriptors, start = b"", b"", _TABLE + _ROOM * _DESCRIPTOR.size
    at = start
    for number, each in enumerate(objects, 1):
        padding = -at % _BORDER
        content += bytes(padding) + each.content
        descriptors += _descriptor(number, each, at + padding, padding, image.created)
        at += padding + each.size
    header = _HEADER.pack(
        _LAUNCH,
        _MAGIC,
        _VERSION,
        architecture,
        uuid5(NAMESPACE_URL, str(image.digest)).bytes,
        image.created,
        image.created,
        _ROOM - len(objects),
        _ROOM,
        _TABLE,
        _ROOM * _DESCRIPTOR.size,
        start,
        at - start,
    )
    return header.ljust(_TABLE, b"\0") + descriptors.ljust(start - _TABLE, b"\0") + content


def _descriptor(number: int, each: _Object, offset: int, padding: int, created: int) -> bytes:
    times, owners = (created, created), (0, 0)
    where = (offset, each.size, each.size + padding)
    return _DESCRIPTOR.pack(
        each.kind, True, number, _GROUP, 0, *where, *times, *owners, each.name, each.extra
    )


def is_sif(beginning: bytes) -> bool:
    """Whether a file that begins so calls itself a SIF."""
    return beginning[len(_LAUNCH) + 1 :].startswith(_MAGIC)


def find_partition(read: Callable[[int, int], bytes], length: int, where: str) -> Partition:
    """The image in a SIF of this length; ``read`` gives bytes at an offset. Raises NotAnImage."""
    raw = read(0, _HEADER.size)
    if len(raw) < _HEADER.size or not is_sif(raw):
        raise NotAnImage(f"{where} is no SIF")
    _, _, version, architecture, _, _, _, _, total, at, size, _, _ = _HEADER.unpack(raw)
    if version != _VERSION:
        raise NotAnImage(f"{where} is a SIF of version {version[:2].decode(errors='replace')!r}")
    if not 0 < total <= DESCRIPTORS_LIMIT or size < total * _DESCRIPTOR.size:
        raise NotAnImage(f"{where}: its table of contents is damaged")
    table = _stretch(at, total * _DESCRIPTOR.size, length)
    if table is None:
        raise NotAnImage(f"{where}: it is cut off")
    objects = []
    for kind, used, _, _, _, offset, each, *_, name, extra in _DESCRIPTOR.iter_unpack(read(*table)):
        if used:
            stretch = _stretch(offset, each, length)
            objects.append(_Found(kind, name.rstrip(b"\0"), stretch, extra))
    return _partition(objects, architecture, where)


def _partition(objects: Sequence[_Found], architecture: bytes, where: str) -> Partition:
    systems, config = [], None
    for each in objects:
        if each.kind == _JSON and each.name == CONFIG_NAME:
            config = each.stretch
        elif each.kind == _FILE_SYSTEM:
            form, role, machine = _PARTITION.unpack(each.extra[: _PARTITION.size])
            if role == _PRIMARY:
                systems.append((form, machine, each.stretch))
    if len(systems) != 1:
        how = "two systems, and does not say which one starts" if systems else "no system to start"
        raise NotAnImage(f"{where} holds {how}")
    form, machine, stretch = systems[0]
    if form != _SQUASHFS:
        what = _FILE_SYSTEMS.get(form, "an unknown")
        raise NotAnImage(f"{where} holds {what} file system, and only a squashfs can be started")
    if stretch is None:
        raise NotAnImage(f"{where}: it is cut off")
    if config is not None and config.size > CONFIG_LIMIT:
        config = None
    return Partition(stretch, _machine(machine) or _machine(architecture), config)


def _stretch(offset: int, size: int, length: int) -> Stretch | None:
    """These bytes, where a file of this length has them."""
    whole = _HEADER.size <= offset and size > 0 and offset + size <= length
    return Stretch(offset, size) if whole else None


def _machine(code: bytes) -> str:
    known = code.rstrip(b"\0")
    return next((name for name, each in _ARCHITECTURES.items() if each == known), "")
