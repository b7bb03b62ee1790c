"""A node's cache against Debian's docker-registry as a cache of the same upstream: cold reads.

    python -m bench.proxy [--rounds N] [--size MIB] [--clients N] [--rate MBYTES ...] [--dir FOLDER]

First, what one client waits for: a manifest that is not held, then its layer's first byte, each by
registryd, by docker-registry in proxy mode, and from the upstream itself; on loopback, and over a
link with a round trip of ``--link`` milliseconds. Then many clients at once on one large blob that
nobody holds; ``--rate`` limits each connection of the upstream (MB/s), 0 is no limit.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.coalesce import at_once
from bench.rig import (
    MANIFEST,
    MIB,
    Rig,
    Series,
    free_port,
    goal,
    ratio,
    rig,
    running,
    spread,
    write_layout,
)

NAME = "up.test"
#: The layer whose first byte is waited for (MiB), and the rate of the connection it comes by.
LAYER = 32
LINK_RATE = 125
#: What a miss may cost over asking upstream (milliseconds), and our part of the other's waiting.
MISS = 50.0
FIRST_BYTE = 0.5
LAST_CLIENT = 0.7


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large blob")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rate", type=int, nargs="*", default=[125, 0], help="MB/s, 0: no limit")
    parser.add_argument("--link", type=int, nargs="*", default=[0, 20], help="milliseconds")
    parser.add_argument("--dir", type=Path, help="where the caches go")
    options = parser.parse_args()
    for link in options.link:
        with rig(options.dir) as place:
            alone(place, link, 4 * options.rounds)
    for rate in options.rate:
        with rig(options.dir) as place:
            crowd(place, options.size, options.clients, rate, options.rounds)


@dataclass
class Upstream:
    """A registry of files, by nginx, that writes down what it sends."""

    port: int
    log: Path
    layers: list[str]

    def sent(self) -> int:
        """Bytes of blobs sent since the last call."""
        lines = (line.split() for line in self.log.read_text().splitlines())
        count = sum(
            int(size) for method, path, size in lines if method == "GET" and "blobs" in path
        )
        self.log.write_text("")
        return count


def upstream(place: Rig, images: int, size: int, rate: int) -> Upstream:
    """So many images of one layer of ``size`` bytes: tags 1, 2, ... of bench/large."""
    served = place.folder / "v2" / "bench" / "large"
    for folder in ("blobs", "manifests"):
        (served / folder).mkdir(parents=True)
    layers, means = [], []
    layout = place.folder / "layout"
    for tag in range(1, images + 1):
        root = write_layout(layout, [size], seed=tag)
        blobs = layout / "blobs" / "sha256"
        raw = (blobs / root.removeprefix("sha256:")).read_bytes()
        layers.append(json.loads(raw)["layers"][0]["digest"])
        for target in (str(tag), root):
            (served / "manifests" / target).write_bytes(raw)
            means.append(f"/v2/bench/large/manifests/{target} {root};")
        for blob in blobs.iterdir():
            blob.rename(served / "blobs" / f"sha256:{blob.name}")
        shutil.rmtree(layout)
    log = place.folder / "sent.log"
    limit = f"limit_rate {rate * 1_000_000};" if rate else ""
    port = place.nginx(
        place.folder,
        f"access_log {log} sent; {limit} location = /v2/ {{ return 200 '{{}}'; }}\n"
        f"  location ~ /manifests/ {{ default_type {MANIFEST};"
        " add_header Docker-Content-Digest $digest; }",
        "log_format sent '$request_method $uri $body_bytes_sent'; map_hash_bucket_size 256;"
        f" map $uri $digest {{ {' '.join(means)} }}",
    )
    return Upstream(port, log, layers)


# one client


@dataclass
class Waits:
    """What a client of one contender waited for, seconds, one a round."""

    name: str
    port: int
    prefix: str
    manifest: list[float] = field(default_factory=list)
    first_byte: list[float] = field(default_factory=list)

    def pull(self, tag: int, layer: str) -> None:
        """A manifest by tag, then its layer, as a runtime asks for them."""
        self.manifest.append(waited(self.port, f"{self.prefix}/manifests/{tag}"))
        self.first_byte.append(waited(self.port, f"{self.prefix}/blobs/{layer}"))


def waited(port: int, path: str) -> float:
    """Seconds from the request to the first byte of its body; the rest is read and dropped."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    connection.request("GET", path, headers={"Accept": MANIFEST})
    response = connection.getresponse()
    got = len(response.read(1))
    took = time.perf_counter() - began
    while piece := response.read(MIB):
        got += len(piece)
    connection.close()
    if response.status != 200 or got != int(response.headers["Content-Length"]):
        raise RuntimeError(f"{path}: status {response.status}, {got} bytes")
    return took


def alone(place: Rig, link: int, count: int) -> None:
    """One client, an image that is new to everyone each round."""
    registry = upstream(place, count + 1, LAYER * MIB, LINK_RATE if link else 0)
    port = registry.port
    if link:
        port = free_port()
        argv = [sys.executable, "-m", "bench.far", str(port), str(registry.port), str(link)]
        place.stack.enter_context(running(argv, port, place.folder / "far.log"))
    url = f"http://127.0.0.1:{port}"
    with place.daemon({NAME: url}) as daemon, place.docker_registry("proxy", url) as peer:
        own = "/v2/bench/large"
        contenders = [
            Waits("registryd", daemon.port, f"/v2/{NAME}/bench/large"),
            Waits("docker-registry as a proxy", peer.port, own),
            Waits("the upstream itself", port, own),
        ]
        for tag, layer in enumerate(registry.layers, 1):
            for contender in contenders[tag % 2 :] + contenders[: tag % 2]:
                contender.pull(tag, layer)
    far = f"a link of {link} ms and {LINK_RATE} MB/s" if link else "loopback without limit"
    print(f"\n### One client, nothing held, upstream over {far}\n")
    print("| what | milliseconds, median (min to max) |\n|---|---|")
    ours, theirs, _ = contenders
    for what, kind in (("manifest by tag", "manifest"), ("first byte of a layer", "first_byte")):
        for entry in contenders:
            print(f"| {what}: {entry.name} | {_milliseconds(getattr(entry, kind)[1:])} |")
        pairs = list(zip(*(getattr(entry, kind)[1:] for entry in contenders), strict=True))
        over = [1000 * (own - plain) for own, _, plain in pairs]
        goal(f"{what}: registryd over the upstream itself", over, "ms", most=MISS)
    firsts = zip(ours.first_byte[1:], theirs.first_byte[1:], strict=True)
    goal(
        f"first byte: {ours.name} / {theirs.name}", [a / b for a, b in firsts], "x", most=FIRST_BYTE
    )


def _milliseconds(seconds: list[float]) -> str:
    return spread([1000 * value for value in seconds], "ms")


# many clients


def crowd(place: Rig, size: int, clients: int, rate: int, count: int) -> None:
    """All clients at once on one blob, each contender with an empty cache every time."""
    registry = upstream(place, 1, size * MIB, rate)
    (layer,) = registry.layers
    url = f"http://127.0.0.1:{registry.port}"
    sent: dict[str, list[float]] = {"registryd": [], "docker-registry as a proxy": []}

    def run(name: str, port: int, prefix: str) -> float:
        registry.sent()
        path = f"{prefix}/blobs/{layer}"
        waited(port, f"{prefix}/manifests/1")
        took = at_once(clients, port, path, layer.removeprefix("sha256:"), size * MIB)
        sent[name].append(registry.sent() / (size * MIB))
        return took

    def ours() -> float:
        with place.daemon({NAME: url}) as daemon:
            return run("registryd", daemon.port, f"/v2/{NAME}/bench/large")

    def theirs() -> float:
        with place.docker_registry("proxy", url) as peer:
            return run("docker-registry as a proxy", peer.port, "/v2/bench/large")

    names = list(sent)
    acts: list[Callable[[], float]] = [ours, theirs]
    series = [Series(name, act) for name, act in zip(names, acts, strict=True)]
    for _ in range(count):
        for entry in series:
            place.warm(size * MIB)
            entry.seconds.append(entry.act())
    _report_crowd(series, sent, clients, size, rate)


def _report_crowd(
    series: list[Series], sent: dict[str, list[float]], clients: int, size: int, rate: int
) -> None:
    limit = f"limited to {rate} MB/s a connection" if rate else "on loopback without limit"
    print(f"\n### {clients} clients, one blob of {size} MiB that nobody holds, upstream {limit}\n")
    print("| what | median (min to max) |\n|---|---|")
    for entry in series:
        print(f"| the last client is done: {entry.name} | {spread(entry.seconds)} |")
    words = f"the last client: {series[0].name} / {series[1].name}"
    goal(words, ratio(series[0], series[1]), "x", most=LAST_CLIENT)
    for name, times in list(sent.items())[1:]:
        print(f"| upstream sent, times the blob: {name} | {spread(times, 'x')} |")
    goal("upstream sent, times the blob: registryd", sent["registryd"], "x", most=1.005)


if __name__ == "__main__":
    main()
