"""Waiting for a job: which nodes are meant, who of them is awaited, and how it ends (pure).

Invariants:
- who is not there is named and not waited for; who says nothing for a while is not there;
- a node that was done counts as done, wherever it is now;
- only words on the revision that is waited for, or a later one, count.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from registryd.cluster.names import absent
from registryd.hostlist import natural_order
from registryd.jobs.record import Job
from registryd.jobs.standing import Standing

#: Seconds in which a node that is there has said something of a job.
SILENCE: Final = 30.0
#: Seconds over which the rate is taken: long enough to be smooth, short enough to be true.
WINDOW: Final = 10.0
#: Seconds before which there is no rate: what was held already is told at once.
SOON: Final = 0.5


@dataclass(frozen=True, slots=True)
class Ending:
    """Who has done a job, who failed (with what), and who was not there; sorted."""

    done: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]


class Roll:
    """The nodes of one revision of a job, as they answer."""

    def __init__(self, job: Job, *, now: float, silence: float = SILENCE) -> None:
        self._job = job
        self._silence = silence
        self._seen: dict[str, float] = {}
        #: Everyone who is there, and those of them that are meant.
        self._names: frozenset[str] = frozenset()
        self._alive: frozenset[str] = frozenset()
        self._said: dict[str, Standing] = {}
        self._moments: deque[tuple[float, int]] = deque()
        self._now = now

    def members(self, alive: Iterable[str], now: float) -> None:
        """Who is there now."""
        self._now = now
        names = frozenset(alive)
        if names == self._names:
            return
        self._names = names
        self._alive = frozenset(name for name in names if self._job.is_for(name))
        for name in self._alive:
            self._seen.setdefault(name, now)
        for gone in self._seen.keys() - self._alive:
            del self._seen[gone]

    def word(self, standing: Standing) -> bool:
        """Note what a node says; whether it is news of this job."""
        if standing.job != self._job.id or standing.revision < self._job.revision:
            return False
        changed = self._said.get(standing.node) != standing
        self._said[standing.node] = standing
        return changed

    @property
    def awaited(self) -> list[str]:
        """The nodes that are there, and not done."""
        return list(self._awaited())

    def _awaited(self) -> Iterator[str]:
        return (name for name in self._alive if not self._is_settled(name) and self._speaks(name))

    @property
    def missing(self) -> list[str]:
        """The nodes that are meant and not there, by the names that they were meant by."""
        return sorted(self._missing(), key=natural_order)

    def _missing(self) -> list[str]:
        known = self._alive | self._said.keys()
        silent = [name for name in known if not self._is_settled(name) and not self._speaks(name)]
        return [*silent, *absent(self._job.targets or (), known)]

    def _is_settled(self, name: str) -> bool:
        said = self._said.get(name)
        return said is not None and said.settled

    def _speaks(self, name: str) -> bool:
        if name not in self._alive:
            return False
        return name in self._said or self._now - self._seen[name] < self._silence

    def over(self, *, patient: bool) -> bool:
        """Whether there is nothing to wait for; ``patient`` waits for those who are missing too."""
        return not any(self._awaited()) and not (patient and self._missing())

    def ending(self) -> Ending:
        """How it stands; who is awaited still is missing."""
        said = sorted(self._said.values(), key=lambda each: natural_order(each.node))
        done = tuple(each.node for each in said if each.stage == "done")
        failed = tuple(
            (each.node, each.error or each.stage)
            for each in said
            if each.stage in ("failed", "cancelled")
        )
        rest = sorted({*self.missing, *self.awaited}, key=natural_order)
        return Ending(done, failed, tuple(rest))

    def event(self) -> dict[str, object]:
        """What all are together: nodes, bytes, bytes a second, and seconds that it will take."""
        said = self._said.values()
        moved, total = sum(each.here for each in said), self._total(said)
        rate = self._rate(moved)
        left = total - moved
        stages = Counter(each.stage for each in said)
        return {
            "event": "cluster",
            "job": self._job.id,
            "nodes": len(self._alive | self._said.keys()),
            "done": stages["done"],
            "failed": stages["failed"] + stages["cancelled"],
            "missing": self.missing,
            "bytes": moved,
            "total": total,
            "rate": round(rate),
            "seconds_left": round(left / rate, 1) if rate > 0 and left > 0 else None,
        }

    def _total(self, said: Collection[Standing]) -> int:
        """Bytes of all; a node that does not know yet needs as many as the others."""
        known = [each.total for each in said if each.total]
        silent = sum(1 for name in self._alive if not self._total_of(name))
        return sum(known) + (silent * (sum(known) // len(known)) if known else 0)

    def _total_of(self, name: str) -> int:
        said = self._said.get(name)
        return said.total if said else 0

    def _rate(self, moved: int) -> float:
        moments = self._moments
        moments.append((self._now, moved))
        while len(moments) > 2 and self._now - moments[0][0] > WINDOW:
            moments.popleft()
        seconds = self._now - moments[0][0]
        return max(moved - moments[0][1], 0) / seconds if seconds >= SOON else 0.0
