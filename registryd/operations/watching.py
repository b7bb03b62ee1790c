"""The node at one look, for those who watch it: the status page, and ``registryctl top``.

Invariants:
- a caller sees what the other operations would show them: fetches and images that they may read,
  sums that ``/metrics`` has too, who is in the cluster; jobs and holders are the owner's alone;
- what it costs does not depend on how many watch (see ``looks``), and a part that cannot be had
  is said to be so while all others are there;
- every list has an end, and says how many more there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, cast

from cache.content import Digest
from cache.errors import Fault
from registryd import __version__
from registryd.access import ANYBODY, LOGIN
from registryd.history import COLUMNS, EVERY, Sample
from registryd.jobs.record import Job
from registryd.oci.errors import UsageError
from registryd.operations.cluster import Clustered
from registryd.operations.holdings import Closure, Holdings, moment
from registryd.operations.node import Node, Result
from registryd.operations.prefetch import Prefetching
from registryd.operations.sharing_picture import picture
from registryd.transfer.groups import task_group

#: Seconds that the parts of a look are good for.
FRESH, SLOWLY, PICTURE, HOLDERS = 1.0, 10.0, 5.0, 15.0
#: Seconds in which the board of jobs, or those who hold a blob, must have answered.
PATIENCE: Final = 2.0
#: What is shown of many: fetches, members of the cluster, jobs, nodes of a job, names that are
#: looked at for the picture.
FLIGHTS, MEMBERS, JOBS, NODES, NAMES = 50, 256, 4, 1024, 2000
#: Blobs whose holders are asked for, and how large they are at least: smaller ones nobody tells of.
HELD, HELD_SIZE = 12, 1 << 20


class Watched(Holdings, Prefetching, Clustered):
    """What is watched. Every method raises Faults only."""

    def sample(self) -> Sample:
        """The sums of this moment."""
        counts, exchange = self._node.counts, self._node.exchange
        outcomes = {way: counts.lookups["blob", way] for way in ("hit", "miss", "wait")}
        return Sample(
            at=time.time(),
            cache=counts.served["cache"],
            passing=counts.served["upstream"],
            registries=self._node.flights.fetched().total(),
            nodes=exchange.counts.received if exchange else 0,
            hits=outcomes["hit"],
            misses=outcomes["miss"] + outcomes["wait"],
        )

    async def sampled(self) -> None:
        """Take samples until it is cancelled."""
        await self._node.history.keep(self.sample)

    async def overview(self, since: str | None = None, *, principal: str = "") -> Result:
        """How things are; the samples of the last hour, or those after ``since`` (Unix seconds).

        Raises UsageError.
        """
        after, principal = _seconds(since), await self._seen_as(principal)
        look: Result = await self._node.looks.share(
            ("overview", principal), FRESH, lambda: self._overview(principal)
        )
        samples = [sample.as_row() for sample in self._node.history.since(after)]
        return {**look, "history": {"every": EVERY, "columns": COLUMNS, "samples": samples}}

    async def _seen_as(self, principal: str) -> str:
        """Who looks: a login that has opened nothing yet is nobody in particular.

        Anybody can make one up, and one after the other would each have a look made for them.
        """
        known = principal.startswith(LOGIN) and await self._store.grants.open_to((principal,))
        return principal if known or not principal.startswith(LOGIN) else ANYBODY.principal

    async def _overview(self, principal: str) -> Result:
        node, share = self._node, self._node.looks.share
        return {
            "at": moment(time.time()),
            "viewer": _viewer(principal),
            "node": {
                "version": __version__,
                "name": node.cluster.me,
                "uptime_seconds": round(time.monotonic() - node.started, 1),
            },
            "cache": {**self._room(), **await share("cache", SLOWLY, self._slow_room)},
            **await self._arriving(principal),
            "now": self.sample().as_row(),
            "cluster": await share("cluster", FRESH, self._members),
            "jobs": [] if principal else (await share("jobs", FRESH, self._jobs)),
        }

    def _room(self) -> Result:
        bounds = self._store.room.bounds
        return {
            "blobs": len(self._store),
            "size": self._store.size,
            "used": self._store.room.used(),
            "max_size": bounds.max_size,
            "high": bounds.max_size * bounds.high // 100,
            "low": bounds.max_size * bounds.low // 100,
            "min_free": bounds.min_free,
        }

    async def _slow_room(self) -> Result:
        """What takes a look at every name, and at the disk."""
        names = await self._store.names()
        usage = await self._store.usage()
        images = {name.descriptor.digest for name in names if name.complete}
        return {"images": len(images), "free": usage["free"]}

    async def _arriving(self, principal: str) -> Result:
        all_of_them = len(self._node.flights.under_way())
        active = await self.active(principal=principal)
        shown = cast("list[Result]", active["flights"])[:FLIGHTS]
        return {"flights": shown, "more_flights": max(0, all_of_them - len(shown))}

    async def _members(self) -> Result:
        members = await self.nodes()
        nodes = cast("list[Result]", members["nodes"])
        more = max(0, len(nodes) - MEMBERS)
        return {**members, "nodes": nodes[:MEMBERS], "more": more, "liars": _liars(self._node)}

    async def _jobs(self) -> list[Result]:
        """The jobs that run, or the last one; none where they cannot be asked for."""
        prefetches = self._node.prefetches
        if prefetches is None:
            return []
        try:
            async with asyncio.timeout(PATIENCE):
                known = await prefetches.board.jobs()
                now = prefetches.clock()
                running = [job for job in known if job.state == "active" and job.runs(now)]
                chosen: Sequence[Job] = running[-JOBS:] or known[-1:]
                return [_cut(await self.job(job.id)) for job in reversed(chosen)]
        except (TimeoutError, Fault):
            return []

    async def sharing(self, *, principal: str = "") -> Result:
        """The layers that images share, as far as the caller may see the images; who holds them."""
        principal = await self._seen_as(principal)
        look: Result = await self._node.looks.share(
            ("sharing", principal), PICTURE, lambda: self._sharing(principal)
        )
        return look

    async def _sharing(self, principal: str) -> Result:
        visible = await self._visible(principal)
        images: dict[str, Closure] = await self._closures(visible[:NAMES])
        drawn, beyond = picture(images), len(visible) - len(images)
        asked = not principal and self._node.cluster.kind == "nats" and self._node.cluster.connected
        return {
            **drawn,
            "more": drawn["more"] + beyond,
            "held": await self._who_holds(_largest(images)) if asked else [],
        }

    async def _who_holds(self, blobs: Sequence[tuple[Digest, int]]) -> list[Result]:
        """Who holds these blobs; all are asked for at once."""
        key = ("held", tuple(digest for digest, _ in blobs))

        async def ask() -> list[Result]:
            async with task_group() as group:
                asked = [group.create_task(self.whohas(str(digest))) for digest, _ in blobs]
            return [
                {**task.result(), "size": size}
                for task, (_, size) in zip(asked, blobs, strict=True)
            ]

        try:
            async with asyncio.timeout(PATIENCE):
                found: list[Result] = await self._node.looks.share(key, HOLDERS, ask)
        except (TimeoutError, Fault):
            return []
        return found


def _seconds(text: str | None) -> float:
    try:
        return 0.0 if text is None else float(text)
    except ValueError:
        raise UsageError(f"since is {text!r}, and should be Unix seconds") from None


def _viewer(principal: str) -> str:
    """Who looks: the node's ``owner``, a ``user`` who is known, or ``anybody``."""
    if not principal:
        return "owner"
    return "anybody" if principal == "anonymous" else "user"


def _liars(node: Node) -> list[str]:
    return sorted(node.exchange.liars) if node.exchange else []


def _cut(job: Result) -> Result:
    """A job with at most NODES of its nodes, and no wishes."""
    standings, silent = (cast("list[object]", job[key]) for key in ("standings", "silent"))
    quiet = silent[: max(0, NODES - len(standings))]
    more = len(standings) + len(silent) - min(NODES, len(standings)) - len(quiet)
    return {**job, "standings": standings[:NODES], "silent": quiet, "more": more}


def _largest(images: dict[str, Closure]) -> list[tuple[Digest, int]]:
    """The largest blobs, which are worth asking for."""
    sizes = {digest: size for _, each in images.values() for digest, size in each.items()}
    large = [(digest, size) for digest, size in sizes.items() if size >= HELD_SIZE]
    return sorted(large, key=lambda blob: (-blob[1], str(blob[0])))[:HELD]
