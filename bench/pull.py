"""Cold pulls: one large layer, sixty small ones, and a tiny one, against skopeo and curl (and crane
where it is installed) on one registry.

python -m bench.pull [--rounds N] [--size MIB] [--dir FOLDER] [--only NAME,...]

``large``, ``small`` and ``tiny`` are pulls; ``limited`` is one over a link that gives each
connection so much (--limit), against one connection; ``broken`` over one that is cut and stalls;
``start`` is what a command costs that asks a daemon, against a Python that does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.link import Link
from bench.rig import MIB, Rig, Series, goal, need, report, rig, rounds, run_timed, spread

SMALL_LAYERS = 60
SMALL_SIZE = 20_000


#: What a broken link does, and how many rounds are enough to see it.
CUTS, STALLS = 20, 2
NAMES = ("large", "small", "tiny", "limited", "broken", "start")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large layer")
    parser.add_argument("--dir", type=Path, help="where caches and targets go")
    parser.add_argument("--limit", type=int, default=100, help="MB/s of a connection")
    parser.add_argument("--only", default=",".join(NAMES), help="which of them")
    options = parser.parse_args()
    size, count, wanted = options.size, options.rounds, options.only.split(",")
    with rig(options.dir) as place:
        port = place.registry()
        acts: dict[str, Callable[[], None]] = {
            "large": lambda: large(place, port, size, count),
            "small": lambda: small(place, port, count, "small", [SMALL_SIZE] * SMALL_LAYERS),
            "tiny": lambda: small(place, port, count, "tiny", [1000]),
            "limited": lambda: limited(place, port, size, count, options.limit * 1_000_000),
            "broken": lambda: broken(place, port, size, count),
            "start": lambda: start(place, 4 * count),
        }
        for name in NAMES:
            if name in wanted:
                acts[name]()
        print(f"\n(load of this machine in the end: {os.getloadavg()[0]:.1f})")


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
            *crane(lambda: name, place.folder / "crane"),
        ]
        rounds(series, count, lambda: place.warm(size * MIB))
        goals = [(0, 2, 0.3), (0, 3, 0.9), (1, 2, 0.3), (1, 3, 0.9)]
        goals += [(number, 4, 1.0) for number in (0, 1) if len(series) > 4]
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


def small(place: Rig, port: int, count: int, kind: str, layers: list[int]) -> None:
    """Little to fetch, through a running daemon: what a command costs besides its bytes."""
    upstream = f"127.0.0.1:{port}"
    target = place.folder / "dir"
    images = iter(range(1, 4 * count + 20))
    with place.daemon({}) as daemon:

        def fresh() -> str:
            number = next(images)
            name = f"{upstream}/bench/{kind}{number}:1"
            place.push(layers, name, seed=100 + number)
            return name

        def ours() -> float:
            name = fresh()
            argv = [*registryctl(), "pull", "--socket", str(daemon.socket), "--progress", "none"]
            return run_timed(*argv, name)

        def alone() -> float:
            name, cache = fresh(), place.folder / "cache"
            took = run_timed(*registryctl(), "pull", "--root", cache, "--progress", "none", name)
            shutil.rmtree(cache)
            return took

        def skopeo() -> float:
            name = fresh()
            shutil.rmtree(target, ignore_errors=True)
            argv = [need("skopeo"), "copy", "-q", "--src-tls-verify=false"]
            return run_timed(*argv, f"docker://{name}", f"dir:{target}")

        series = [
            Series("registryctl pull (daemon)", ours),
            Series("registryctl pull (in-process)", alone),
            Series("skopeo copy to dir:", skopeo),
            *crane(fresh, place.folder / "crane"),
        ]
        rounds(series, count)
        title = f"Cold pull of {len(layers)} layers of {layers[0]} bytes"
        report(title, series, [(0, peer, 1.0) for peer in range(2, len(series))])
        print(f"| daemon's peak memory | {daemon.peak_mib():.0f} MiB (goal at most 120) |")


def crane(name: Callable[[], str], target: Path) -> list[Series]:
    """crane on the same image, where it is installed."""
    program = shutil.which("crane")
    if program is None:
        return []

    def act() -> float:
        took = run_timed(program, "pull", "--insecure", "--format", "oci", name(), target)
        shutil.rmtree(target)
        return took

    return [Series("crane pull to an OCI layout", act)]


def configured(place: Rig, words: str) -> None:
    """Have the commands of this bench read a configuration with this in [transfer]."""
    home = place.folder / "config" / "registryd"
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(f"[transfer]\n{words}\n")
    os.environ["XDG_CONFIG_HOME"] = str(home.parent)


def limited(place: Rig, port: int, size: int, count: int, rate: int) -> None:
    """A registry that gives each connection so much: several of them against one, and skopeo."""
    target, cache = place.folder / "dir", place.folder / "cache"
    place.push([size * MIB], f"127.0.0.1:{port}/bench/large:1")
    with Link(port, rate=rate) as link:
        name = f"127.0.0.1:{link.port}/bench/large:1"

        def pull(words: str) -> float:
            configured(place, words)
            took = run_timed(*registryctl(), "pull", "--root", cache, "--progress", "none", name)
            shutil.rmtree(cache)
            return took

        def skopeo() -> float:
            argv = [need("skopeo"), "copy", "-q", "--src-tls-verify=false"]
            took = run_timed(*argv, f"docker://{name}", f"dir:{target}")
            shutil.rmtree(target)
            return took

        series = [
            Series("registryctl pull, as it is", lambda: pull("")),
            Series("registryctl pull, ranges = 1", lambda: pull("ranges = 1")),
            Series("skopeo copy to dir:", skopeo),
        ]
        rounds(series, count, lambda: place.warm(size * MIB))
        title = f"Cold pull of one {size} MiB layer, {rate // 1_000_000} MB/s a connection"
        report(title, series, [(0, 1, 1 / 3), (0, 2, 1 / 3)])


def broken(place: Rig, port: int, size: int, count: int) -> None:
    """A link that is cut at random places and stalls: how many bytes went over it."""
    cache, whole = place.folder / "cache", size * MIB
    place.push([whole], f"127.0.0.1:{port}/bench/large:1")
    configured(place, 'stall_timeout = "2s"')
    passed, seconds = [], []
    for seed in range(count):
        chance = random.Random(seed)
        cuts, stalls = ([chance.randrange(1, whole) for _ in range(n)] for n in (CUTS, STALLS))
        with Link(port, cuts=cuts, stalls=stalls) as link:
            name = f"127.0.0.1:{link.port}/bench/large:1"
            # A pull ends well only with the right bytes.
            seconds.append(run_timed(*registryctl(), "pull", "--root", cache, "-q", name))
            assert link.left == 0, "the link has not broken as it should"
            passed.append(link.passed / whole)
        shutil.rmtree(cache)
    print(
        f"\n### Pull of {size} MiB over a link that is cut {CUTS} times and stalls {STALLS} times\n"
    )
    print("| what | median (min to max) |")
    print("|---|---|")
    print(f"| time, of which {2 * STALLS} s of stalls | {spread(seconds)} |")
    goal("bytes over the link / bytes of the layer", passed, "x", most=1.05)


def start(place: Rig, count: int) -> None:
    """What a command costs that asks a running daemon."""
    with place.daemon({}) as daemon:
        images = [*registryctl(), "images", "--socket", str(daemon.socket)]
        series = [
            Series("registryctl images", lambda: run_timed(*images)),
            Series("python3 -c pass", lambda: run_timed(sys.executable, "-c", "pass")),
        ]
        rounds(series, count)
        report("A command that asks a daemon", series, [(0, 1, 8.0)])


if __name__ == "__main__":
    main()
