"""The parts of a node, as operations and servers find them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cache.store import BlobStore
from registryd.access import Access
from registryd.counts import Counts
from registryd.oci.platform import Platform
from registryd.ports import Remotes
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library

#: A result that is bytes: content, media type, its digest, the digest of its manifest.
Raw = tuple[bytes, str, str, str]
Result = dict[str, object]


@dataclass(frozen=True, slots=True)
class Node:
    """The parts that operations work with; made by ``services``."""

    store: BlobStore
    flights: Flights
    library: Library
    access: Access
    remotes: Remotes
    host: Platform
    jobs: int
    pid: int
    started: float
    listeners: Sequence[str] = ()
    counts: Counts = field(default_factory=Counts)
