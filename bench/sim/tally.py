"""The tally of a storm: what its nodes have counted, put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.sim.links import Link
from bench.sim.model import Result
from bench.sim.node import Node


def tally(result: Result, nodes: Sequence[Node], upstream: Link) -> None:
    """Write into a result what was sent, received, asked and counted."""
    result.sent = [node.up.carried for node in nodes]
    result.received = sum(node.down.carried for node in nodes)
    result.upstream_bytes = upstream.carried
    double: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for node in nodes:
        result.busiest = max([result.busiest, *node.asked_in.values()])
        if node.fetching is not None:
            counts = node.fetching.counts
            result.redirects += counts.redirects
            result.hedges += counts.hedges
            result.replaced += counts.replaced
            double += counts.double
            failures += counts.failures
    result.double, result.failures = dict(double), dict(failures)
