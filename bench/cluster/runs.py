"""The runs: who pulls what, and what is asked of the figures."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence

from bench.cluster.figures import Run, floor
from bench.cluster.place import FASTER, Place
from bench.cluster.programs import registry
from bench.cluster.storms import podman, skopeo
from bench.rig import goal

#: What is asked of runs of a cluster: the last node's time in floors, and bytes in sizes of the
#: image, from the upstream and from the node that sends most.
LAST, UPSTREAM, MOST_SENT, ON_DEMAND = 1.25, 1.02, 1.5, 1.05


def same(place: Place) -> Iterator[Run]:
    """All nodes at once, links as fast as the upstream's."""
    yield _all(place, f"cluster, {place.settings.nodes} nodes at once", 1)


def fast(place: Place) -> Iterator[Run]:
    """All nodes at once, links much faster than the upstream's."""
    yield _all(place, f"cluster, links {FASTER} x the upstream's", FASTER)


def _all(place: Place, what: str, faster: int) -> Run:
    image = place.image(place.settings.size)
    links = place.linked(faster, image)
    with place.nodes() as nodes:
        return place.pull(what, nodes, image, links)


def alone(place: Place) -> Iterator[Run]:
    """Every node for itself."""
    image = place.image(place.settings.small)
    links = place.linked(1, image)
    with place.nodes(alone=True) as nodes:
        yield place.pull("every node alone", nodes, image, links)


def proxy(place: Place) -> Iterator[Run]:
    """Every node for itself, from a caching registry whose link is one node's."""
    image = place.image(place.settings.small)
    links = place.linked(1, image)
    with (
        registry(place.folder, place.logs, place.proxy, place.upstream.url) as cache,
        place.nodes(cache, alone=True) as nodes,
    ):
        yield place.pull("one docker-registry as a proxy", nodes, image, links)


def second(place: Place) -> Iterator[Run]:
    """Half of the nodes, and when they hold it the other half."""
    image = place.image(place.settings.held)
    links = place.linked(1, image)
    with place.nodes() as nodes:
        half = len(nodes) // 2
        first, then = nodes[:half], nodes[half:]
        yield place.pull(f"{half} of the nodes", first, image, links, others=then)
        yield place.pull(f"a second job on {len(then)} others", then, image, links, first)


def demand(place: Place) -> Iterator[Run]:
    """A quarter of the nodes without a pull: the images are asked for by skopeo, and by podman."""
    image = place.image(place.settings.held)
    links = place.linked(1, image)
    with place.nodes() as nodes:
        some = nodes[:: max(1, min(4, len(nodes) // 2))]
        targets = place.folder / "targets"
        targets.mkdir()
        argvs = [skopeo(node.host, image, targets / node.host.name) for node in some[:-1]]
        argvs.append(podman(some[-1].host, image, targets / some[-1].host.name))
        what = f"on demand, {len(some) - 1} by skopeo, 1 by podman"
        try:
            yield place.storm(what, argvs, nodes, image, floor(image.size, len(some), links))
        finally:
            shutil.rmtree(targets, ignore_errors=True)


RUNS: dict[str, Callable[[Place], Iterator[Run]]] = {
    run.__name__: run for run in (same, fast, alone, proxy, second, demand)
}
#: Those that are done several times.
REPEATED = ("same", "fast")


def judge(name: str, runs: Sequence[Run]) -> bool:
    """Print what is asked of the rounds of one run and whether they meet it."""
    if name in ("alone", "proxy"):
        return True
    if name == "second":
        runs = runs[1:]  # the first one is the job before it
    what = runs[-1].what
    upstream = {"second": 0.0, "demand": ON_DEMAND}.get(name, UPSTREAM)
    met = [goal(f"{what}: upstream / S", _each(runs, "upstream_ratio"), "x", most=upstream)]
    if name in ("same", "fast"):
        met.append(goal(f"{what}: last / floor", _each(runs, "last_ratio"), "x", most=LAST))
        met.append(
            goal(f"{what}: most sent / S", _each(runs, "most_sent_ratio"), "x", most=MOST_SENT)
        )
    return all(met)


def _each(runs: Sequence[Run], figure: str) -> list[float]:
    return [getattr(run, figure) for run in runs]
