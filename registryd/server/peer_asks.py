"""What another node asks, read from its request: a chunk, and who may pay for it upstream. Pure.

docs/peers.md has the protocol. Invariants:
- a stretch lies within one chunk and ends with it, or it is refused;
- a path between nodes begins with the registry: no default and no ``ns`` stands in for it;
- a token that was lent is used for the registry of its request alone, and never kept or logged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from aiohttp import web

from cache.content import Digest
from registryd.cluster.geometry import Geometry
from registryd.cluster.serving import Request
from registryd.oci.errors import RangeInvalid, UsageError
from registryd.oci.ranges import parse_range
from registryd.oci.reference import Reference
from registryd.oci.routes import refer
from registryd.ports import Remote
from registryd.secrets import NOBODY, Login, Secret
from registryd.server.context import context_of
from registryd.server.peer_door import member_of
from registryd.transfer.library import LOCALHOST

#: Digits of a number in a header: more than any size has.
_DIGITS: Final = 20
#: Nobody is barred for longer on its own word (seconds).
_LONGEST: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a chunk, read and found to make sense."""

    reference: Reference
    digest: Digest
    geometry: Geometry
    chunk: int
    start: int
    stop: int
    request: Request
    owed: bool
    barred: float
    token: Secret | None
    #: A node has made it, and no registry has it.
    made: bool = False

    @classmethod
    def of(cls, request: web.Request, reference: Reference, digest: Digest, blob: int) -> Self:
        """Raises RangeInvalid and UsageError for what no node would send."""
        headers = request.headers
        size = _number(headers, "Registryd-Size", -1)
        if size < 1:
            raise UsageError("a chunk is asked for with the size of its blob (Registryd-Size)")
        ranges = parse_range(headers.get("Range"), size)
        if ranges is None or len(ranges) != 1:
            raise RangeInvalid("a chunk is asked for by one range", size=size)
        geometry, (start, stop) = Geometry(size), (ranges[0].start, ranges[0].stop)
        chunk = start // geometry.chunk
        first, last = geometry.span(chunk)
        if stop != last:
            raise RangeInvalid(f"{start}-{stop - 1} does not end with its chunk", size=size)
        owed = headers.get("Registryd-Owed") == "1"
        asked = Request(
            asker=member_of(request).name,
            blob=blob,
            chunk=chunk,
            offset=start - first,
            hops=_number(headers, "Registryd-Hops", 0),
            free=_number(headers, "Registryd-Free", 0),
            relay=headers.get("Registryd-Relay") == "1",
            owed=owed,
        )
        barred = _seconds(headers.get("Registryd-Barred"))
        token, made = token_of(headers), headers.get("Registryd-Made") == "1"
        return cls(
            reference, digest, geometry, chunk, start, stop, asked, owed, barred, token, made
        )


def reference_of(repository: str, target: str = "") -> Reference:
    """The reference that a path between nodes means: it begins with the registry.

    Raises ReferenceInvalid.
    """
    registry, slash, name = repository.partition("/")
    if not slash:
        raise UsageError(f"{repository} has no registry in front")
    return refer(name, target, registry, registry)


def token_of(headers: Mapping[str, str]) -> Secret | None:
    """The token that the asker lends us for the registry of its request."""
    scheme, _, token = headers.get("Registryd-Upstream", "").partition(" ")
    return Secret(token.strip()) if scheme.lower() == "bearer" and token.strip() else None


def remote_for(request: web.Request, reference: Reference, token: Secret | None) -> Remote | None:
    """The way to a registry on a peer's behalf; None for this node's own, which has none."""
    if reference.registry == LOCALHOST:
        return None
    # Without a token as nobody: what this node logs in with is not the asker's to use.
    login = NOBODY if token is None else Login(registry_token=token, origin="another node")
    return context_of(request).node.remotes.remote(reference.registry, login)


def _number(headers: Mapping[str, str], name: str, absent: int) -> int:
    text = headers.get(name)
    if text is None:
        return absent
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise UsageError(f"{name}: {text[:40]!a} is not a number")
    return int(text)


def _seconds(text: str | None) -> float:
    """A time to wait; 0.0 where none that can be read is told."""
    try:
        seconds = float(text or "")
    except ValueError:
        return 0.0
    return min(seconds, _LONGEST) if math.isfinite(seconds) and seconds > 0 else 0.0
