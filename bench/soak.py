"""A long run in little time: whether the daemon keeps anything that it has no use for any more.

    python -m bench.soak [--minutes N] [--lives N] [--seed N] [--dir FOLDER]

One daemon after another on the same cache, in front of Debian's docker-registry behind a link that
breaks when told to. Each goes through cycles: images pulled cold by several clients at once, then
warm, clients that leave in the middle, pushes, uploads given up, pulls over a broken link, and
deletions. Every second daemon is killed in the middle of pulls, the others are told to end.

What is measured, and bounded: open files and tasks, idle at the end of a life against idle at its
beginning; memory (VmRSS) at the end of a life against what it was after ``WARM`` cycles, when pools
and caches are full; requests that failed while the link was whole; and what is left in the cache
when everything was removed. Ends with 1 beyond a bound.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.clients import Image, delete, give_up, leave, pull, push
from bench.pull import registryctl
from bench.rig import Daemon, Rig, free_port, goal, memory_mib, rig, running

NAME = "up.test"
#: Images of the upstream, and the bytes of their layers; each shares its first with the next.
IMAGES = 24
LAYERS = (400_000, 300_000, 200_000, 50_000, 1_000)
#: The daemon gives up soon, so that a broken link costs little time.
SETTINGS = ("[transfer]", "attempts = 2", 'stall_timeout = "2s"', 'connect_timeout = "2s"')
#: Cycles after which pools and caches are full.
WARM = 3
#: The bounds: files and tasks more than at the start, and MiB more than after ``WARM`` cycles.
MORE_FILES, MORE_TASKS, MORE_MIB = 0.0, 0.0, 16.0
#: How long (seconds) a daemon may take to become idle: it keeps a connection to a registry for a
#: while, and looks for those that it has kept long enough only now and then.
PATIENCE = 90.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--lives", type=int, default=3, help="daemons, one after another")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", type=Path, help="where the cache goes")
    options = parser.parse_args()
    with rig(options.dir) as place:
        with prepared(place, options.seed) as work:
            seconds = 60 * options.minutes / options.lives
            lives = [live(place, work, seconds, n % 2 == 1) for n in range(options.lives)]
            left = leftovers(place, work)
        good = tell(work, lives, left)
    sys.exit(0 if good else 1)


@dataclass(frozen=True)
class Measure:
    """What a daemon has at one moment."""

    files: int
    tasks: int
    mib: float

    @classmethod
    def of(cls, daemon: Daemon) -> Measure:
        """Ask now; the question itself counts as a task, and its connection has gone."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{daemon.port}/metrics", timeout=20
        ) as answer:
            text = answer.read().decode()
        time.sleep(0.2)
        files = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        tasks = re.search(r"^registryd_tasks (\S+)", text, re.M)
        assert tasks is not None
        return cls(files, int(float(tasks[1])), memory_mib(daemon.pid, "VmRSS"))

    @classmethod
    def idle(cls, daemon: Daemon, before: Measure) -> Measure:
        """What it has when it has come back to what it had before, or when it should have."""
        until = time.monotonic() + PATIENCE
        while True:
            now = cls.of(daemon)
            calm = now.files <= before.files and now.tasks <= before.tasks
            if calm or time.monotonic() > until:
                return now
            time.sleep(0.5)


@dataclass
class Work:
    """What is done to the daemons, and what came of it."""

    chance: random.Random
    link: subprocess.Popen[bytes]
    url: str
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    async def together(
        self, what: str, acts: Iterable[Coroutine[Any, Any, None]], *, broken: bool = False
    ) -> None:
        """Do these at once; count them, and what failed though the link was whole."""
        limited = [asyncio.wait_for(act, 60) for act in acts]
        for fault in await asyncio.gather(*limited, return_exceptions=True):
            self.done[what] += 1
            if fault is not None and broken:
                self.done[f"{what}: failed, as they may"] += 1
            elif fault is not None:
                self.failed[f"{what}: {type(fault).__name__}: {fault}"] += 1

    async def cycle(self, port: int) -> None:
        """Everything once."""
        images = [Image(port, f"/v2/{NAME}/soak/image{n}") for n in range(IMAGES)]
        self.chance.shuffle(images)
        first, second, third = images[:10], images[10:16], images[16:]
        own = [Image(port, f"/v2/localhost/soak/own{n}") for n in range(6)]
        await self.together("cold pulls", (pull(each) for each in first for _ in range(4)))
        await self.together("warm pulls", (pull(each) for each in first for _ in range(10)))
        await self.together("readers that left", (leave(each, 70_000) for each in second * 2))
        await self.together("pushes", (push(each, self.layers()) for each in own))
        await self.together("uploads given up", (give_up(each, bytes(9_000)) for each in own))
        await self.together("warm pulls", (pull(each) for each in own))
        self.link.send_signal(signal.SIGUSR1)
        faulty = (pull(each) for each in third for _ in range(2))
        await self.together("pulls over a broken link", faulty, broken=True)
        self.link.send_signal(signal.SIGUSR2)
        await self.together("deletions", (delete(each) for each in own))

    async def crash(self, daemon: Daemon) -> None:
        """Kill the daemon while it pulls."""
        asyncio.get_running_loop().call_later(0.15, os.kill, daemon.pid, signal.SIGKILL)
        pulls = (pull(Image(daemon.port, f"/v2/{NAME}/soak/image{n}")) for n in range(IMAGES))
        await self.together("pulls cut by a crash", pulls, broken=True)

    def layers(self) -> list[bytes]:
        """Layers that nobody has seen."""
        return [self.chance.randbytes(size) for size in LAYERS[1:]]


@contextmanager
def prepared(place: Rig, seed: int) -> Iterator[Work]:
    """An upstream with its images, and the link to it."""
    chance, registry, port = random.Random(seed), place.registry(), free_port()
    shared = chance.randbytes(LAYERS[0])

    async def fill() -> None:
        bottom = shared
        for number in range(IMAGES):
            layers = [bottom, *(chance.randbytes(size) for size in LAYERS)]
            await push(Image(registry, f"/v2/soak/image{number}"), layers)
            bottom = layers[1]

    uvloop.run(fill())
    argv = [sys.executable, "-m", "bench.faulty", str(port), str(registry), str(seed)]
    with running(argv, port, place.folder / "link.log") as link:
        yield Work(chance, link, f"http://127.0.0.1:{port}")


@dataclass(frozen=True)
class Life:
    """What one daemon had: at its start, when warm, and idle at its end."""

    cycles: int
    start: Measure
    warm: Measure
    end: Measure
    peak: float


def live(place: Rig, work: Work, seconds: float, crash: bool) -> Life:
    """One daemon, for so many seconds and ``WARM`` cycles at least."""
    with place.daemon({NAME: work.url}, keep=True, settings=SETTINGS) as daemon:
        start = warm = Measure.of(daemon)
        until, cycles = time.monotonic() + seconds, 0
        while cycles <= WARM or time.monotonic() < until:
            uvloop.run(work.cycle(daemon.port))
            remove(daemon)
            cycles += 1
            if cycles == WARM:
                warm = Measure.of(daemon)
        end = Measure.idle(daemon, start)
        peak = daemon.peak_mib()
        if crash:
            uvloop.run(work.crash(daemon))
    return Life(cycles, start, warm, end, peak)


def remove(daemon: Daemon) -> None:
    """Take every name out of the cache, by the commands of a user."""
    words = ["--socket", str(daemon.socket)]
    listed = [*registryctl(), "images", *words, "--format", "json"]
    told = subprocess.run(listed, check=True, capture_output=True).stdout
    names = [f"{entry['name']}:{entry['tag']}" for entry in json.loads(told)["images"]]
    if names:
        subprocess.run(
            [*registryctl(), "rmi", "-q", *words, *names], check=True, capture_output=True
        )


def leftovers(place: Rig, work: Work) -> list[str]:
    """The files that a last daemon leaves when everything was pulled whole and removed."""
    with place.daemon({NAME: work.url}, keep=True, settings=SETTINGS) as daemon:
        images = [Image(daemon.port, f"/v2/{NAME}/soak/image{n}") for n in range(IMAGES)]
        uvloop.run(work.together("cold pulls", map(pull, images)))
        remove(daemon)
    folders = ("blobs/*/*", "ingest/*")
    return [str(path) for pattern in folders for path in daemon.root.glob(pattern)]


def tell(work: Work, lives: list[Life], left: list[str]) -> bool:
    """Print everything; whether all bounds were kept."""
    print("\n### Soak\n\n| what | |\n|---|---|")
    for what, times in sorted(work.done.items()):
        print(f"| {what} | {times} |")
    print("\n| a life | cycles | files | tasks | MiB at start, warm, end; peak |")
    print("|---|---|---|---|---|")
    for number, life in enumerate(lives, 1):
        start, warm, end = life.start, life.warm, life.end
        memory = f"{start.mib:.0f}, {warm.mib:.0f}, {end.mib:.0f}; {life.peak:.0f}"
        files, tasks = f"{start.files} to {end.files}", f"{start.tasks} to {end.tasks}"
        print(f"| {number} | {life.cycles} | {files} | {tasks} | {memory} |")
    print("\n| bound (the worst life) | |\n|---|---|")
    files = max(float(life.end.files - life.start.files) for life in lives)
    tasks = max(float(life.end.tasks - life.start.tasks) for life in lives)
    memory = max(life.end.mib - life.warm.mib for life in lives)
    failed = float(work.failed.total())
    kept = [
        goal("open files more than at the start", [files], "", most=MORE_FILES),
        goal("tasks more than at the start", [tasks], "", most=MORE_TASKS),
        goal("memory more than after the first cycles", [memory], "MiB", most=MORE_MIB),
        goal("requests that failed over a whole link", [failed], "", most=0),
        goal("files left in the emptied cache", [float(len(left))], "", most=0),
    ]
    for words in (*work.failed, *left)[:10]:
        print(f"| {words} | {work.failed.get(words, '')} |")
    return all(kept)


if __name__ == "__main__":
    main()
