"""Platforms: what an image runs on, and which of several a machine would take.

Image specification 1.1, "Image Index", property ``platform``.

Invariants:
- a Platform is in normal form: ``x86_64`` is ``amd64``, ``aarch64`` is ``arm64/v8``, ``armhf`` is
  ``arm/v7``; what a variant means by default is written out (``arm`` is ``arm/v7``), and
  ``amd64/v1`` is plain ``amd64``. So two that are the same are equal;
- nothing accepts a platform whose system or architecture is empty or ``unknown`` (build
  attestations are listed in an index that way).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cache.marks import override
from registryd.oci.errors import UsageError

#: Other names of architectures -> architecture and the variant they imply.
ARCHITECTURES: Final = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
    "x86": ("386", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
}
SYSTEMS: Final = {"macos": "darwin"}
#: Architectures that may be written without a system; it is linux then.
KNOWN_ARCHITECTURES: Final = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"}
)
DEFAULT_VARIANTS: Final = {"arm": "v7", "arm64": "v8"}

_WORD = re.compile(r"[a-z0-9_.+-]{0,64}")
_VERSION = re.compile(r"v([0-9]{1,2})(?:\.([0-9]{1,2}))?")


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, architecture and its variant, in normal form.

    Raises UsageError when a part is not a plain word.
    """

    os: str
    architecture: str
    variant: str = ""

    def __post_init__(self) -> None:
        os, architecture, variant = (
            part.lower() for part in (self.os, self.architecture, self.variant)
        )
        for part in (os, architecture, variant):
            if not _WORD.fullmatch(part):
                raise UsageError(f"{part[:140]!r} cannot be part of a platform")
        architecture, implied = ARCHITECTURES.get(architecture, (architecture, ""))
        object.__setattr__(self, "os", SYSTEMS.get(os, os))
        object.__setattr__(self, "architecture", architecture)
        object.__setattr__(self, "variant", _variant(architecture, variant or implied))

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``os/architecture[/variant]``, or a well-known architecture alone.

        Raises UsageError.
        """
        parts = text.split("/")
        if len(parts) == 1:
            alone = cls("linux", text)
            if alone.architecture in KNOWN_ARCHITECTURES:
                return alone
        if len(parts) not in (2, 3) or not all(parts):
            raise UsageError(
                f"{text[:140]!r} is not a platform (want os/architecture[/variant], "
                "as in linux/arm64/v8)"
            )
        return cls(*parts)

    @classmethod
    def of_machine(cls, system: str, machine: str) -> Platform:
        """The platform of a host by what ``uname`` says of it (``Linux``, ``aarch64``)."""
        return cls(system, machine)

    @property
    def known(self) -> bool:
        """Whether system and architecture are both named."""
        return not {self.os, self.architecture} & {"", "unknown"}

    def accepts(self, other: Platform) -> int | None:
        """How well a machine of this platform runs an image of the other one.

        0 is best, a greater number is worse, None means not at all. A variant that is a version
        runs itself and those before it, the nearest first.
        """
        if not self.known or (self.os, self.architecture) != (other.os, other.architecture):
            return None
        if self.variant == other.variant:
            return 0
        ours, theirs = _version(self), _version(other)
        if ours is not None and theirs is not None:
            return ours - theirs if theirs < ours else None
        return 1 if not other.variant else None

    @override
    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def _variant(architecture: str, variant: str) -> str:
    if variant[:1].isdigit():
        variant = f"v{variant}"
    if architecture == "amd64" and variant == "v1":
        return ""
    return variant or DEFAULT_VARIANTS.get(architecture, "")


def _version(platform: Platform) -> int | None:
    """The variant as a number that grows with it; plain amd64 is version 1."""
    variant = platform.variant
    if platform.architecture == "amd64" and not variant:
        variant = "v1"
    match = _VERSION.fullmatch(variant)
    return int(match[1]) * 100 + int(match[2] or 0) if match else None
