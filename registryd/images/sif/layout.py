"""What the bytes of a SIF mean (SIF specification, version 01): a prefix and a squashfs. Pure.

A header of 128 bytes, a table of descriptors, and objects from where the table ends; all little
endian.

Invariants:
- the same image gives the same prefix: identifier and times are the image's own;
- the squashfs begins on a border of 4096 bytes, so that it can be mounted where it lies and a file
  system can share its blocks with the file that it was copied from.

What a SIF holds is read where it is mounted (``registryd.mounts.found``).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from cache.content import Digest

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
_PRIMARY: Final = 2
#: So many descriptors apptainer makes room for; others may add objects to the file.
_ROOM: Final = 48
_TABLE: Final = 4096
_BORDER: Final = 4096
#: Under this name apptainer keeps the image's configuration.
_CONFIG_NAME: Final = b"oci-config"
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


@dataclass(frozen=True, slots=True)
class SifImage:
    """What a SIF says of its image; ``created`` is in seconds, ``named`` how docker finds it."""

    digest: Digest
    config: bytes
    architecture: str
    created: int = 0
    named: str = ""


class _Object(NamedTuple):
    kind: int
    name: bytes
    content: bytes
    size: int
    extra: bytes = b""


def prefix(image: SifImage, size: int) -> bytes:
    """What comes before a squashfs of this size."""
    architecture = _ARCHITECTURES.get(image.architecture, _UNKNOWN)
    definition = f"bootstrap: docker\nfrom: {image.named or image.digest}\n".encode()
    objects = (
        _Object(_DEFINITION, b"definition", definition, len(definition)),
        _Object(_JSON, _CONFIG_NAME, image.config, len(image.config)),
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
