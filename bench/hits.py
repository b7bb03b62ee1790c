"""What the index and the check of access add to a GET of a held blob.

    python -m bench.hits [--rounds N] [--requests N] [--clients N] [--images N] [--dir FOLDER]

The daemon, and beside it a bare server that sends the same files by the same code (bench.plain):
neither an index nor grants, accounts or metrics. One kept connection, over the unix socket (where
the kernel says who asks) and over loopback TCP (where each request is checked against the grants);
then many connections at once. All of it in an empty cache, and in one of many images.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import uvloop

from bench.asked import asked
from bench.clients import Line, connected
from bench.large import make
from bench.rig import MIB, Daemon, Rig, free_port, goal, need, rig, running, spread
from cache.layout import DATABASE

NAME = "hits.test"
SIZES = (4096, MIB)
#: What may be added to the 99th percentile, milliseconds.
WANTED = 0.3

#: Blobs of which any may be asked for.
MANY = 50_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=1000, help="of a round")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--images", type=int, default=20_000, help="of the large cache")
    parser.add_argument("--dir", type=Path, help="where the caches go")
    options = parser.parse_args()
    for images in (0, options.images):
        with rig(options.dir) as place:
            if images:
                make(place.folder / "node-cache", images)
            compare(place, options)


def compare(place: Rig, options: argparse.Namespace) -> None:
    """One cache: every way to ask, the daemon and the bare server in turn."""
    upstream = f"127.0.0.1:{place.registry()}"
    place.push(SIZES, f"{upstream}/bench/hits:1")
    with place.daemon({NAME: f"http://{upstream}"}, keep=True) as daemon:
        paths, files = held(daemon)
        port, bare = free_port(), place.folder / "bare.sock"
        argv = [sys.executable, "-m", "bench.plain", str(port), str(bare), *map(str, files)]
        with running(argv, port, place.folder / "bare.log"):
            blobs = len(list((daemon.root / "blobs" / "sha256").iterdir()))
            print(f"\n### A held blob, in a cache of {blobs:,}\n")
            print("| what | milliseconds, median of rounds (min to max) |\n|---|---|")
            for number, file in enumerate(files):
                size = file.stat().st_size  # the registry may have it compressed
                for way, ours, theirs in (
                    ("unix socket", str(daemon.socket), str(bare)),
                    ("TCP", daemon.port, port),
                ):
                    words = f"{size // 1024} KiB, {way}"
                    pair = Pair(
                        partial(one_by_one, ours, paths[number], size, options.requests),
                        partial(one_by_one, theirs, f"/{number}", size, options.requests),
                    )
                    pair.run(options.rounds)
                    pair.tell(words)
                words = f"{size // 1024} KiB, TCP, {options.clients} clients"
                crowded = [
                    partial(crowd, target, path, options.clients, options.requests)
                    for target, path in ((daemon.port, paths[number]), (port, f"/{number}"))
                ]
                pair = Pair(*crowded)
                pair.run(options.rounds)
                pair.tell(words, goals=False)
    alone(place, [path.rpartition("/")[2] for path in paths], options)


def alone(place: Rig, digests: list[str], options: argparse.Namespace) -> None:
    """What index and access take by themselves: of the same few blobs, and of many."""
    config, repository = place.folder / "node.toml", f"{NAME}/bench/hits"
    root = place.folder / "node-cache"
    many = sorted(path.name for path in (root / "blobs" / "sha256").iterdir())[:MANY]
    ways = {"the same blobs": digests}
    if len(many) > len(digests) * 10:
        everywhere = [f"sha256:{name}" for name in many]
        belong(root, repository, everywhere)
        ways[f"any of {len(everywhere):,} blobs"] = everywhere
    for words, chosen in ways.items():
        rounds = [
            asked(config, repository, chosen, options.requests) for _ in range(options.rounds)
        ]
        for number, clock in enumerate(("by the clock", "of the processor")):
            for name, part in (("p50", 0.5), ("p99", 0.99)):
                values = [at(times[number], part) for times in rounds]
                title = f"index and access alone, {words}: {name} {clock}"
                if name == "p99":
                    goal(title, values, "ms", most=WANTED)
                else:
                    print(f"| {title} | {spread(values, 'ms')} |")


def belong(root: Path, repository: str, digests: list[str]) -> None:
    """Let blobs belong to a repository, as if they had been pulled from it."""
    with closing(sqlite3.connect(root / DATABASE)) as db:
        rows = [(repository, digest) for digest in digests]
        db.executemany("INSERT OR IGNORE INTO members (repository, digest) VALUES (?, ?)", rows)
        db.commit()


def held(daemon: Daemon) -> tuple[list[str], list[Path]]:
    """The paths of the blobs, which the daemon holds from here on, and their files."""
    base = f"http://127.0.0.1:{daemon.port}/v2/{NAME}/bench/hits"
    curl = [need("curl"), "-sf"]
    manifest = subprocess.run([*curl, f"{base}/manifests/1"], check=True, capture_output=True)
    digests = [layer["digest"] for layer in json.loads(manifest.stdout)["layers"]]
    for digest in digests:
        subprocess.run([*curl, f"{base}/blobs/{digest}"], check=True, capture_output=True)
    files = [daemon.root / "blobs" / digest.replace(":", "/") for digest in digests]
    return [f"/v2/{NAME}/bench/hits/blobs/{digest}" for digest in digests], files


@dataclass
class Pair:
    """The daemon and the bare server: the times of each request, by rounds."""

    ours: Callable[[], list[float]]
    theirs: Callable[[], list[float]]
    rounds: list[tuple[list[float], list[float]]] = field(default_factory=list)

    def run(self, count: int) -> None:
        """In turn, after one round that is not counted."""
        for number in range(count + 1):
            both = self.ours(), self.theirs()
            if number:
                self.rounds.append(both)

    def tell(self, words: str, *, goals: bool = True) -> None:
        """Print a row for the median and one for the 99th percentile."""
        for name, part in (("p50", 0.5), ("p99", 0.99)):
            ours = [at(times, part) for times, _ in self.rounds]
            theirs = [at(times, part) for _, times in self.rounds]
            print(f"| {words}: {name} of registryd | {spread(ours, 'ms')} |")
            print(f"| {words}: {name} without index and access | {spread(theirs, 'ms')} |")
            added = [a - b for a, b in zip(ours, theirs, strict=True)]
            if goals and name == "p99":
                goal(f"{words}: added at p99", added, "ms", most=WANTED)
            else:
                print(f"| {words}: added at {name} | {spread(added, 'ms')} |")


def at(times: Sequence[float], part: float) -> float:
    """A quantile, in milliseconds."""
    return statistics.quantiles(times, n=100)[round(part * 100) - 1] * 1000


def one_by_one(target: str | int, path: str, size: int, count: int) -> list[float]:
    """Requests over one connection, each after the one before; the seconds that each took."""
    where: str | tuple[str, int] = target if isinstance(target, str) else ("127.0.0.1", target)
    family = socket.AF_UNIX if isinstance(target, str) else socket.AF_INET
    buffer, took = memoryview(bytearray(2 * MIB)), []
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.connect(where)
        for _ in range(count):
            began = time.perf_counter()
            sock.sendall(request)
            got, head = 0, -1
            while head < 0 or got < head + 4 + size:
                more = sock.recv_into(buffer[got:])
                if not more:
                    raise RuntimeError(f"{path} ended at {got} bytes")
                got += more
                if head < 0:
                    head = bytes(buffer[: min(got, 4096)]).find(b"\r\n\r\n")
            took.append(time.perf_counter() - began)
            if bytes(buffer[:12]) != b"HTTP/1.1 200":
                raise RuntimeError(bytes(buffer[:100]).decode("latin-1"))
    return took


def crowd(port: int, path: str, clients: int, count: int) -> list[float]:
    """So many requests in all over so many connections at once; the seconds of each."""
    took: list[float] = []

    async def client(line: Line) -> None:
        for _ in range(count // clients):
            began = time.perf_counter()
            await line.ask("GET", path, 200)
            took.append(time.perf_counter() - began)

    async def one() -> None:
        async with connected(port) as line:
            await client(line)

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(clients)))

    uvloop.run(all_of_them())
    return took


if __name__ == "__main__":
    main()
