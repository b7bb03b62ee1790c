"""The real parts, each in its host: a registry, NATS, daemons, and what pulls through them.

Invariants:
- whoever is started here is ended here, by its id, before the folder goes;
- a daemon begins with an empty cache.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.cluster.counters import samples
from bench.cluster.network import Host
from bench.rig import need
from registryd.cluster.identity import Authority
from registryd.cluster.identity_files import IdentityFiles, write_identity
from registryd.unix_http import UnixConnection

ROOT = Path(__file__).resolve().parents[2]
#: The registry as references name it.
NAME = "up.test"
REGISTRY_PORT, PEER_PORT, LOCAL_PORT, NATS_PORT = 5000, 5051, 5050, 4222
#: Seconds in which a program must have started, sixteen at a time on two cores.
START_LIMIT = 60.0


@contextmanager
def running(argv: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program for the block; it says what it says into ``log``."""
    with log.open("ab") as out:
        # A session of its own: an interrupt from the keyboard is for the bench, which ends all.
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=ROOT, start_new_session=True
        )
    try:
        yield process
    finally:
        end([process])


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Tell all to end, then see that they have."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(claim: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the claim holds. Raises RuntimeError if the process ends first."""
    deadline = time.monotonic() + START_LIMIT
    while not claim():
        if process.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise RuntimeError(f"{process.args!r} does not start:\n{last}")
        time.sleep(0.02)


@dataclass(frozen=True)
class Registry:
    """A running docker-registry and its access log."""

    host: Host
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.host.address}:{REGISTRY_PORT}"


@contextmanager
def registry(folder: Path, logs: Path, host: Host, remote: str = "") -> Iterator[Registry]:
    """docker-registry on an empty storage; with ``remote``, a cache of that registry."""
    root = folder / host.name
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {
            "filesystem": {"rootdirectory": str(root)},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": f":{REGISTRY_PORT}"},
    }
    if remote:
        settings["proxy"] = {"remoteurl": remote}
    config, log = folder / f"{host.name}.json", logs / f"{host.name}.log"
    config.write_text(json.dumps(settings))
    log.write_text("")
    try:
        with running(host.argv(need("docker-registry"), "serve", config), log) as process:
            wait_for(lambda: "listening on" in log.read_text(errors="replace"), process, log)
            yield Registry(host, log)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def nats(folder: Path, logs: Path, host: Host) -> Iterator[str]:
    """A nats-server with JetStream; gives its URL."""
    log = logs / "nats.log"
    log.write_text("")
    store = ("-js", "-sd", folder / "nats")
    argv = host.argv(need("nats-server"), "-a", host.address, "-p", str(NATS_PORT), *store)
    with running(argv, log) as process:
        wait_for(lambda: "Server is ready" in log.read_text(errors="replace"), process, log)
        yield f"nats://{host.address}:{NATS_PORT}"


@dataclass(frozen=True)
class Member:
    """A host that is to be a node, and its identity in the cluster."""

    host: Host
    identity: IdentityFiles


def members(folder: Path, hosts: Sequence[Host]) -> list[Member]:
    """Identities for these hosts, from one new authority."""
    now = datetime.now(UTC)
    authority = Authority.make("bench", now=now)
    return [
        Member(
            host,
            write_identity(
                folder / f"identity-{host.name}", authority.issue(host.address, now=now), authority
            ),
        )
        for host in hosts
    ]


def static(hosts: Sequence[Host]) -> list[str]:
    """The lines of [cluster] by which these know one another without NATS."""
    listed = ", ".join(f'"{host.address}:{PEER_PORT}"' for host in hosts)
    return [f"peers = [{listed}]"]


def configuration(
    root: Path, unix: Path, upstream: str, member: Member | None, cluster: Sequence[str]
) -> str:
    """A node's configuration; without a member it is in no cluster."""
    lines = [
        "[daemon]", f'socket = "{unix}"', 'log_level = "info"',
        "[[daemon.listen]]", f'address = "127.0.0.1:{LOCAL_PORT}"',
        "[cache]", f'root = "{root}"',
        f'[registries."{NAME}"]', f'endpoint = "{upstream}"',
    ]  # fmt: skip
    if member is not None:
        files = member.identity
        lines += [
            "[cluster]", f'listen = "0.0.0.0:{PEER_PORT}"', f'ca_file = "{files.ca_file}"',
            f'cert = "{files.cert}"', f'key = "{files.key}"', *cluster,
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Node:
    """A running registryd in its host."""

    host: Host
    process: subprocess.Popen[bytes]
    socket: Path
    log: Path

    def metrics(self) -> dict[str, float]:
        """The daemon's own counts now."""
        connection = UnixConnection(str(self.socket), host="node", timeout=30)
        try:
            connection.request("GET", "/metrics")
            return samples(connection.getresponse().read().decode())
        finally:
            connection.close()

    def knows(self, count: int) -> bool:
        """Whether it sees so many members."""
        return self.metrics().get("registryd_cluster_nodes") == count

    def is_ready(self) -> bool:
        """Whether it has said so."""
        return " ready: " in self.log.read_text(errors="replace")


@contextmanager
def nodes(
    folder: Path,
    logs: Path,
    hosts: Sequence[Member],
    upstream: str,
    cluster: Sequence[str] | None = None,
    rest: Sequence[str] = (),
) -> Iterator[list[Node]]:
    """A daemon in each host, all on empty caches; ``cluster`` are lines of that section.

    ``rest`` are more lines of every node's configuration.
    """
    work = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    # The path of a unix socket has at most 107 characters.
    sockets = Path(tempfile.mkdtemp(prefix="rgd"))
    started: list[Node] = []
    try:
        with ExitStack() as stack:
            for member in hosts:
                name, own = member.host.name, member if cluster is not None else None
                config, log = work / f"{name}.toml", logs / f"{work.name}-{name}.log"
                text = configuration(work / name, sockets / name, upstream, own, cluster or ())
                config.write_text(text + "".join(f"{line}\n" for line in rest))
                argv = (sys.executable, "-m", "registryd.daemon", "--config", config)
                process = stack.enter_context(running(member.host.argv(*argv), log))
                started.append(Node(member.host, process, sockets / name, log))
            for node in started:
                wait_for(node.is_ready, node.process, node.log)
            for node in started if cluster is not None else ():
                wait_for(partial(node.knows, len(hosts)), node.process, node.log)
            yield started
            end([node.process for node in started])  # all at once: each may take its time
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)
