"""Values in what a peer answers: numbers, times, hashes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cache.content import Digest
from cache.errors import DigestInvalid
from registryd.cluster.errors import PeerWrong

#: No peer is left alone for longer on its own word (seconds).
LONGEST_REST: Final = 3600.0


def number_of(headers: Mapping[str, str], name: str, peer: str) -> int | None:
    """The number in a header; None without it. Raises PeerWrong."""
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise PeerWrong(f"peer {peer}: its {name} is {text[:40]!a}, not a number")
    return int(text)


def seconds_of(text: str | None) -> float | None:
    """A time to wait, None where none that can be read is told."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return min(seconds, LONGEST_REST) if seconds >= 0 else None


def digest_of(text: object, peer: str) -> Digest | None:
    """The hash of a chunk, where one is told. Raises PeerWrong."""
    if text is None:
        return None
    try:
        return Digest.parse(str(text))
    except DigestInvalid as error:
        raise PeerWrong(f"peer {peer}: its chunk's hash: {error}") from error
