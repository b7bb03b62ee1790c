"""Many clients ask for one uncached blob at once: what upstream sends, and when the last is done.

    python -m bench.coalesce [--rounds N] [--size MIB] [--clients N] [--rate MBYTES] [--dir FOLDER]

The clients are real TCP readers that let the kernel drop what they take (MSG_TRUNC), so that the
machine's memory bandwidth is spent on serving; one of them reads and hashes. ``--rate`` limits
each connection of the upstream (MB/s), as a link to the outside does; 0 is loopback without limit.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import socket
from pathlib import Path

from bench.rig import MIB, Rig, Series, goal, ratio, report, rig, spread, timed, write_layout

UPSTREAM_NAME = "up.test"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the blob")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rate", type=int, nargs="*", default=[0, 125], help="MB/s, 0: no limit")
    parser.add_argument("--dir", type=Path, help="where the cache goes")
    options = parser.parse_args()
    for rate in options.rate:
        with rig(options.dir) as place:
            compare(place, options.size, options.clients, rate, options.rounds)


def compare(place: Rig, size: int, clients: int, rate: int, count: int) -> None:
    """One client alone, then all of them, each on an empty cache."""
    layout = place.folder / "layout"
    write_layout(layout, [size * MIB])
    blobs = layout / "blobs" / "sha256"
    digest = max(blobs.iterdir(), key=lambda path: path.stat().st_size).name
    served = place.folder / "v2" / "bench" / "large" / "blobs"
    served.mkdir(parents=True)
    (blobs / digest).rename(served / f"sha256:{digest}")
    log = place.folder / "sent.log"
    limit = f"limit_rate {rate * 1_000_000};" if rate else ""
    upstream = place.nginx(
        place.folder,
        f"access_log {log} sent; {limit}",
        "log_format sent '$request_method $body_bytes_sent';",
    )
    path = f"/v2/{UPSTREAM_NAME}/bench/large/blobs/sha256:{digest}"
    sent: list[float] = []

    def run(number: int) -> float:
        log.write_text("")
        with place.daemon({UPSTREAM_NAME: f"http://127.0.0.1:{upstream}"}) as daemon:
            took = at_once(number, daemon.port, path, digest, size * MIB)
        lines = (line.split() for line in log.read_text().splitlines())
        sent.append(sum(int(n) for method, n in lines if method == "GET") / (size * MIB))
        return took

    alone, crowd = (
        Series("one client", lambda: run(1)),
        Series(f"{clients} clients, the last one", lambda: run(clients)),
    )
    # What the machine needs to move so many bytes, fetched or not.
    held = f"/v2/bench/large/blobs/sha256:{digest}"
    floor = Series(
        f"{clients} clients of nginx, which has the file",
        lambda: at_once(clients, upstream, held, digest, size * MIB),
    )
    series = [alone, crowd] if rate else [alone, crowd, floor]
    for _ in range(count):
        for entry in series:
            entry.seconds.append(entry.act())
    title = f"{clients} clients, one uncached blob of {size} MiB, upstream "
    title += f"limited to {rate} MB/s a connection" if rate else "on loopback without limit"
    report(title, series, [(1, 0, 1.5)])
    if not rate:
        print(f"| {crowd.name} / {floor.name} | {spread(ratio(crowd, floor), 'x')} |")
    goal("upstream sent, times the blob", sent, "x", most=1.005)


def at_once(count: int, port: int, path: str, digest: str, size: int) -> float:
    """So many processes that get the blob at once; the time until the last is done."""
    ready = multiprocessing.Barrier(count + 1)

    def one(number: int) -> None:
        ready.wait()
        take(port, path, digest if number == 0 else "", size)

    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=one, args=(number,)) for number in range(count)]
    for worker in workers:
        worker.start()
    ready.wait()
    took = timed(lambda: [worker.join() for worker in workers])
    if any(worker.exitcode for worker in workers):
        raise RuntimeError("a client failed")
    return took


def take(port: int, path: str, digest: str, size: int) -> None:
    """GET the blob; hash it against the digest, or let the kernel drop it."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode("latin-1"))
        buffer, got, hashed = bytearray(MIB), 0, hashlib.sha256()
        flags = 0 if digest else socket.MSG_TRUNC
        while got < size:
            count = sock.recv_into(buffer, min(MIB, size - got), flags)
            if not count:
                raise RuntimeError(f"the blob ended at {got} of {size}")
            if digest:
                hashed.update(memoryview(buffer)[:count])
            got += count
        if digest and hashed.hexdigest() != digest:
            raise RuntimeError("the blob is wrong")


if __name__ == "__main__":
    main()
