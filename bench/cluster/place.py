"""What all runs share: the hosts, the upstream with its images, and what the links really give."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.cluster.figures import Links, Run, floor
from bench.cluster.images import write_image
from bench.cluster.network import Host, Network, network
from bench.cluster.programs import (
    REGISTRY_PORT,
    Member,
    Node,
    Registry,
    members,
    nats,
    nodes,
    registry,
    static,
)
from bench.cluster.storms import Image, Storms, pulls
from bench.rig import need

#: Nodes' links against the upstream's in the runs of fast links.
FASTER = 10
LAYERS = 4
#: Seconds for which a link is measured, if the layer it is measured with has bytes enough.
MEASURED = 3.0


@dataclass(frozen=True)
class Settings:
    """What can be chosen: sizes in bytes, speeds in bits a second."""

    nodes: int
    size: int
    #: The image of the runs that are slow by nature: their times grow with it, their ratios do not.
    small: int
    #: The image of the runs after a first job, and of those on demand.
    held: int
    upstream: float
    nats: bool
    patience: float
    congestion: str
    #: More lines of every node's configuration.
    rest: tuple[str, ...] = ()


@dataclass
class Place:
    """The network with its upstream and its nodes-to-be; ``cluster`` is how nodes are told."""

    folder: Path
    logs: Path
    settings: Settings
    network: Network
    upstream: Registry
    proxy: Host
    members: list[Member]
    cluster: list[str]
    images: dict[int, Image] = field(default_factory=dict)
    speeds: dict[float, float] = field(default_factory=dict)

    def image(self, size: int) -> Image:
        """An image of this size in the upstream, pushed from its own host and so past its link."""
        if size not in self.images:
            number = len(self.images) + 1
            layout = self.folder / "layout"
            layer = write_image(layout, size, LAYERS, "bench", seed=number)
            blobs = (layout / "blobs" / "sha256").iterdir()
            name = f"bench/image{number}:1"
            self.images[size] = Image(name, sum(blob.stat().st_size for blob in blobs), layer)
            copy = (need("skopeo"), "copy", "-q", "--preserve-digests", "--dest-tls-verify=false")
            target = f"docker://127.0.0.1:{REGISTRY_PORT}/{name}"
            host = self.upstream.host
            subprocess.run(host.argv(*copy, f"oci:{layout}:bench", target), check=True)
            shutil.rmtree(layout)
        return self.images[size]

    def linked(self, faster: int, image: Image) -> Links:
        """Give the links their speeds: the upstream's, and nodes' so many times as fast.

        The answer is what one download gives at each speed.
        """
        slow, quick = self.settings.upstream, faster * self.settings.upstream
        links = Links(*(self._measured(bits, image) for bits in (slow, quick)))
        self.network.limit(self.upstream.host, slow)
        for host in (self.proxy, *(member.host for member in self.members)):
            self.network.limit(host, quick)
        return links

    def _measured(self, bits: float, image: Image) -> float:
        if bits not in self.speeds:
            host = self.members[0].host
            for end in (host, self.upstream.host):
                self.network.limit(end, bits)
            repository = image.name.partition(":")[0]
            url = f"{self.upstream.url}/v2/{repository}/blobs/{image.layer}"
            most = int(bits / 8 * MEASURED)
            curl = ("curl", "-sf", "-r", f"0-{most}", "-o", "/dev/null", "-w", "%{speed_download}")
            done = subprocess.run(host.argv(*curl, url), check=True, stdout=subprocess.PIPE)
            self.speeds[bits] = float(done.stdout)
        return self.speeds[bits]

    @contextmanager
    def nodes(
        self, upstream: Registry | None = None, *, alone: bool = False
    ) -> Iterator[list[Node]]:
        """Daemons with empty caches in all hosts; ``alone`` are those without a cluster."""
        url = (upstream or self.upstream).url
        cluster = None if alone else self.cluster
        rest = self.settings.rest
        with nodes(self.folder, self.logs, self.members, url, cluster, rest) as started:
            yield started

    def pull(
        self,
        what: str,
        takers: Sequence[Node],
        image: Image,
        links: Links,
        holders: Sequence[Node] = (),
        others: Sequence[Node] = (),
    ) -> Run:
        """These nodes pull at once; what all nodes send and spend is counted."""
        least = floor(image.size, len(takers), links, len(holders))
        return self.storm(what, pulls(takers, image), [*takers, *holders, *others], image, least)

    def storm(
        self,
        what: str,
        argvs: Sequence[Sequence[str]],
        among: Sequence[Node],
        image: Image,
        least: float,
    ) -> Run:
        """Let commands begin at once; ``least`` is the floor for the last of them."""
        storms = Storms(self.folder, self.network, self.upstream, self.settings.patience)
        return storms.run(what, argvs, among, image.size, least)


@contextmanager
def place(folder: Path, logs: Path, settings: Settings) -> Iterator[Place]:
    """The network, a running upstream, and identities for all nodes."""
    with ExitStack() as stack:
        net = stack.enter_context(network(settings.congestion))
        upstream = registry(folder, logs, net.host("upstream", "10.77.0.1"))
        running = stack.enter_context(upstream)
        proxy = net.host("proxy", "10.77.0.2")
        hosts = [net.host(f"n{n}", f"10.77.1.{n}") for n in range(1, settings.nodes + 1)]
        lines = static(hosts)
        if settings.nats:
            url = stack.enter_context(nats(folder, logs, net.host("nats", "10.77.0.3")))
            lines = [f'nats = ["{url}"]']
        yield Place(folder, logs, settings, net, running, proxy, members(folder, hosts), lines)
