"""What images are called here: ``TYPE:NAME``, as Shifter has it (pure).

    docker:ubuntu:22.04      an image of a registry, by tag or digest
    custom:mine:1            what somebody has imported from a file
    id:HEX                   an image that is here, by the digest of its manifest (or file)

Invariants: one image of a registry has one spelling, whatever it was called: the default registry
and Docker Hub's ``library/`` are left out, and no tag means ``:latest``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cache.marks import override
from registryd.oci.errors import UsageError
from registryd.oci.reference import DOCKER_HUB, Reference, names_registry

TYPES: Final = ("docker", "custom", "id")
#: Hex digits of an id: all of a sha256 or sha512.
_ID = re.compile(r"(?:[0-9a-f]{64}){1,2}")
_CUSTOM = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}(?:/[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}){0,3}"
    r":[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}"
)


@dataclass(frozen=True, slots=True, order=True)
class ImageName:
    """A name in its one spelling; made by ``read`` and ``parse``."""

    itype: str
    tag: str

    @override
    def __str__(self) -> str:
        return f"{self.itype}:{self.tag}"


def parse(text: str, default_registry: str) -> ImageName:
    """The name that a person wrote, ``docker:`` unless they say so. Raises UsageError."""
    itype, colon, rest = text.partition(":")
    if colon and itype in TYPES:
        return read(itype, rest, default_registry)
    return read("docker", text, default_registry)


def read(itype: str, tag: str, default_registry: str) -> ImageName:
    """The name with this type and tag. Raises UsageError."""
    if itype == "docker":
        return ImageName(itype, spelled(reference_of(tag, default_registry), default_registry))
    if itype == "custom":
        whole = tag if ":" in tag else f"{tag}:latest"
        if not _CUSTOM.fullmatch(whole):
            raise UsageError(
                f"{tag[:140]!r} is no name for an imported image (write NAME:TAG of letters, digits"
                " and _ . + -)"
            )
        return ImageName(itype, whole)
    if itype == "id":
        if not _ID.fullmatch(tag):
            raise UsageError(f"{tag[:140]!r} is no id (64 hex digits, or 128)")
        return ImageName(itype, tag)
    raise UsageError(f"{itype[:40]!r} is no type of image (use one of {', '.join(TYPES)})")


def reference_of(tag: str, default_registry: str) -> Reference:
    """The image that a ``docker`` name means. Raises ReferenceInvalid."""
    text = tag.removeprefix("docker://")
    first, slash, _ = text.partition("/")
    if default_registry != DOCKER_HUB and not (slash and names_registry(first)):
        text = f"{default_registry}/{text}"
    return Reference.parse(text)


def spelled(reference: Reference, default_registry: str) -> str:
    """The one spelling of an image: the shortest that means it here."""
    if default_registry == DOCKER_HUB:
        return reference.familiar()
    whole = str(reference)
    short = whole.removeprefix(f"{default_registry}/")
    if short != whole and reference_of(short, default_registry) == reference:
        return short
    return whole
