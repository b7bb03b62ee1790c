"""What a node holds, and what is on its way to it.

Invariant:
- a caller sees only the images that they were let into; the owner ("") sees all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from cache.content import Descriptor, Digest
from cache.errors import Fault
from cache.index import Name
from cache.ingest import Ingest
from cache.lower import Lower
from registryd import __version__
from registryd.oci.media_types import OCTET_STREAM
from registryd.operations.allowances import described
from registryd.operations.image_list import ImageList
from registryd.operations.node import Node, Result
from registryd.operations.node import moment as moment
from registryd.transfer.flight import Flight

_log = logging.getLogger(__name__)

#: Seconds that a question how things are waits for a shared store.
LOOK = 1.0

#: Blobs with their sizes in bytes; an image's digest with those reachable from it.
Sizes = Mapping[Digest, int]
Closure = tuple[Digest, Sizes]


class Holdings:
    """What is here. Every method raises Faults only."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._store = node.store
        self._images = ImageList(node)

    @property
    def node(self) -> Node:
        """The node that is worked on."""
        return self._node

    async def status(self, *, principal: str = "") -> Result:
        """How the node is, and what is on its way to it as far as the caller may see it."""
        node = self._node
        return {
            "version": __version__,
            "pid": node.pid,
            "root": str(self._store.root),
            "uptime_seconds": round(time.monotonic() - node.started, 1),
            "listeners": list(node.listeners),
            "blobs": len(self._store),
            "size": self._store.size,
            "images": await self._store.catalogue.count(),
            "lookups": {
                f"{kind}_{outcome}": node.counts.lookups[kind, outcome]
                for kind in ("manifest", "blob")
                for outcome in ("hit", "miss", "wait")
            },
            "stale_registries": [
                {"registry": name, "cause": cause} for name, cause in node.counts.away.items()
            ],
            "mirrors_left_alone": [
                {"host": host, "seconds": round(seconds, 1), "cause": cause}
                for host, seconds, cause in node.remotes.left_alone()
            ],
            "rate_limits": [
                {"registry": registry, **described(account, known)}
                for (registry, account), known in node.notices.rate_limits.items()
                if not principal
            ],
            "scrub": await self._scrub(),
            "cluster": _cluster(node),
            "lower": [await _lower(each) for each in node.lowers.all],
            **await self.active(principal=principal),
        }

    async def _scrub(self) -> Result:
        """How far the cache has been read again since the process began, and what came of it."""
        scrub, scrubbing = self._store.scrub, self._node.scrubbing
        since = await scrub.since()
        return {
            "period_seconds": scrubbing.rounds.period if scrubbing else 0.0,
            "rate": scrubbing.rate if scrubbing else 0,
            "blobs": scrub.counts["blobs"],
            "bytes": scrub.counts["bytes"],
            "bad": scrub.counts["bad"],
            "fetched_again": scrubbing.mending.counts["fetched"] if scrubbing else 0,
            "all_proven_since": moment(since) if since else None,
        }

    async def active(self, *, principal: str = "") -> Result:
        """What is on its way to the node, as far as the caller may see it."""
        ingests = {ingest.expected: ingest for ingest in self._store.arriving()}
        return {
            "flights": [
                _flight(flight, ingests.get(flight.want.digest))
                for flight in self._node.flights.under_way()
                if await self._may_see(flight.want.repository.name, principal)
            ]
        }

    async def images(self, *, principal: str = "") -> Result:
        """The images that the caller may see."""
        images: Result = json.loads(await self.image_list(principal=principal))
        return images

    async def look_over(self) -> None:
        """Get to know the images, so that whoever first asks for them does not wait for that."""
        try:
            await self._images.rendered("")
        except Fault as fault:
            _log.warning("the images could not be looked over: %s", fault)

    async def image_list(self, *, principal: str = "") -> bytes:
        """The same as JSON."""
        return await self._images.rendered(principal)

    async def _visible(self, principal: str) -> list[Name]:
        names = [name for name in await self._store.names() if name.complete]
        repositories = {name.repository for name in names}
        seen = await self._node.access.readable(principal, repositories)
        return [name for name in names if name.repository in seen]

    async def _may_see(self, repository: str, principal: str) -> bool:
        return await self._node.access.may_read(principal, repository)

    async def _closures(self, names: Sequence[Name]) -> dict[str, Closure]:
        """By name of an image: its digest, and all that it needs and has, with sizes in bytes.

        What was made of it here counts too: it takes room, and goes with it.

        Of those that the caller may see: what they share with others is not theirs to know.
        """
        return {
            name.name: (
                name.descriptor.digest,
                await self._store.closure(name.descriptor.digest, made=True),
            )
            for name in names
        }

    async def blobs(self, *, principal: str = "") -> Result:
        """The blobs of the images that the caller may see; to the owner also those of none."""
        users: dict[Descriptor, list[str]] = {}
        for name in await self._visible(principal):
            for descriptor in await self._below(name.descriptor):
                users.setdefault(descriptor, []).append(name.name)
        spare = {} if principal else await self._store.unreferenced()
        for digest, size in spare.items():
            media_type = await self._store.media_type(digest)
            users.setdefault(Descriptor(media_type or OCTET_STREAM, digest, size), [])
        return {
            "blobs": [
                {
                    "digest": str(blob.digest),
                    "media_type": blob.media_type,
                    "size": blob.size,
                    "last_used": moment(await self._store.last_used([blob.digest])),
                    "images": sorted(names),
                }
                for blob, names in users.items()
            ]
        }

    async def _below(self, root: Descriptor) -> list[Descriptor]:
        """What is held of all that hangs from a manifest, itself first; each digest once."""
        found = {root.digest: root}
        waiting = [root]
        while waiting:
            parent = waiting.pop().digest
            made = await self._store.made.of(parent)
            for child in (*await self._store.children(parent), *made):
                if child.digest not in found and self._store.find(child.digest) is not None:
                    found[child.digest] = child
                    waiting.append(child)
        return list(found.values())


async def _lower(store: Lower) -> Result:
    """A shared store, as it is now or (when it does not answer at once) as it was."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOK):
            await store.index()
    counts = store.counts
    return {
        "path": str(store.root),
        "public": store.public,
        "usable": not store.unusable,
        "cause": store.unusable,
        "names": store.names,
        "blobs": counts.blobs,
        "bytes": counts.bytes,
        "errors": counts.errors,
    }


def _cluster(node: Node) -> Result:
    """The other nodes in a word: how they are known, how many there are with this one, who lied."""
    cluster = node.cluster
    return {
        "kind": cluster.kind,
        "me": cluster.me,
        "connected": cluster.connected,
        "nodes": len(cluster.nodes()),
        "liars": sorted(node.exchange.liars) if node.exchange else [],
    }


def _flight(flight: Flight, ingest: Ingest | None) -> Result:
    """A fetch under way: ``offset`` bytes are here, ``received`` of them came in ``seconds``."""
    want, size = flight.want, None if ingest is None else ingest.size
    return {
        "digest": str(want.digest),
        "repository": want.repository.name,
        "source": flight.source,
        "offset": flight.received if ingest is None else ingest.held.total,
        "total": want.size if size is None else size,
        "received": flight.received,
        "seconds": round(asyncio.get_running_loop().time() - flight.began, 3),
        "waiters": 0 if ingest is None else ingest.followers,
    }
