"""Serving a cached blob over loopback TCP, against nginx on the same bytes.

    python -m bench.serve [--rounds N] [--size MIB] [--dir FOLDER]

The clients read into one buffer and drop it: both servers have the same ones.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.rig import MIB, Daemon, Rig, Series, need, report, rig, rounds, spread, timed

CLIENTS = (1, 8)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the blob")
    parser.add_argument("--dir", type=Path, help="where the cache goes")
    options = parser.parse_args()
    with rig(options.dir) as place:
        upstream = f"127.0.0.1:{place.registry()}"
        place.push([options.size * MIB], f"{upstream}/bench/large:1")
        with place.daemon({"up.test": f"http://{upstream}"}) as daemon:
            pull = f"http://127.0.0.1:{daemon.port}/v2/up.test/bench/large/manifests/1"
            raw = subprocess.run([need("curl"), "-s", pull], check=True, capture_output=True).stdout
            layer = json.loads(raw)["layers"][0]["digest"]
            drain(daemon.port, f"/v2/up.test/bench/large/blobs/{layer}")
            blobs(place, daemon, layer, options.rounds)


def drain(port: int, path: str) -> int:
    """GET a path and drop the body; gives its length."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        buffer = bytearray(MIB)
        view, head = memoryview(buffer), b""
        while b"\r\n\r\n" not in head:
            count = sock.recv_into(view)
            head += bytes(view[:count])
        headers, _, body = head.partition(b"\r\n\r\n")
        if not headers.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(headers.decode("latin-1"))
        lengths = [h for h in headers.lower().split(b"\r\n") if h.startswith(b"content-length")]
        length = int(lengths[0].split(b":")[1])
        got = len(body)
        while got < length:
            count = sock.recv_into(view)
            if not count:
                raise RuntimeError(f"{path} ended at {got} of {length}")
            got += count
        return got


def clients(count: int, port: int, path: str) -> Callable[[], float]:
    """So many processes that get the path at once; the time until the last is done."""

    def act() -> float:
        ready = multiprocessing.Barrier(count + 1)

        def one() -> None:
            ready.wait()
            drain(port, path)

        fork = multiprocessing.get_context("fork")
        workers = [fork.Process(target=one) for _ in range(count)]
        for worker in workers:
            worker.start()
        ready.wait()
        took = timed(lambda: [worker.join() for worker in workers])
        if any(worker.exitcode for worker in workers):
            raise RuntimeError("a client failed")
        return took

    return act


def blobs(place: Rig, daemon: Daemon, layer: str, count: int) -> None:
    """One blob to one client and to eight, from the cache and from nginx."""
    files = place.folder / "files"
    files.mkdir()
    encoded = layer.removeprefix("sha256:")
    shutil.copy(daemon.root / "blobs" / "sha256" / encoded, files / "blob")
    peer = place.nginx(files)
    for number in CLIENTS:
        ours = clients(number, daemon.port, f"/v2/up.test/bench/large/blobs/{layer}")
        series = [
            Series("registryd", ours),
            Series("nginx (sendfile)", clients(number, peer, "/blob")),
        ]
        rounds(series, count)
        size = (files / "blob").stat().st_size
        report(f"{number} client(s), a cached blob of {size // MIB} MiB", series, [(0, 1, 1 / 0.9)])
        for entry in series:
            rates = [number * size / seconds / 1e6 for seconds in entry.seconds]
            print(f"| {entry.name} | {spread(rates, 'MB/s')} |")


if __name__ == "__main__":
    main()
