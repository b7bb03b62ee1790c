"""Storms: commands in many hosts that begin in the same moment, and what is counted meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cluster.counters import answers, cpu_seconds, watched
from bench.cluster.figures import Run
from bench.cluster.network import Host, Network
from bench.cluster.programs import LOCAL_PORT, NAME, ROOT, Node, Registry
from bench.rig import need


@dataclass(frozen=True)
class Image:
    """An image in the upstream: REPOSITORY:TAG, the bytes of its blobs, and one of its layers."""

    name: str
    size: int
    layer: str


@dataclass
class Task:
    """One command that waits to begin, and when it has ended (seconds after the beginning)."""

    process: subprocess.Popen[bytes]
    said: Path
    end: float = 0.0

    def follow(self, began: float) -> None:
        self.process.wait()
        self.end = time.perf_counter() - began


@contextmanager
def tasks(argvs: Sequence[Sequence[str]], folder: Path) -> Iterator[list[Task]]:
    """Commands of which each begins when its input ends; ended at the end of the block."""
    started: list[Task] = []
    try:
        for number, argv in enumerate(argvs):
            said = folder / f"task-{number}.log"
            with said.open("wb") as out:
                process = subprocess.Popen(
                    argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out,
                    start_new_session=True,
                )  # fmt: skip
            started.append(Task(process, said))
        for task in started:
            assert task.process.stdout is not None
            if task.process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"{task.process.args!r}:\n{task.said.read_text()}")
        yield started
    finally:
        for task in started:
            if task.process.poll() is None:
                task.process.kill()
            task.process.communicate()


def pulls(nodes: Sequence[Node], image: Image) -> list[list[str]]:
    """``registryctl pull`` in each node, by its own socket."""
    rest = ("--progress", "none", f"{NAME}/{image.name}")
    return [
        node.host.argv(
            sys.executable, "-m", "bench.cluster.puller", "pull", "--socket", node.socket, *rest
        )
        for node in nodes
    ]


def _when_told(*words: str | Path) -> list[str]:
    """Another program, that begins when the input ends."""
    script = 'echo ready; cat > /dev/null; exec "$@" > /dev/null'
    return ["sh", "-c", script, "sh", *map(str, words)]


def skopeo(host: Host, image: Image, folder: Path) -> list[str]:
    """skopeo in a host, through the daemon's TCP listener, into a folder."""
    source = f"docker://127.0.0.1:{LOCAL_PORT}/{NAME}/{image.name}"
    copy = (need("skopeo"), "copy", "-q", "--src-tls-verify=false", source, f"dir:{folder}")
    return host.argv(*_when_told(*copy))


def podman(host: Host, image: Image, folder: Path) -> list[str]:
    """podman in a host, through the daemon's TCP listener, into a store of its own."""
    own = ("--root", folder / "root", "--runroot", folder / "run", "--storage-driver", "vfs")
    image_name = f"127.0.0.1:{LOCAL_PORT}/{NAME}/{image.name}"
    pull = ("pull", "-q", "--tls-verify=false", image_name)
    return host.argv(*_when_told(need("podman"), *own, *pull))


@dataclass(frozen=True)
class Storms:
    """Where storms happen: the network, the upstream, and seconds after which one is given up."""

    folder: Path
    network: Network
    upstream: Registry
    patience: float

    def run(
        self,
        what: str,
        argvs: Sequence[Sequence[str]],
        nodes: Sequence[Node],
        size: int,
        floor: float,
    ) -> Run:
        """Let all begin at once and wait for the last. Raises RuntimeError if one fails."""
        with tasks(argvs, self.folder) as waiting:
            return self._run(what, waiting, nodes, size, floor)

    def _run(
        self, what: str, waiting: Sequence[Task], nodes: Sequence[Node], size: int, floor: float
    ) -> Run:
        pids = [node.process.pid for node in nodes]
        logged = self.upstream.log.stat().st_size
        metrics = _sum(nodes)
        cpu = cpu_seconds(pids)
        with watched(self.network.passed) as watch:
            self._finish(what, waiting)
            idle, moved = watch.idle, watch.all_passed()
        spent = cpu_seconds(pids) - cpu
        with self.upstream.log.open(errors="replace") as log:
            log.seek(logged)
            fetched = answers(log.read())
        counted = {name: value - metrics.get(name, 0.0) for name, value in _sum(nodes).items()}
        return Run(
            what,
            size,
            floor,
            tuple(task.end for task in waiting),
            upstream=fetched.size,
            upstream_wire=moved[self.upstream.host.name].sent,
            sent=tuple(moved[node.host.name].sent for node in nodes),
            cpu=spent,
            idle=idle,
            idle_least=min(watch.seconds, default=idle),
            seconds=tuple(
                {name: (passed.sent, passed.taken) for name, passed in second.items()}
                for second in watch.passed
            ),
            metrics={name: value for name, value in sorted(counted.items()) if value},
        )

    def _finish(self, what: str, waiting: Sequence[Task]) -> None:
        began = time.perf_counter()
        for task in waiting:
            assert task.process.stdin is not None
            task.process.stdin.close()
            task.process.stdin = None
        followers = [threading.Thread(target=task.follow, args=(began,)) for task in waiting]
        for follower in followers:
            follower.start()
        for follower in followers:
            follower.join(max(0.0, began + self.patience - time.perf_counter()))
        late = sum(follower.is_alive() for follower in followers)
        bad = [task for task in waiting if task.process.returncode]
        if late:
            raise RuntimeError(f"{what}: {late} are not done after {self.patience:.0f} s")
        if bad:
            raise RuntimeError(f"{what}: {len(bad)} failed, one so:\n{bad[0].said.read_text()}")


def _sum(nodes: Sequence[Node]) -> dict[str, float]:
    """The daemons' counts, added up."""
    total: dict[str, float] = defaultdict(float)
    for node in nodes:
        for name, value in node.metrics().items():
            total[name] += value
    return total
