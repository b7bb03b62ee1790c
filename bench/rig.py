"""What the benches share: an upstream with known bytes, a daemon, paired runs, one table.

Invariants:
- a figure is a ratio against a peer of the same run, on the same bytes, in turn (A B A B ...);
- every process is started here and ended here by its id; everything listens on loopback;
- content is incompressible and made from a seed, so that nobody's compression is measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MIB = 1 << 20

# A user's Python keeps its compiled modules; one that must not would compile them at every start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def need(program: str) -> str:
    """The path of a peer program; ends the bench with one line where it is missing."""
    found = shutil.which(program)
    if found is None:
        sys.exit(f"bench: {program} is not installed")
    return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return once something answers on the port. Raises RuntimeError if the process ends first."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not listen on {port}")


@contextmanager
def running(argv: Sequence[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that listens on the port, ended at the end of the block."""
    with log.open("ab") as out:
        process = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        wait_for_port(port, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _random(source: random.Random, size: int) -> bytes:
    pieces = [source.randbytes(min(MIB, size - at)) for at in range(0, size, MIB)]
    return b"".join(pieces)


def write_layout(folder: Path, layers: Sequence[int], tag: str = "bench", seed: int = 1) -> str:
    """An OCI layout whose layers have these sizes in bytes; gives the digest of its manifest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, media_type: str) -> dict[str, object]:
        encoded = hashlib.sha256(content).hexdigest()
        (blobs / encoded).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": len(content)}

    source = random.Random(seed)
    listed = [put(_random(source, size), LAYER) for size in layers]
    rootfs = {"type": "layers", "diff_ids": [layer["digest"] for layer in listed]}
    config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put(json.dumps(config).encode(), CONFIG),
        "layers": listed,
    }
    root = put(json.dumps(manifest).encode(), MANIFEST)
    root["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [root]}))
    return str(root["digest"])


@dataclass
class Rig:
    """A folder for one bench and everything that runs in it."""

    folder: Path
    stack: ExitStack

    def registry(self) -> int:
        """Debian's docker-registry, open to all; gives its port."""
        return self.stack.enter_context(self.docker_registry("registry")).port

    @contextmanager
    def docker_registry(self, name: str, remote: str = "") -> Iterator[Registry]:
        """The same on an empty storage for the block; with ``remote``, a cache of that registry."""
        port, root = free_port(), self.folder / name
        settings = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(root)},
                "cache": {"blobdescriptor": "inmemory"},
                "delete": {"enabled": True},
            },
            "http": {"addr": f"127.0.0.1:{port}"},
        }
        if remote:
            settings["proxy"] = {"remoteurl": remote}
        config = self.folder / f"{name}.json"
        config.write_text(json.dumps(settings))
        argv = [need("docker-registry"), "serve", str(config)]
        try:
            with running(argv, port, self.folder / f"{name}.log") as process:
                yield Registry(process.pid, port)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def warm(self, size: int) -> None:
        """Touch and free so many bytes of page cache.

        A virtual machine gets memory that it has not used for a while slowly, memory just freed
        quickly: whoever came after a contender that frees much would win by it.
        """
        file = self.folder / "warm"
        with file.open("wb") as out:
            for _ in range(size // MIB):
                out.write(bytes(MIB))
        file.unlink()

    def push(self, layers: Sequence[int], name: str, seed: int = 1) -> str:
        """Put an image into a registry (``host:port/name:tag``); gives its digest."""
        layout = self.folder / f"layout-{seed}"
        digest = write_layout(layout, layers, seed=seed)
        skopeo = [need("skopeo"), "copy", "-q", "--dest-tls-verify=false"]
        subprocess.run([*skopeo, f"oci:{layout}:bench", f"docker://{name}"], check=True)
        shutil.rmtree(layout)
        return digest

    def nginx(self, root: Path, extra: str = "", outer: str = "") -> int:
        """nginx with sendfile over a folder of files; gives its port."""
        port = free_port()
        config = self.folder / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 2; pid {self.folder}/nginx.pid;\n"
            f"error_log {self.folder}/nginx.err;\n"
            "events { worker_connections 1024; }\n"
            "http { sendfile on; tcp_nopush on; access_log off; keepalive_requests 1000000;\n"
            f"  client_body_temp_path {self.folder}/nginx-body; default_type application/json;\n"
            f"  {outer}\n"
            f"  server {{ listen 127.0.0.1:{port}; root {root}; {extra} }} }}\n"
        )
        if os.getuid() == 0:
            config.write_text("user root;\n" + config.read_text())
        argv = [need("nginx"), "-c", str(config), "-e", str(self.folder / "nginx.err")]
        self.stack.enter_context(running(argv, port, self.folder / "nginx.log"))
        return port

    @contextmanager
    def daemon(
        self,
        upstreams: dict[str, str],
        name: str = "node",
        *,
        keep: bool = False,
        settings: Sequence[str] = (),
    ) -> Iterator[Daemon]:
        """A registryd on an empty cache; ``upstreams`` gives names their endpoints.

        ``keep`` leaves the cache to the next one of that name; ``settings`` are more lines of its
        configuration.
        """
        root, port = self.folder / f"{name}-cache", free_port()
        sock = Path(tempfile.mkdtemp(prefix="rgd")) / "s"
        lines = [
            "[daemon]", f'socket = "{sock}"', 'log_level = "warning"',
            "[[daemon.listen]]", f'address = "127.0.0.1:{port}"',
            "[cache]", f'root = "{root}"',
        ]  # fmt: skip
        for registry, endpoint in upstreams.items():
            lines += [f'[registries."{registry}"]', f'endpoint = "{endpoint}"']
        config = self.folder / f"{name}.toml"
        config.write_text("\n".join([*lines, *settings]) + "\n")
        argv = [sys.executable, "-m", "registryd.daemon", "--config", str(config)]
        try:
            with running(argv, port, self.folder / f"{name}.log") as process:
                yield Daemon(process.pid, port, sock, root)
        finally:
            shutil.rmtree(sock.parent, ignore_errors=True)
            if not keep:
                shutil.rmtree(root, ignore_errors=True)


@dataclass(frozen=True)
class Registry:
    """A running docker-registry."""

    pid: int
    port: int


@dataclass(frozen=True)
class Daemon:
    """A running registryd."""

    pid: int
    port: int
    socket: Path
    root: Path

    def peak_mib(self) -> float:
        """The most memory that it ever had (VmHWM), MiB."""
        return memory_mib(self.pid, "VmHWM")


def memory_mib(pid: int, key: str) -> float:
    """A process's memory by a key of its status (VmHWM: the most, VmRSS: now), MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextmanager
def rig(where: Path | None = None) -> Iterator[Rig]:
    """A fresh folder (below ``where``), removed at the end with everything that ran in it."""
    folder = Path(tempfile.mkdtemp(prefix="registryd-bench-", dir=where))
    try:
        with ExitStack() as stack:
            yield Rig(folder, stack)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Series:
    """The times of one contender, seconds, one a round."""

    name: str
    act: Callable[[], float]
    seconds: list[float] = field(default_factory=list)


def timed(act: Callable[[], object]) -> float:
    """How long a call took, seconds."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def run_timed(*argv: str | Path) -> float:
    """How long a whole command took, seconds; its output is dropped."""
    return timed(
        lambda: subprocess.run(
            [str(word) for word in argv],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )


def rounds(series: Sequence[Series], count: int, before: Callable[[], None] = lambda: None) -> None:
    """Let the contenders run in turn, ``count`` times after one round that is not counted.

    ``before`` makes the machine alike for each of them.
    """
    for number in range(count + 1):
        for entry in series:
            before()
            os.sync()  # nobody waits for what the one before has left to the disk
            took = entry.act()
            if number:
                entry.seconds.append(took)


def spread(values: Sequence[float], unit: str = "s") -> str:
    """Median with minimum and maximum."""
    low, middle, high = map(short, (min(values), statistics.median(values), max(values)))
    return f"{middle} {unit} ({low} to {high})"


def short(value: float) -> str:
    """A figure as tables have it: three digits, or all of a large one."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio(ours: Series, peer: Series) -> list[float]:
    """Ours over the peer's, round by round."""
    return [a / b for a, b in zip(ours.seconds, peer.seconds, strict=True)]


def report(title: str, series: Sequence[Series], goals: Sequence[tuple[int, int, float]]) -> None:
    """Print times, and for each goal (ours, peer, at most) the ratio and whether it is met."""
    print(f"\n### {title}\n")
    print("| what | median (min to max) |")
    print("|---|---|")
    for entry in series:
        print(f"| {entry.name} | {spread(entry.seconds)} |")
    for ours, peer, most in goals:
        words = f"{series[ours].name} / {series[peer].name}"
        goal(words, ratio(series[ours], series[peer]), "x", most=most)


def goal(
    words: str,
    values: Sequence[float],
    unit: str,
    *,
    most: float | None = None,
    least: float | None = None,
) -> bool:
    """Print one row of a table: the values, and whether their median meets its goal."""
    middle = statistics.median(values)
    met = (most is None or middle <= most) and (least is None or middle >= least)
    bound = f"at most {most:.4g}" if most is not None else f"at least {least:.4g}"
    print(f"| {words} (goal {bound}: {'met' if met else 'NOT met'}) | {spread(values, unit)} |")
    return met
