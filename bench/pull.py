"""Cold pulls: one large layer, and sixty small ones, against skopeo and curl on one registry.

python -m bench.pull [--rounds N] [--size MIB] [--dir FOLDER]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from bench.rig import MIB, Rig, Series, need, report, rig, rounds, run_timed

SMALL_LAYERS = 60
SMALL_SIZE = 20_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large layer")
    parser.add_argument("--dir", type=Path, help="where caches and targets go")
    options = parser.parse_args()
    with rig(options.dir) as place:
        port = place.registry()
        large(place, port, options.size, options.rounds)
        small(place, port, options.rounds)


def registryctl() -> list[str]:
    """The command as a user runs it."""
    script = Path(sys.executable).with_name("registryctl")
    return [str(script)] if script.exists() else [sys.executable, "-m", "registryd.cli.main"]


def large(place: Rig, port: int, size: int, count: int) -> None:
    """One incompressible layer: registryctl in-process, skopeo to dir:, curl then openssl."""
    name = f"127.0.0.1:{port}/bench/large:1"
    place.push([size * MIB], name)
    raw = subprocess.run(
        [need("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{name}"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    digest = json.loads(raw)["layers"][0]["digest"]
    cache, target, blob = (place.folder / word for word in ("cache", "dir", "blob"))
    url = f"http://127.0.0.1:{port}/v2/bench/large/blobs/{digest}"

    def alone() -> float:
        took = run_timed(*registryctl(), "pull", "--root", cache, "--progress", "none", name)
        shutil.rmtree(cache)
        return took

    def skopeo() -> float:
        argv = [need("skopeo"), "copy", "-q", "--src-tls-verify=false"]
        took = run_timed(*argv, f"docker://{name}", f"dir:{target}")
        shutil.rmtree(target)
        return took

    def curl() -> float:
        got = run_timed(need("curl"), "-s", "-o", blob, url)
        took = got + run_timed(need("openssl"), "dgst", "-sha256", blob)
        blob.unlink()
        return took

    with place.daemon({}) as daemon:
        socket = ("--socket", str(daemon.socket))

        def ours() -> float:
            took = run_timed(*registryctl(), "pull", *socket, "--progress", "none", name)
            run_timed(*registryctl(), "rmi", *socket, name)
            return took

        series = [
            Series("registryctl pull (daemon)", ours),
            Series("registryctl pull (in-process)", alone),
            Series("skopeo copy to dir:", skopeo),
            Series("curl -o, then openssl dgst", curl),
        ]
        rounds(series, count, lambda: place.warm(size * MIB))
        goals = [(0, 2, 0.3), (0, 3, 0.9), (1, 2, 0.3), (1, 3, 0.9)]
        report(f"Cold pull of one {size} MiB layer", series, goals)
        print(f"| daemon's peak memory | {daemon.peak_mib():.0f} MiB (goal at most 120) |")
    print(f"| in-process peak memory | {peak_of_one(cache, name):.0f} MiB (goal at most 120) |")
    shutil.rmtree(cache)


def peak_of_one(cache: Path, name: str) -> float:
    """Peak memory of one cold registryctl pull, MiB."""
    code = (
        "import resource, subprocess, sys;"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    pull = [*registryctl(), "pull", "--root", str(cache), "--progress", "none", name]
    done = subprocess.run([sys.executable, "-c", code, *pull], check=True, capture_output=True)
    return int(done.stdout) / 1024


def small(place: Rig, port: int, count: int) -> None:
    """Many small layers through a running daemon: what a command costs besides its bytes."""
    upstream = f"127.0.0.1:{port}"
    target = place.folder / "dir"
    images = iter(range(1, 2 * count + 10))
    with place.daemon({}) as daemon:

        def fresh() -> str:
            number = next(images)
            name = f"{upstream}/bench/small{number}:1"
            place.push([SMALL_SIZE] * SMALL_LAYERS, name, seed=100 + number)
            return name

        def ours() -> float:
            name = fresh()
            argv = [*registryctl(), "pull", "--socket", str(daemon.socket), "--progress", "none"]
            return run_timed(*argv, name)

        def skopeo() -> float:
            name = fresh()
            shutil.rmtree(target, ignore_errors=True)
            argv = [need("skopeo"), "copy", "-q", "--src-tls-verify=false"]
            return run_timed(*argv, f"docker://{name}", f"dir:{target}")

        series = [Series("registryctl pull (daemon)", ours), Series("skopeo copy to dir:", skopeo)]
        rounds(series, count)
        title = f"Cold pull of {SMALL_LAYERS} layers of {SMALL_SIZE} bytes"
        report(title, series, [(0, 1, 1.0)])
        print(f"| daemon's peak memory | {daemon.peak_mib():.0f} MiB (goal at most 120) |")


if __name__ == "__main__":
    main()
