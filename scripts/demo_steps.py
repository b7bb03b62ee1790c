"""The steps of the demonstration, done by the programs that a person would use.

Invariants:
- registryctl runs as a process of its own and its progress goes to the terminal as it comes; what
  it did is read from its JSON;
- what a pull took from upstream is what both daemons' own counters say, not what registryctl says;
- nothing that the person has set up for registries (logins, configuration) has a part in it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.demo_daemons import Daemon, DemoFailed, answer, connect, counted
from scripts.demo_image import Image

CHECKOUT = Path(__file__).resolve().parents[1]
#: The name that the node knows the origin by; the TLD is reserved for tests (RFC 6761).
ORIGIN = "origin.test"
REPOSITORY = "demo/app"
#: Seconds that a command may take.
COMMAND_LIMIT = 120.0
READ_SIZE = 1 << 20
#: Variables that would make programs use what the person has set up.
PERSONAL = (
    "CONTAINERS_REGISTRIES_CONF", "DOCKER_CONFIG", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET",
    "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
)  # fmt: skip
BLOBS_SENT = "registryd_served_bytes_total"
BLOBS_KEPT = "registryd_cache_bytes"
BLOBS_TAKEN = "registryd_upstream_bytes_total"


@dataclass(frozen=True)
class Pull:
    """What one pull fetched and found held, and what the daemons counted meanwhile."""

    fetched: int
    fetched_blobs: int
    held: int
    held_blobs: int
    seconds: float
    origin_sent: int
    node_taken: int


@dataclass(frozen=True)
class Reading:
    """An image read over HTTP, as a runtime does it."""

    bytes: int
    blobs: int
    seconds: float
    origin_sent: int
    node_taken: int


def program(name: str, module: str) -> list[str]:
    """The command of a program of ours: its console script, else the module."""
    script = Path(sys.executable).parent / name
    return [str(script)] if script.is_file() else [sys.executable, "-m", module]


def environment(home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of every program that the demonstration runs: of this checkout, at home."""
    kept = {
        name: value
        for name, value in environ.items()
        if name not in PERSONAL and not name.startswith("REGISTRYD_")
    }
    path = [str(CHECKOUT), *filter(None, [environ.get("PYTHONPATH")])]
    return {**kept, "HOME": str(home), "PYTHONPATH": os.pathsep.join(path)}


@dataclass(frozen=True)
class Stage:
    """The two daemons, and the environment in which commands run."""

    origin: Daemon
    node: Daemon
    environ: Mapping[str, str]
    root: Path

    def push(self, layout: Path, image: Image) -> dict[str, Any]:
        """Push an image of the layout to the origin; what registryctl tells. Raises DemoFailed."""
        target = f"{self.origin.address}/{REPOSITORY}:{image.tag}"
        return self._registryctl(self.origin, "push", f"oci:{layout}:{image.tag}", target)

    def pull(self, image: Image) -> Pull:
        """Pull an image through the node. Raises DemoFailed, also for a wrong digest."""
        sent, taken = self._counters()
        name = f"{ORIGIN}/{REPOSITORY}:{image.tag}"
        told = self._registryctl(self.node, "--socket", self.node.socket, "pull", name)
        if told["digest"] != image.digest:
            raise DemoFailed(f"{name} is {told['digest']}, pushed was {image.digest}")
        now_sent, now_taken = self._counters()
        names = ("fetched", "fetched_blobs", "held", "held_blobs")
        counts = {each: int(told[each]) for each in names}
        return Pull(
            **counts,
            seconds=float(told["seconds"]),
            origin_sent=now_sent - sent,
            node_taken=now_taken - taken,
        )

    def read(self, image: Image) -> Reading:
        """Read an image from the node's TCP address; every digest is checked. Raises DemoFailed."""
        sent, taken = self._counters()
        began = time.monotonic()
        path = f"/v2/{ORIGIN}/{REPOSITORY}"
        print(f"$ GET {self.node.base}{path}/manifests/{image.tag}, and its blobs", flush=True)
        try:
            with closing(connect(self.node)) as connection:
                size = _read_image(connection, path, image)
        except (OSError, http.client.HTTPException) as error:
            raise DemoFailed(f"reading from the node: {error}", Path(self.node.log)) from None
        seconds = time.monotonic() - began
        now_sent, now_taken = self._counters()
        return Reading(size, len(image.blobs), seconds, now_sent - sent, now_taken - taken)

    def skopeo(self, image: Image) -> bool:
        """Let skopeo read the image from the node; False where there is no skopeo."""
        found = shutil.which("skopeo", path=self.environ.get("PATH"))
        if found is None:
            print("skopeo is not installed: its copy is skipped", flush=True)
            return False
        goal = self.root / "skopeo"
        source = f"docker://{self.node.address}/{ORIGIN}/{REPOSITORY}:{image.tag}"
        flags = ["--insecure-policy", "--src-tls-verify=false"]
        words = ["copy", *flags, source, f"oci:{goal}:{image.tag}"]
        self._run([found, *words], "skopeo", self.node)
        digest = json.loads((goal / "index.json").read_text())["manifests"][0]["digest"]
        if digest != image.digest:
            raise DemoFailed(f"skopeo read {digest}, pushed was {image.digest}")
        return True

    def keeps(self) -> int:
        """Bytes on the node's disk: blobs, manifests among them. Raises DemoFailed."""
        return counted(self.node, BLOBS_KEPT)

    def _counters(self) -> tuple[int, int]:
        return counted(self.origin, BLOBS_SENT), counted(self.node, BLOBS_TAKEN)

    def _registryctl(self, concerned: Daemon, *words: str) -> dict[str, Any]:
        command = program("registryctl", "registryd.cli.main")
        output = self._run([*command, "--format", "json", *words], "registryctl", concerned)
        try:
            told: dict[str, Any] = json.loads(output)
        except ValueError:
            raise DemoFailed(f"registryctl gave no JSON: {output[:200]!r}") from None
        return told

    def _run(self, command: Sequence[str], name: str, concerned: Daemon) -> str:
        """Run a command; its standard output, while its errors go to ours. Raises DemoFailed."""
        words = command[command.index("--format") :] if name == "registryctl" else command[1:]
        print(f"$ {shlex.join([name, *words])}", flush=True)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=dict(self.environ),
                text=True,
                timeout=COMMAND_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            line = f"{name} did not end within {COMMAND_LIMIT:.0f} s"
            raise DemoFailed(line, Path(concerned.log)) from None
        if done.returncode:
            line = f"{name} ended with exit code {done.returncode}"
            raise DemoFailed(line, Path(concerned.log))
        return done.stdout


def _read_image(connection: http.client.HTTPConnection, path: str, image: Image) -> int:
    """Read manifest and blobs, and prove them; the bytes of the blobs."""
    accept = {"Accept": image.manifest.media_type}
    raw = answer(connection, f"{path}/manifests/{image.tag}", accept).read()
    _prove(image.digest, hashlib.sha256(raw))
    size = 0
    for digest in image.blobs:
        response = answer(connection, f"{path}/blobs/{digest}")
        seen = hashlib.sha256()
        while piece := response.read(READ_SIZE):
            seen.update(piece)
            size += len(piece)
        _prove(digest, seen)
    return size


def _prove(digest: str, seen: Any) -> None:
    if f"sha256:{seen.hexdigest()}" != digest:
        raise DemoFailed(f"the node gave sha256:{seen.hexdigest()} for {digest}")
