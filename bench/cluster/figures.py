"""The figures of a run: the least time there can be, ratios to it, and the rows of the table. Pure.

Invariants:
- speeds are bytes of content a second, as one download over the link really gives them;
- a ratio is to the floor of the same run: of its own size, nodes and links.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.rig import spread

#: Columns: heading, the figure's name in a Run, its unit.
COLUMNS = (
    ("last node", "last", "s"),
    ("last / floor", "last_ratio", "x"),
    ("p50 / floor", "middle_ratio", "x"),
    ("upstream / S", "upstream_ratio", "x"),
    ("most sent / S", "most_sent_ratio", "x"),
    ("CPU of daemons", "cpu", "s"),
    ("idle", "idle", "%"),
)


@dataclass(frozen=True, slots=True)
class Links:
    """What the upstream's link and a node's give, bytes of content a second."""

    upstream: float
    node: float

    def __post_init__(self) -> None:
        if self.upstream <= 0 or self.node <= 0:
            raise ValueError(f"a link of {min(self.upstream, self.node)} bytes a second")


def floor(size: int, takers: int, links: Links, holders: int = 0) -> float:
    """Seconds before which so many nodes cannot all have so many bytes.

    Nobody takes faster than by its own link, all together not faster than all that send; and what
    no node holds has to leave the upstream once (Kumar and Ross, 2006).
    """
    senders = links.upstream + (takers + holders) * links.node
    together = takers * size / senders
    once = 0.0 if holders else size / links.upstream
    return max(once, size / links.node, together)


@dataclass(frozen=True)
class Run:
    """One storm: when each node was done, what went over which link, what the machine did."""

    what: str
    size: int
    floor: float
    ends: tuple[float, ...]
    #: Bytes of blobs in the upstream's answers, by its access log; and all that left its link.
    upstream: int
    upstream_wire: int
    #: What each node has sent over its link.
    sent: tuple[int, ...]
    #: Seconds of CPU used by the daemons and by the whole machine, and its idle share in percent:
    #: over the run, and in the worst second of it.
    cpu: float
    idle: float
    idle_least: float
    #: Second by second: bytes that each host has sent and taken.
    seconds: tuple[Mapping[str, tuple[int, int]], ...] = ()
    #: The daemons' own counts, summed over the nodes.
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def last(self) -> float:
        return max(self.ends)

    @property
    def last_ratio(self) -> float:
        return self.last / self.floor

    @property
    def middle_ratio(self) -> float:
        return statistics.median(self.ends) / self.floor

    @property
    def upstream_ratio(self) -> float:
        return self.upstream / self.size

    @property
    def most_sent_ratio(self) -> float:
        return max(self.sent) / self.size

    def record(self) -> dict[str, object]:
        """Everything, for a file."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        ratios = ("last", "last_ratio", "middle_ratio", "upstream_ratio", "most_sent_ratio")
        return own | {name: getattr(self, name) for name in ratios}


def heading() -> list[str]:
    """The first lines of the table."""
    names = ["run", "S, floor", *(name for name, _, _ in COLUMNS)]
    return [_row(names), _row(["---"] * len(names))]


def row(runs: Sequence[Run]) -> str:
    """One line of the table: the median of each figure, with its range if there were several."""
    first = runs[0]
    size = f"{first.size / (1 << 20):.0f} MiB, {first.floor:.1f} s"
    cells = [_cell([getattr(run, name) for run in runs], unit) for _, name, unit in COLUMNS]
    return _row([first.what, size, *cells])


def _cell(values: Sequence[float], unit: str) -> str:
    if len(values) > 1:
        return spread(values, unit)
    return f"{values[0]:.3g} {unit}" if values[0] < 100 else f"{values[0]:,.0f} {unit}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
