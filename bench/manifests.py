"""Held manifests: requests a second, access check included, against Debian's docker-registry.

    python -m bench.manifests [--rounds N] [--seconds N] [--connections N] [--dir FOLDER]

``wrk`` asks, with one thread, for one tag over kept connections of loopback TCP, where the daemon
knows nobody: each request is checked against the grants. nginx (a file) and a bare aiohttp handler
of the same bytes stand beside for orientation; they know no registry.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from bench.rig import MANIFEST, Rig, free_port, goal, need, rig, running, spread

LAYERS = [20_000] * 5
WANTED = 5.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each run")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--dir", type=Path, help="where the cache goes")
    options = parser.parse_args()
    with rig(options.dir) as place:
        compare(place, options.seconds, options.connections, options.rounds)


def compare(place: Rig, seconds: int, connections: int, count: int) -> None:
    """Everyone in turn, after one run that is not counted."""
    upstream = f"127.0.0.1:{place.registry()}"
    place.push(LAYERS, f"{upstream}/lib/x:1")
    with place.daemon({"up.test": f"http://{upstream}"}) as daemon:
        ours = f"http://127.0.0.1:{daemon.port}/v2/up.test/lib/x/manifests/1"
        curl = [need("curl"), "-sf", "-H", f"Accept: {MANIFEST}", ours]
        file = place.folder / "files" / "manifest"
        file.parent.mkdir()
        file.write_bytes(subprocess.run(curl, check=True, capture_output=True).stdout)
        urls = {
            "registryd": ours,
            "docker-registry": f"http://{upstream}/v2/lib/x/manifests/1",
            "nginx (a file)": f"http://127.0.0.1:{place.nginx(file.parent)}/manifest",
            "a bare aiohttp handler": f"http://127.0.0.1:{bare(place, file)}/manifest",
        }
        rates: dict[str, list[float]] = {name: [] for name in urls}
        for number in range(count + 1):
            for name, url in urls.items():
                found = rate(url, seconds if number else 1, connections)
                if number:
                    rates[name].append(found)
        peak = daemon.peak_mib()
    print(f"\n### A held manifest, {connections} connections\n")
    print("| what | requests a second, median (min to max) |\n|---|---|")
    for name, found in rates.items():
        print(f"| {name} | {spread(found, '/s')} |")
    ratios = [a / b for a, b in zip(rates["registryd"], rates["docker-registry"], strict=True)]
    goal("registryd / docker-registry", ratios, "x", least=WANTED)
    print(f"| daemon's peak memory | {peak:.0f} MiB |")


def bare(place: Rig, file: Path) -> int:
    """The bare handler in a process of its own; gives its port."""
    port = free_port()
    argv = [sys.executable, "-m", "bench.bare", str(port), str(file)]
    place.stack.enter_context(running(argv, port, place.folder / "bare.log"))
    return port


def rate(url: str, seconds: int, connections: int) -> float:
    """Requests a second that were answered well. Raises RuntimeError when one was not."""
    argv = [need("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Accept: {MANIFEST}"]
    told = subprocess.run([*argv, url], check=True, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec:\s+([0-9.]+)", told)
    if found is None or "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(f"{url}: {told}")
    return float(found[1])


if __name__ == "__main__":
    main()
