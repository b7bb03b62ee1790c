"""The node at one look, as people read it in a terminal: facts, fetches, jobs and nodes (pure).

Invariant: a look may lack what an older daemon did not tell; it is then left out, or a dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from registryd.cli import wording
from registryd.cli.flights import FIRST, first, nearest
from registryd.cli.tables import Column

Look = Mapping[str, Any]
Sample = Mapping[str, float]

FLIGHT_COLUMNS = (*FIRST, Column("RATE", right=True), Column("LEFT", right=True))
JOB_COLUMNS = (
    Column("JOB"),
    Column("NODE"),
    Column("STATE"),
    Column("THERE", right=True),
    Column("OF", right=True),
    Column("DONE", right=True),
)
NODE_COLUMNS = (
    Column("NODE"),
    Column("ZONE"),
    Column("SENDING", right=True),
    Column("FREE", right=True),
    Column("HEARD", right=True),
)
#: What bytes are called by where they came from.
SOURCES = {"cache": "given from the cache", "registries": "from registries", "nodes": "from nodes"}
#: How much the newest look weighs in a rate.
WEIGHT = 0.4


@dataclass(slots=True)
class Speeds:
    """How fast each fetch goes: since it began at first, then as it goes now."""

    _known: dict[str, tuple[float, int, float]] = field(default_factory=dict)

    def take(self, flights: Sequence[Look]) -> dict[str, float]:
        """Bytes a second by digest, as of this look."""
        before, self._known = self._known, {}
        for flight in flights:
            digest = str(flight.get("digest"))
            self._known[digest] = _speed(flight, before.get(digest))
        return {digest: speed for digest, (_, _, speed) in self._known.items()}


def _speed(flight: Look, before: tuple[float, int, float] | None) -> tuple[float, int, float]:
    seconds, offset = float(flight.get("seconds") or 0), int(flight.get("offset") or 0)
    if before is None or seconds < before[0] or offset < before[1]:
        received = int(flight.get("received") or offset)  # what other nodes sent is not in it
        return seconds, offset, received / seconds if seconds else 0.0
    if seconds == before[0]:
        return before
    now = (offset - before[1]) / (seconds - before[0])
    return seconds, offset, before[2] * (1 - WEIGHT) + now * WEIGHT


@dataclass(slots=True)
class Course:
    """The samples of the last hour, put together from look to look."""

    samples: list[Sample] = field(default_factory=list)

    @property
    def newest(self) -> float:
        """When the newest sample was taken, Unix seconds; 0 without any."""
        return self.samples[-1]["at"] if self.samples else 0.0

    def take(self, look: Look) -> Sample:
        """Add what is new in a look; gives the sums of now."""
        history = look.get("history") or {}
        columns = history.get("columns") or []
        now = dict(zip(columns, look.get("now") or [], strict=False))
        fresh = [dict(zip(columns, row, strict=False)) for row in history.get("samples") or []]
        if self.samples and any(now.get(key, 0) < self.samples[-1][key] for key in SOURCES):
            self.samples = []  # a daemon that began anew
        hour = now.get("at", 0.0) - 3600.0
        self.samples = [each for each in (*self.samples, *fresh) if each["at"] >= hour]
        return now

    def sums(self, now: Sample) -> Sample:
        """What came in the last hour, until now."""
        first = self.samples[0] if self.samples else now
        return {key: max(0, value - first.get(key, 0)) for key, value in now.items()}

    def rates(self, now: Sample, count: int) -> list[float]:
        """Bytes a second from all sources, in each of the newest spans between samples."""
        marks = [*self.samples, now][-count - 1 :]
        return [
            sum(max(0, b.get(key, 0) - a.get(key, 0)) for key in SOURCES) / (b["at"] - a["at"])
            for a, b in pairwise(marks)
            if b["at"] > a["at"]
        ]


def facts(look: Look, hour: Sample) -> list[tuple[str, str]]:
    """Names and values, the node first."""
    cache, node, cluster = (look.get(key) or {} for key in ("cache", "node", "cluster"))
    asked = int(hour.get("hits", 0) + hour.get("misses", 0))
    hits = f"{wording.percent(hour.get('hits', 0), asked)} of {wording.counted(asked, 'blob')}"
    return [
        (
            "daemon",
            f"{node.get('version', '-')}, up {wording.span(node.get('uptime_seconds') or 0)}",
        ),
        *([("cluster", _cluster(cluster))] if cluster.get("me") else []),
        ("cache", _cache(cache)),
        ("disk", _disk(cache)),
        ("last hour", ", ".join(f"{wording.size(hour.get(k, 0))} {w}" for k, w in SOURCES.items())),
        ("hit rate", hits if asked else "no blob was asked for"),
    ]


def _cluster(cluster: Look) -> str:
    count = len(cluster.get("nodes") or []) + int(cluster.get("more") or 0)
    away = "" if cluster.get("connected") else ", but NATS is away"
    return f"{cluster['me']} of {wording.counted(count, 'node')}{away}"


def _cache(cache: Look) -> str:
    images, blobs = int(cache.get("images") or 0), int(cache.get("blobs") or 0)
    size = wording.size(cache.get("size") or 0)
    return f"{wording.counted(images, 'image')}, {wording.counted(blobs, 'blob')}, {size}"


def _disk(cache: Look) -> str:
    used, bound = cache.get("used") or 0, cache.get("max_size") or 0
    free = f"{wording.size(cache.get('free') or 0)} free"
    if not bound:
        return f"{wording.size(used)} used, no bound, {free}"
    part = wording.percent(used, bound)
    marks = f"content goes at {wording.size(cache.get('high') or 0)}"
    return f"{wording.size(used)} of {wording.size(bound)} used ({part}), {marks}, {free}"


def flight_rows(flights: Sequence[Look], speeds: Mapping[str, float]) -> list[list[str]]:
    """A row a fetch, those that are nearest to their end first."""
    return [_flight_row(flight, speeds) for flight in sorted(flights, key=nearest)]


def _flight_row(flight: Look, speeds: Mapping[str, float]) -> list[str]:
    offset, total = flight.get("offset") or 0, flight.get("total")
    speed = speeds.get(str(flight.get("digest")), 0.0)
    left = wording.span((total - offset) / speed) if total and speed >= 1 else "-"
    return [*first(flight), wording.rate(speed, 1.0), left]


def job_rows(jobs: Sequence[Look]) -> list[list[str]]:
    """A row for each node of each job; those that have least first."""
    rows = []
    for job in jobs:
        said = sorted(job.get("standings") or [], key=lambda each: (_part(each), each.get("node")))
        rows += [_job_row(job, each) for each in said]
        rows += [
            [str(job.get("id")), str(n), "silent", "-", "-", "-"] for n in job.get("silent") or []
        ]
    return rows


def _part(standing: Look) -> float:
    total = standing.get("total") or 0
    return (standing.get("bytes") or 0) / total if total else 0.0


def _job_row(job: Look, standing: Look) -> list[str]:
    here, total = standing.get("bytes") or 0, standing.get("total") or 0
    state = str(standing.get("state"))
    error = f": {standing['error']}" if standing.get("error") else ""
    return [
        str(job.get("id")),
        str(standing.get("node")),
        state + error,
        wording.size(here),
        wording.size(total),
        wording.percent(here, total),
    ]


def node_rows(cluster: Look) -> list[list[str]]:
    """A row for each member of the cluster, this node too."""
    return [
        [
            str(node.get("name")),
            str(node.get("zone") or "-"),
            "-" if node.get("load") is None else str(node["load"]),
            "-" if node.get("free") is None else wording.size(node["free"]),
            "-" if node.get("heard_seconds") is None else f"{node['heard_seconds']:.0f} s ago",
        ]
        for node in cluster.get("nodes") or []
    ]
