"""Many pulls of one held image at once: errors, time, and the memory that they take.

    python -m bench.warm [--pulls N] [--layers N] [--size KB] [--rounds N] [--dir FOLDER]

A pull is what a runtime does, over three connections (bench.clients); all begin at once. Debian's
docker-registry with the same image, and without any checks of access, stands beside.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from pathlib import Path

import uvloop

from bench.clients import Image, pull
from bench.rig import MIB, Rig, Series, goal, memory_mib, ratio, report, rig, spread, timed

NAME = "up.test"
#: The most memory that the daemon may take (VmHWM, MiB).
MOST = 250.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pulls", type=int, default=500)
    parser.add_argument("--layers", type=int, default=60)
    parser.add_argument("--size", type=int, default=100, help="kB of a layer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where the cache goes")
    options = parser.parse_args()
    with rig(options.dir) as place:
        compare(place, options.pulls, [options.size * 1000] * options.layers, options.rounds)


def compare(place: Rig, pulls: int, layers: list[int], count: int) -> None:
    """All pulls at once from a warm daemon, and from docker-registry."""
    faults: Counter[str] = Counter()
    with place.docker_registry("registry") as registry:
        upstream = f"127.0.0.1:{registry.port}"
        place.push(layers, f"{upstream}/bench/many:1")
        with place.daemon({NAME: f"http://{upstream}"}) as daemon:
            ours = Image(daemon.port, f"/v2/{NAME}/bench/many")
            theirs = Image(registry.port, "/v2/bench/many")
            uvloop.run(crowd(ours, 1, faults))  # from here on it is held
            before = daemon.peak_mib()
            series = [
                Series("registryd", lambda: timed(lambda: uvloop.run(crowd(ours, pulls, faults)))),
                Series("docker-registry", lambda: timed(lambda: uvloop.run(crowd(theirs, pulls)))),
            ]
            for _ in range(count):
                for entry in series:
                    entry.seconds.append(entry.act())
            peak, now = daemon.peak_mib(), memory_mib(daemon.pid, "VmRSS")
            peer = memory_mib(registry.pid, "VmHWM")
    size = sum(layers) * pulls // MIB
    report(f"{pulls} pulls at once, {len(layers)} layers, {size:,} MiB in all", series, [])
    print(f"| registryd / docker-registry | {spread(ratio(*series), 'x')} |")
    goal("requests of registryd that failed", [float(faults.total())], "", most=0)
    for fault, times in faults.most_common(3):
        print(f"| {fault} | {times} |")
    goal("peak memory of registryd", [peak], "MiB", most=MOST)
    print(f"| registryd before, and after | {before:.0f} MiB, {now:.0f} MiB |")
    print(f"| peak memory of docker-registry | {peer:.0f} MiB |")


async def crowd(image: Image, pulls: int, faults: Counter[str] | None = None) -> None:
    """So many pulls at once; without ``faults`` the first one that fails is raised."""
    done = await asyncio.gather(*(pull(image) for _ in range(pulls)), return_exceptions=True)
    for fault in done:
        if fault is not None and faults is None:
            raise fault
        if fault is not None and faults is not None:
            faults[f"{type(fault).__name__}: {fault}"] += 1


if __name__ == "__main__":
    main()
