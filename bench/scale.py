"""A cache of many images against one of few: start, list, look up, let go.

    python -m bench.scale [--images N] [--few N] [--rounds N] [--dir FOLDER]

Each figure is that of the large cache, and beside it that of the small one in the same rounds. The
time of the processor is told too: on a machine that has other work the clock tells of that.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.hits import at, one_by_one
from bench.large import HOST, make
from bench.rig import free_port, goal, memory_mib, rig, spread, timed

#: The uid of an ordinary user.
NOBODY = 65534
START, IMAGES = 1.0, 0.3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="where the caches go")
    options = parser.parse_args()
    with rig(options.dir) as place:
        caches = []
        for name, count in (("few", options.few), ("many", options.images)):
            took = timed(lambda name=name, count=count: make(place.folder / name, count))  # type: ignore[misc]
            blobs = len(os.listdir(place.folder / name / "blobs" / "sha256"))
            print(f"{count:,} images, {blobs:,} blobs: made in {took:.1f} s", file=sys.stderr)
            caches.append(Cache(f"{count:,} images, {blobs:,} blobs", place.folder / name))
        for number in range(options.rounds + 1):
            for cache in caches:
                cache.round(counted=number > 0)
        for cache in caches:
            cache.tell(goals=cache is caches[-1])


@dataclass
class Cache:
    """A cache, and what was measured of its daemons: seconds by the clock and of the processor."""

    words: str
    root: Path
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        """One value of a round."""
        self.figures.setdefault(name, []).append(value)

    def round(self, *, counted: bool) -> None:
        """One life of a daemon."""
        note = self.note if counted else lambda *_: None
        with started(self.root) as (process, ready, sock):
            note("start to ready", ready)
            note("start to ready, processor", processor(process.pid))
            command(sock)  # it waits until the images were looked over
            note("memory (MiB)", memory_mib(process.pid, "VmRSS"))
            for way in ("table", "json"):
                before, began = processor(process.pid), os.times()
                note(f"images as {way}", timed(lambda way=way: command(sock, way)))  # type: ignore[misc]
                ended = os.times()
                own = ended.children_user - began.children_user
                own += ended.children_system - began.children_system
                used = own + processor(process.pid) - before
                note(f"images as {way}, processor", used)
            note("images for a user", timed(lambda: command(sock, user=True)))
            reference, name, digest = looked_up(sock)
            for kind, method in (("blob", "blobs"), ("manifest", "manifests")):
                path, size = self.path(name, digest, method)
                times = one_by_one(str(sock), path, size, 300)
                note(f"GET of a {kind}, p50 (ms)", at(times, 0.5))
                note(f"GET of a {kind}, p99 (ms)", at(times, 0.99))
            note("tag (s)", timed(lambda: run(sock, "tag", reference, "localhost/bench:1")))
            note("rmi (s)", timed(lambda: run(sock, "rmi", "localhost/bench:1")))
            note("gc --dry-run (s)", timed(lambda: run(sock, "cache", "gc", "--dry-run")))

    def path(self, name: str, digest: str, method: str) -> tuple[str, int]:
        """What a GET asks for, and how many bytes it gives: of a manifest or its first layer."""
        file = self.root / "blobs" / digest.replace(":", "/")
        if method == "blobs":
            digest = json.loads(file.read_bytes())["layers"][0]["digest"]
            file = self.root / "blobs" / digest.replace(":", "/")
        return f"/v2/{name}/{method}/{digest}", file.stat().st_size

    def tell(self, *, goals: bool) -> None:
        """Print what was measured."""
        print(f"\n### {self.words}\n\n| what | median (min to max) |\n|---|---|")
        wanted = {"start to ready": START, "images as table": IMAGES, "images as json": IMAGES}
        wanted["images for a user"] = IMAGES
        for name, values in self.figures.items():
            if goals and name in wanted:
                goal(name, values, "s", most=wanted[name])
            else:
                print(f"| {name} | {spread(values, '')} |")


@contextmanager
def started(root: Path) -> Iterator[tuple[subprocess.Popen[bytes], float, Path]]:
    """A daemon on a cache; the seconds until it said that it is ready, and its socket."""
    folder = Path(tempfile.mkdtemp(prefix="rgd"))
    folder.chmod(0o755)
    sock = folder / "s"
    config = folder / "config.toml"
    config.write_text(
        f'[daemon]\nsocket = "{sock}"\nlog_level = "warning"\n'
        f'[[daemon.listen]]\naddress = "127.0.0.1:{free_port()}"\n'
        f'[cache]\nroot = "{root}"\n[registries."{HOST}"]\nendpoint = "http://127.0.0.1:9"\n'
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as words:
        words.bind(str(folder / "notify"))
        environ = {**os.environ, "NOTIFY_SOCKET": str(folder / "notify")}
        argv = [sys.executable, "-m", "registryd.daemon", "--config", str(config)]
        began = time.perf_counter()
        process = subprocess.Popen(argv, env=environ)
        try:
            while b"READY=1" not in words.recv(1000):
                pass
            yield process, time.perf_counter() - began, sock
        finally:
            process.terminate()
            process.wait()


def processor(pid: int) -> float:
    """Seconds of the processor that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(sock: Path, *words: str, user: bool = False, output: int = subprocess.DEVNULL) -> bytes:
    """A command of a user; what it wrote, if that is wanted."""
    argv = [str(Path(sys.executable).parent / "registryctl"), *words, "--socket", str(sock)]
    if user:
        argv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *argv]
    done = subprocess.run(argv, check=True, stdout=output, stderr=subprocess.DEVNULL)
    return done.stdout or b""


def command(sock: Path, form: str = "table", *, user: bool = False) -> None:
    """``registryctl images``."""
    run(sock, "images", "--format", form, user=user)


def looked_up(sock: Path) -> tuple[str, str, str]:
    """An image's name, repository and digest."""
    listed = json.loads(run(sock, "images", "--format", "json", output=subprocess.PIPE))
    images: Sequence[dict[str, str]] = listed["images"]
    image = images[len(images) // 2]
    return image["reference"], image["name"], image["digest"]


if __name__ == "__main__":
    main()
