"""Digest, Descriptor and verify: the ground on which everything else stands.

Invariants:
- a Digest can always be a path: a known algorithm and lower-case hex of its exact length;
- a Descriptor is comparable and hashable, three fields and no more;
- verify never says yes to bytes that are short, long or different.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

from cache.errors import DigestInvalid, DigestMismatch, SizeMismatch
from cache.marks import override

#: Algorithm -> length of its hex form (image specification 1.1, "Digests", registered algorithms).
ALGORITHMS = {"sha256": 64, "sha512": 128}
_BY_LENGTH = {length: algorithm for algorithm, length in ALGORITHMS.items()}

_HEX = re.compile(r"[0-9a-f]+")


class Hash(Protocol):
    """The part of a hashlib object that is used here."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """The hash of all bytes so far, as lower-case hex."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A content address: ``algorithm:hex`` (image specification 1.1, "Digests").

    Raises DigestInvalid when made with an unknown algorithm or a malformed hash.
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        length = ALGORITHMS.get(self.algorithm)
        if length is None:
            known = ", ".join(ALGORITHMS)
            raise DigestInvalid(f"digest algorithm {self.algorithm!r} is unknown (use {known})")
        if len(self.hex) != length or not _HEX.fullmatch(self.hex):
            raise DigestInvalid(
                f"digest {self.algorithm}:{self.hex[:140]} needs {length} lower-case hex digits"
            )

    @override
    def __hash__(self) -> int:
        return hash(self.hex)  # a text remembers its own: whole stores are gone through by digest

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read the wire form. Raises DigestInvalid."""
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise DigestInvalid(f"{text[:140]!r} is not a digest (want sha256:HEX or sha512:HEX)")
        return cls(algorithm, encoded)

    @classmethod
    def of_hex(cls, text: str) -> Digest:
        """The digest of these digits, whose number tells the algorithm. Raises DigestInvalid."""
        return cls(_BY_LENGTH.get(len(text), ""), text)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of these bytes. Raises DigestInvalid."""
        fresh = new_hash(algorithm)
        fresh.update(content)
        return cls(algorithm, fresh.hexdigest())

    def hasher(self) -> Hash:
        """A fresh hash of this digest's algorithm."""
        return new_hash(self.algorithm)

    @override
    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What points to content: media type, digest, size in bytes (image spec 1.1, "Descriptors").

    Platform, annotations and the like stay where they were read; a Descriptor is a dict key.
    """

    media_type: str
    digest: Digest
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise SizeMismatch(f"descriptor of {self.digest} has a negative size: {self.size}")

    @classmethod
    def of(cls, media_type: str, content: bytes, algorithm: str = "sha256") -> Descriptor:
        """The descriptor of these bytes."""
        return cls(media_type, Digest.of(content, algorithm), len(content))


def new_hash(algorithm: str) -> Hash:
    """A fresh hash. Raises DigestInvalid for an algorithm we do not know."""
    if algorithm not in ALGORITHMS:
        raise DigestInvalid(f"digest algorithm {algorithm!r} is not known")
    return hashlib.new(algorithm, usedforsecurity=True)


def verify(content: bytes, expected: Digest, size: int | None = None) -> None:
    """Prove whole content at once. Raises SizeMismatch or DigestMismatch."""
    if size is not None and len(content) != size:
        raise SizeMismatch(f"{expected}: {len(content)} bytes where {size} were announced")
    actual = Digest.of(content, expected.algorithm)
    if actual != expected:
        raise DigestMismatch(f"content hashes to {actual}, not to {expected}")
