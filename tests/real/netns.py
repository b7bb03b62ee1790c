"""Two switches with a cable between them, and nodes on both: network namespaces of a test's own.

Invariants:
- nothing outside of these namespaces is touched, and they are gone when the block ends;
- the upstream's address is reached from both sides, whether the cable is plugged in or not.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.runtimes import need

#: Where the upstream is, on both sides.
UPSTREAM = "10.78.0.1"
_NEWNET = 0x40000000


def address(number: int) -> str:
    """Of the node with this number, from 1 on."""
    return f"10.77.0.{number}"


@dataclass(frozen=True)
class Wires:
    """The namespaces: the switches' one, and the nodes' by their numbers."""

    hub: str
    nodes: dict[int, str]

    def before(self, number: int) -> tuple[str, ...]:
        """What to put before a command that shall run as this node."""
        return ("nsenter", f"--net=/run/netns/{self.nodes[number]}")

    def cut(self) -> None:
        """Pull the cable: nothing passes between the sides, and nobody is told."""
        _ip(self.hub, "link", "set", "cable", "down")

    def heal(self) -> None:
        """Plug it in again."""
        _ip(self.hub, "link", "set", "cable", "up")

    def listen(self) -> socket.socket:
        """A socket that listens at the upstream's address."""
        with ThreadPoolExecutor(1) as threads:  # a namespace is its thread's, and ends with it
            return threads.submit(_listen, self.hub).result()


def _listen(namespace: str) -> socket.socket:
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, _NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)
    return socket.create_server((UPSTREAM, 0))


@contextmanager
def two_sides(left: Sequence[int], right: Sequence[int]) -> Iterator[Wires]:
    """Nodes with these numbers on the two sides; skips the test where that needs a root."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces that nodes of several processes share need root")
    need("ip")
    mark = f"rd{secrets.token_hex(4)}"
    with ExitStack() as stack:
        hub = _namespace(stack, f"{mark}-hub")
        _ip(hub, "addr", "add", f"{UPSTREAM}/32", "dev", "lo")
        _ip(hub, "link", "add", "cable", "type", "veth", "peer", "name", "cable2")
        nodes = {}
        for side, cable, numbers in ((1, "cable", left), (2, "cable2", right)):
            switch, gate = f"br{side}", f"10.77.0.{100 + side}"
            _ip(hub, "link", "add", switch, "type", "bridge")
            _ip(hub, "addr", "add", f"{gate}/24", "dev", switch)
            _ip(hub, "link", "set", switch, "up")
            _ip(hub, "link", "set", cable, "master", switch, "up")
            for number in numbers:
                nodes[number] = _namespace(stack, f"{mark}-{number}")
                _plug(hub, switch, gate, nodes[number], number)
        yield Wires(hub, nodes)


def _namespace(stack: ExitStack, name: str) -> str:
    subprocess.run(["ip", "netns", "add", name], check=True)
    stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
    _ip(name, "link", "set", "lo", "up")
    assert Path("/run/netns", name).exists()
    return name


def _plug(hub: str, switch: str, gate: str, namespace: str, number: int) -> None:
    """A cable from a switch to a node."""
    name = f"v{number}"
    _ip(hub, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    _ip(hub, "link", "set", name, "master", switch, "up")
    _ip(namespace, "addr", "add", f"{address(number)}/24", "dev", "eth0")
    _ip(namespace, "link", "set", "eth0", "up")
    _ip(namespace, "route", "add", f"{UPSTREAM}/32", "via", gate)
    _ip(hub, "route", "add", f"{address(number)}/32", "dev", switch)


def _ip(namespace: str, *words: str) -> None:
    subprocess.run(["ip", "-n", namespace, *words], check=True)
