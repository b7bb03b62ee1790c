"""Hosts in network namespaces round one switch, each behind a link of a given speed.

Invariants:
- everything is in namespaces named after this process, so nothing of the machine's own network is
  touched, and what a killed bench has left is known and removed by the next one;
- a link is limited both ways: what its host sends at the host, what it takes at the switch.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cluster.counters import Passed, passed

PREFIX = "rgdbench"
_SWITCH = "switch"
#: A burst of one full segment of the kernel's (64 KiB) at least, or it is cut up in software.
BURST, BURST_SECONDS = 64 << 10, 0.001
#: What a port of a switch holds back before it drops.
QUEUE, QUEUE_SECONDS = 512 << 10, 0.010


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace with one address; its port at the switch has its name."""

    name: str
    namespace: str
    address: str

    def argv(self, *words: str | Path) -> list[str]:
        """A command in the host; it ends when this process does, whatever ends this one."""
        return [
            *("setpriv", "--pdeathsig", "TERM", "ip", "netns", "exec", self.namespace),
            *map(str, words),
        ]


def shaping(bits: float) -> list[str]:
    """The words of tc for a link of so many bits a second."""
    rate = bits / 8
    burst = max(BURST, int(rate * BURST_SECONDS))
    queue = burst + max(QUEUE, int(rate * QUEUE_SECONDS))
    return ["tbf", "rate", f"{bits:.0f}bit", "burst", str(burst), "limit", str(queue)]


def leftovers(names: Sequence[str], alive: Sequence[int]) -> list[str]:
    """The namespaces of benches whose processes are gone."""
    found = []
    for name in names:
        words = name.split("-")
        if len(words) > 2 and words[0] == PREFIX and words[1].isdigit():
            found += [name] if int(words[1]) not in alive else []
    return found


class Network:
    """One switch and the hosts at it."""

    def __init__(self, congestion: str = "") -> None:
        self._mark = f"{PREFIX}-{os.getpid()}"
        self._congestion = congestion
        self._made: list[str] = []

    def host(self, name: str, address: str, bits: float = 0) -> Host:
        """A new host; without a speed its link is not limited."""
        host = Host(name, f"{self._mark}-{name}", address)
        self._namespace(host.namespace)
        switch = self._switch()
        _ip("-n", switch, "link", "add", name, "type", "veth",
            "peer", "name", "eth0", "netns", host.namespace)  # fmt: skip
        _ip("-n", switch, "link", "set", name, "master", "br0", "up")
        _ip("-n", host.namespace, "addr", "add", f"{address}/16", "dev", "eth0")
        _ip("-n", host.namespace, "link", "set", "eth0", "up")
        self.limit(host, bits)
        return host

    def limit(self, host: Host, bits: float) -> None:
        """Give the link of a host another speed, both ways; 0 is none."""
        for namespace, device in ((host.namespace, "eth0"), (self._switch(), host.name)):
            tc = ["tc", "-n", namespace, "qdisc"]
            # Deleting first empties the queue; a new link has none, which is as good.
            subprocess.run([*tc, "del", "dev", device, "root"], capture_output=True)
            if bits:
                subprocess.run([*tc, "add", "dev", device, "root", *shaping(bits)], check=True)

    def passed(self) -> dict[str, Passed]:
        """What each host has sent and taken so far."""
        return passed(_ip("-n", self._switch(), "-j", "-s", "link", "show", "type", "veth"))

    def close(self) -> None:
        """Remove all that was made."""
        while self._made:
            # A namespace lives on without its name until its last process ends.
            subprocess.run(["ip", "netns", "del", self._made.pop()], capture_output=True)

    def _switch(self) -> str:
        name = f"{self._mark}-{_SWITCH}"
        if name not in self._made:
            self._namespace(name)
            _ip("-n", name, "link", "add", "br0", "type", "bridge")
            _ip("-n", name, "link", "set", "br0", "up")
        return name

    def _namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._made.append(name)
        _ip("-n", name, "link", "set", "lo", "up")
        settings = [
            "net.ipv6.conf.all.disable_ipv6=1",
            "net.ipv6.conf.default.disable_ipv6=1",
            "net.ipv4.tcp_no_metrics_save=1",
        ]
        if self._congestion:
            settings.append(f"net.ipv4.tcp_congestion_control={self._congestion}")
        _ip("netns", "exec", name, "sysctl", "-q", "-w", *settings)


@contextmanager
def network(congestion: str = "") -> Iterator[Network]:
    """A network that is removed at the end; what dead benches have left goes first."""
    for name in leftovers(_names(), _alive()):
        _ip("netns", "del", name)
    made = Network(congestion)
    try:
        yield made
    finally:
        made.close()


def _names() -> list[str]:
    return [line.split()[0] for line in _ip("netns", "list").splitlines() if line]


def _alive() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, stdout=subprocess.PIPE, text=True).stdout
