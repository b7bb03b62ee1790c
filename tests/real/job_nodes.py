"""Daemons of one cluster that come, go and come again, each with a configuration of its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.members import HOST, Site
from tests.fakes.registry import FakeRegistry
from tests.real.cluster import free_ports
from tests.real.stories import Daemon, Sections, daemon

#: Seconds in which a state has come, on a busy machine too.
LIMIT = 90.0


@dataclass
class JobNodes:
    """Nodes n1, n2 ...; ``cluster`` is what their ``[cluster]`` has beside who they are."""

    folder: Path
    registry: FakeRegistry
    cluster: Mapping[str, Any]
    ports: list[int]
    site: Site
    running: dict[int, tuple[ExitStack, Daemon]] = field(default_factory=dict)

    def start(
        self, *numbers: int, more: Sections | None = None, before: tuple[str, ...] = ()
    ) -> None:
        """Start these nodes, for the first time or again; ``before`` is put before the command."""
        for number in numbers:
            name = f"n{number}"
            files = self.site.folder / name
            if not files.exists():
                self.site.node(name)
            own = {
                "listen": f"{HOST}:{self.ports[number - 1]}",
                "ca_file": files / "ca.pem",
                "cert": files / "cert.pem",
                "key": files / "key.pem",
                **self.cluster,
            }
            entry = {self.registry.name: {"plain_http": True, "tag_ttl": "0"}}
            sections = {
                "registries": entry,
                "transfer": {"stall_timeout": "60s"},
                "cluster": own,
                **(more or {}),
            }
            stack = ExitStack()
            self.running[number] = (
                stack,
                stack.enter_context(daemon(self.folder / name, sections, before=before)),
            )

    def __getitem__(self, number: int) -> Daemon:
        return self.running[number][1]

    def id(self, number: int) -> str:
        """What the others call a node."""
        return f"n{number}" if self.cluster.get("nats") else f"{HOST}:{self.ports[number - 1]}"

    def kill(self, number: int) -> None:
        """End a node as the power does."""
        stack, running = self.running.pop(number)
        running.process.kill()
        stack.close()

    def job(self, number: int, id: str) -> dict[str, dict[str, Any]]:
        """What a node knows of a job: the last words, by node."""
        found = self[number].ctl.json("jobs", id)
        return {word["node"]: word for word in found["standings"]}

    def until(self, claim: Callable[[], object]) -> None:
        """Look until a claim holds."""
        ends = time.monotonic() + LIMIT
        while time.monotonic() < ends:
            if claim():
                return
            threading.Event().wait(0.01)
        raise AssertionError("it did not happen:\n" + "\n".join(self.logs()))

    def until_members(self, *numbers: int) -> None:
        """Look until each of these nodes knows all of them."""
        names = {self.id(number) for number in numbers}

        def met() -> bool:
            return all(
                names <= {node["name"] for node in self[number].ctl.json("nodes")["nodes"]}
                for number in numbers
            )

        self.until(met)

    def logs(self) -> list[str]:
        """What all nodes have said, for a test that fails."""
        return [f"--- n{number}\n{each.log[-4000:]}" for number, (_, each) in self.running.items()]

    def close(self) -> None:
        """End all that run."""
        for stack, _ in self.running.values():
            stack.close()


@contextmanager
def job_nodes(
    folder: Path, registry: FakeRegistry, count: int, *, nats: str = ""
) -> Iterator[JobNodes]:
    """So many nodes, none of which runs yet; of a static cluster, or of one with this NATS."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = free_ports(count)
    if nats:
        cluster: dict[str, Any] = {"nats": [nats], "address": HOST}
    else:
        cluster = {"peers": [f"{HOST}:{port}" for port in ports]}
    nodes = JobNodes(folder, registry, cluster, ports, Site.make(folder / "site"))
    try:
        yield nodes
    finally:
        nodes.close()
    for log in folder.glob("n*/log"):
        assert "Traceback" not in log.read_text(), log.read_text()


def events(err: str) -> list[dict[str, Any]]:
    """The events that ``--progress json`` has told."""
    return [json.loads(line) for line in err.splitlines() if line.startswith("{")]
