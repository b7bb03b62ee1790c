"""A cluster of real daemons on loopback: each its own process, identity and cache.

Every node's certificate is for 127.0.0.1 too, so the list of peers has one host and many ports.
What upstream has sent is counted by the upstream's own log.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from registryd.cluster.identity_files import IdentityFiles
from tests.fakes.members import HOST, Site
from tests.real.registry import RealRegistry
from tests.real.runtimes import Ran
from tests.real.stories import Daemon, Sections, answers, daemon

_WRITTEN = re.compile(
    r"http\.request\.method=GET .*/blobs/(sha256:[0-9a-f]{64}).*http\.response\.written=(\d+)"
)
_T = TypeVar("_T")

#: Below those of connections (ip_local_port_range), which would be in the way of a later bind.
PORTS = (15000, 32000)

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Node:
    """One member: its daemon, its files, and where its peers reach it."""

    name: str
    daemon: Daemon
    files: IdentityFiles
    port: int

    @property
    def id(self) -> str:
        """What the others call it."""
        return f"{HOST}:{self.port}"

    def pull(self, image: str) -> Ran:
        """``registryctl pull`` on this node."""
        return self.daemon.ctl("pull", image, "--progress", "none")

    def kill(self) -> None:
        """End the daemon at once, without a word."""
        self.daemon.process.kill()
        self.daemon.process.wait()

    def reload(self) -> None:
        """SIGHUP."""
        os.kill(self.daemon.process.pid, signal.SIGHUP)


@dataclass(frozen=True)
class Cluster:
    """The nodes n1, n2 ..., and the authority that made them."""

    site: Site
    nodes: Sequence[Node]

    def __getitem__(self, at: int) -> Node:
        return self.nodes[at]

    def at_once(self, act: Callable[[Node], _T], nodes: Sequence[Node] | None = None) -> list[_T]:
        """Do this on all nodes (or these) at the same time; the results in their order."""
        chosen = self.nodes if nodes is None else nodes
        with ThreadPoolExecutor(len(chosen)) as threads:
            return list(threads.map(act, chosen))

    def pull(self, image: str, nodes: Sequence[Node] | None = None) -> None:
        """Pull an image on all nodes (or these) at once; each must succeed."""
        for ran in self.at_once(lambda node: node.pull(image), nodes):
            assert ran.code == 0, ran.err + "".join(self.logs())

    def logs(self) -> list[str]:
        """What all nodes have said, for a test that fails."""
        return [f"--- {node.name}\n{node.daemon.log}" for node in self.nodes]


@contextmanager
def cluster(
    folder: Path,
    sections: Sections,
    count: int,
    more: Mapping[str, Any] | None = None,
    zones: Sequence[str] = (),
    before: tuple[str, ...] = (),
) -> Iterator[Cluster]:
    """So many nodes with this configuration; ``more`` is put into ``[cluster]``.

    ``zones`` names the zone of each node, in their order; ``before`` is put in front of the
    daemons' commands. None may have logged a traceback by the
    end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    site = Site.make(folder / "site")
    ports = free_ports(count)
    peers = [f"{HOST}:{port}" for port in ports]
    nodes: list[Node] = []
    with ExitStack() as stack:
        for number, port in enumerate(ports, 1):
            files = site.node(f"n{number}", days=365)
            own = {
                "listen": f"{HOST}:{port}",
                "peers": peers,
                "ca_file": files.ca_file,
                "cert": files.cert,
                "key": files.key,
                **({"zones": _zones(zones, peers)} if zones else {}),
                **(more or {}),
            }
            place = folder / f"n{number}"
            whole = {**sections, "cluster": own}
            running = stack.enter_context(daemon(place, whole, before=before))
            nodes.append(Node(f"n{number}", running, files, port))
        yield Cluster(site, nodes)
    for node in nodes:
        assert "Traceback" not in node.daemon.log, node.daemon.log


def _zones(zones: Sequence[str], peers: Sequence[str]) -> dict[str, str]:
    """Zone -> list of its nodes."""
    return {
        zone: ",".join(peer for peer, its in zip(peers, zones, strict=True) if its == zone)
        for zone in dict.fromkeys(zones)
    }


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now, all different; and none that the system gives to connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(*PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            found += [port] if port not in found else []
    return found


def blob_bytes(registry: RealRegistry) -> dict[str, int]:
    """The bytes of each blob that a registry has sent so far, by its own log."""
    answers(registry)  # all that was answered is in the log by then
    sent: dict[str, int] = {}
    for line in list(registry.log):
        if match := _WRITTEN.search(line):
            sent[match[1]] = sent.get(match[1], 0) + int(match[2])
    return sent


def more_bytes(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What came on top, by blob."""
    grown = {digest: count - before.get(digest, 0) for digest, count in after.items()}
    return {digest: count for digest, count in grown.items() if count}


def push_image(
    registry: RealRegistry, name: str, sizes: Sequence[int], seed: int
) -> dict[str, int]:
    """An image of random layers as ``NAME:1``; its blobs with their sizes."""
    noise = random.Random(seed)
    return push_layers(registry, name, [noise.randbytes(size) for size in sizes])


def push_tree(registry: RealRegistry, name: str, files: Mapping[str, bytes]) -> dict[str, int]:
    """An image of one layer with these files, all of which can be run; as ``push_image``."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return push_layers(registry, name, [made.getvalue()])


def push_layers(registry: RealRegistry, name: str, contents: Sequence[bytes]) -> dict[str, int]:
    """An image of these layers as ``NAME:1``; its blobs with their sizes."""
    layers = [_upload(registry, name, content) for content in contents]
    rootfs = {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}
    config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs}
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _upload(registry, name, json.dumps(config).encode()) | {"mediaType": OCI_CONFIG},
        "layers": [layer | {"mediaType": OCI_LAYER} for layer in layers],
    }
    body, kind = json.dumps(manifest).encode(), {"Content-Type": OCI_MANIFEST}
    status, _ = _send(registry, "PUT", f"/v2/{name}/manifests/1", body, kind)
    assert status == 201
    return {str(blob["digest"]): int(blob["size"]) for blob in (manifest["config"], *layers)}


def _upload(registry: RealRegistry, name: str, content: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    _, place = _send(registry, "POST", f"/v2/{name}/blobs/uploads/")
    status, _ = _send(registry, "PUT", f"{place}&digest={digest}", content)
    assert status == 201
    return {"digest": digest, "size": len(content)}


def _send(
    registry: RealRegistry,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Status, and the path in Location."""
    with closing(http.client.HTTPConnection(registry.name, timeout=60)) as connection:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("Location", "").removeprefix(registry.url)
