"""``python -m bench.sim``: storms in clusters of several sizes, as a table and as a picture."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from bench.sim.cluster import Cluster
from bench.sim.model import GIGABIT, Result, Settings
from registryd.units import parse_size

HEAD = (
    f"{'nodes':>6} {'floor s':>8} {'p50':>6} {'last':>6} {'slow':>6} {'upstream':>8} {'sent':>5} "
    f"{'asks/s':>7} {'redir':>6} {'moved':>6} {'took s':>7}  faults"
)


def row(result: Result, took: float) -> str:
    """One storm as a line; p50, last and slow as multiples of the floor, bytes of the blob."""
    settings = result.settings
    chunks = max(1, settings.asking * -(-settings.size // settings.chunk))
    slow = max(result.slow, default=0.0) / settings.floor
    faults = {**result.double, **result.failures}
    if result.unfinished:
        faults["unfinished"] = result.unfinished
    said = " ".join(f"{name}={count}" for name, count in sorted(faults.items()))
    return (
        f"{settings.nodes:6d} {settings.floor:8.2f} {result.at(0.5) / settings.floor:6.3f} "
        f"{result.last / settings.floor:6.3f} {slow:6.2f} "
        f"{result.upstream_bytes / settings.size:8.4f} {max(result.sent) / settings.size:5.2f} "
        f"{result.busiest:7d} {result.redirects / chunks:6.2f} {result.replaced / chunks:6.3f} "
        f"{took:7.1f}  {said}"
    )


def settings_of(arguments: argparse.Namespace, nodes: int) -> Settings:
    """The storm that the command line means."""
    return Settings(
        nodes=nodes,
        askers=arguments.askers,
        holders=arguments.holders,
        size=parse_size(arguments.size),
        link=arguments.link * GIGABIT,
        upstream=arguments.upstream * GIGABIT,
        killed=arguments.killed,
        slow=arguments.slow,
        loss=arguments.loss,
        slots=arguments.slots,
        seed=arguments.seed,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Play the storms and print them."""
    parser = argparse.ArgumentParser(prog="python -m bench.sim", description=__doc__)
    parser.add_argument("--nodes", default="10,30,100,300,1000", help="sizes, by commas")
    parser.add_argument("--askers", type=int, help="how many of the nodes ask (all)")
    parser.add_argument("--holders", type=int, default=0, help="how many hold it already")
    parser.add_argument("--size", default="1GiB", help="of the blob")
    parser.add_argument("--link", type=float, default=1.0, help="of each node, Gbit/s each way")
    parser.add_argument("--upstream", type=float, default=1.0, help="of upstream, Gbit/s")
    parser.add_argument("--killed", type=float, default=0.0, help="part that dies half way")
    parser.add_argument("--slow", type=float, default=0.0, help="part that is ten times slower")
    parser.add_argument("--loss", type=float, default=0.0, help="part of transfers that is cut")
    parser.add_argument("--slots", type=int, default=16, help="uploads and downloads at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="draw it: FILE.png (by matplotlib)")
    arguments = parser.parse_args(argv)
    results = []
    print(HEAD)
    for nodes in map(int, arguments.nodes.split(",")):
        begun = time.monotonic()
        results.append(Cluster(settings_of(arguments, nodes)).run())
        print(row(results[-1], time.monotonic() - begun), flush=True)
    if arguments.out is not None:
        from bench.sim.drawing import draw

        draw(results, arguments.out)


if __name__ == "__main__":
    main()
