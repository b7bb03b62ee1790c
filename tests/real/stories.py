"""What the stories are made of: registryd as a process, registryctl as a process, upstreams.

Invariants:
- a daemon is ready when it says so (sd_notify); it has a folder, a home and a root of its own;
- what is counted is counted by the upstream's own log and by the daemon's own metrics.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.http import FakeServer
from tests.real.registry import RealRegistry
from tests.real.runtimes import Ran, attempt, module, plain_environ, server

#: The name of the upstream in references; nothing resolves it but the daemon's configuration.
UP = "up.test"

Sections = Mapping[str, Mapping[str, Any]]


def toml(sections: Sections) -> str:
    """A configuration file; JSON's texts, numbers and lists are TOML's too."""
    lines: list[str] = []
    for name, section in sections.items():
        tables = {key: value for key, value in section.items() if isinstance(value, Mapping)}
        lines.append(f"[{name}]")
        for key, value in section.items():
            if key not in tables:
                lines.append(f"{json.dumps(key)} = {_value(value)}")
        for key, table in tables.items():
            lines.append(f"[{name}.{json.dumps(key)}]")
            lines += [f"{inner} = {_value(value)}" for inner, value in table.items()]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    return json.dumps(str(value) if isinstance(value, Path) else value)


def upstream_at(endpoint: str, **more: object) -> Sections:
    """The sections for an upstream that is called ``up.test``; its tags are asked for anew."""
    return {"registries": {UP: {"endpoint": endpoint, **more}}}


def get(address: str, path: str) -> tuple[int, bytes]:
    """Status and body of a GET without any header of ours."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@dataclass(frozen=True)
class Ctl:
    """registryctl as a process of its own, with a home of its own."""

    home: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, typed: str = "") -> Ran:
        """Run one command line."""
        return attempt(self.command(*words), self._environ(), typed)

    def ok(self, *words: str, typed: str = "") -> str:
        """Run one that must succeed; its stdout."""
        ran = self(*words, typed=typed)
        assert ran.code == 0, f"registryctl {' '.join(words)}: {ran.code}\n{ran.err}"
        return ran.out

    def json(self, *words: str) -> Any:
        """Run one that must succeed with ``--format json``; what it has printed."""
        return json.loads(self.ok(*words, "--format", "json"))

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """Begin one; the caller ends it."""
        return subprocess.Popen(
            self.command(*words),
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def with_environ(self, **more: str) -> Ctl:
        """The same with more in its environment."""
        return Ctl(self.home, {**self.environ, **more})

    @staticmethod
    def command(*words: str) -> list[str]:
        """The command line as a process has it."""
        return module("registryd.cli.main", *words)

    def _environ(self) -> dict[str, str]:
        # What a user's home says counts; what this machine's own files say does not.
        own = self.home / ".config/containers/registries.conf"
        nothing = {} if own.exists() else {"CONTAINERS_REGISTRIES_CONF": "/dev/null"}
        return {**plain_environ(self.home), **nothing, **self.environ}


@dataclass(frozen=True)
class Daemon:
    """A running registryd."""

    folder: Path
    root: Path
    socket: Path
    address: str
    process: subprocess.Popen[bytes]

    @property
    def ctl(self) -> Ctl:
        """registryctl, pointed to it."""
        return Ctl(self.folder / "home", {"REGISTRYD_SOCKET": str(self.socket)})

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "log").read_text()

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body over TCP."""
        return get(self.address, path)

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        text = self.get("/metrics")[1].decode()
        found = re.findall(rf"^{name}(?:{{.*}})? ([0-9.e+-]+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def mirror(self, name: str, transport: str = "docker://") -> str:
        """A name of the upstream, read through this daemon."""
        return f"{transport}{self.address}/{UP}/{name}"


@contextmanager
def daemon(
    folder: Path,
    sections: Sections,
    *,
    root: Path | None = None,
    before: tuple[str, ...] = (),
) -> Iterator[Daemon]:
    """A registryd with this configuration; ``before`` is put in front of its command."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    root, sock = root or folder / "root", folder / "d.sock"
    own = {"socket": sock, "drain_timeout": "5s", **sections.get("daemon", {})}
    text = toml({"cache": {"root": root}, **sections, "daemon": own})
    config = folder / "config.toml"
    config.write_text(text + '[[daemon.listen]]\naddress = "127.0.0.1:0"\n')
    command = [*before, *module("registryd.daemon", "--config", str(config))]
    environ = {**plain_environ(home), "CONTAINERS_REGISTRIES_CONF": "/dev/null"}
    with server(command, folder, environ) as process:
        ready = [line for line in (folder / "log").read_text().splitlines() if " ready: " in line]
        address = ready[-1].rpartition(", ")[2]
        yield Daemon(folder, root, sock, address, process)


def blobs_of(root: Path) -> set[str]:
    """The digests in a cache or layout; each file is hashed and must be what it is called."""
    found = set()
    for path in (root / "blobs").glob("*/*"):
        assert hashlib.new(path.parent.name, path.read_bytes()).hexdigest() == path.name, path
        found.add(f"{path.parent.name}:{path.name}")
    return found


def arriving(root: Path) -> list[str]:
    """The names in ``ingest/``."""
    return sorted(path.name for path in (root / "ingest").iterdir())


def told(ran: Ran) -> str:
    """The one line in which a failed command has said why; there must be just one."""
    lines = ran.err.splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("registryctl: "), ran.err
    assert ran.raw == b""
    return lines[0]


# Upstreams


_DONE = re.compile(r'msg="response completed".* http\.request\.method=(\S+).*? '
                   r'http\.request\.uri="?([^\s"]+)"?.* http\.response\.status=(\d+)')  # fmt: skip


def blob_reads(registry: RealRegistry) -> Counter[str]:
    """How often each blob was sent whole or in part, by the registry's own log."""
    counted: Counter[str] = Counter()
    for method, uri, status in answers(registry):
        match = re.search(r"/blobs/(sha256:[0-9a-f]{64})$", uri.partition("?")[0])
        if method == "GET" and match and status in ("200", "206"):
            counted[match[1]] += 1
    return counted


def answers(registry: RealRegistry) -> list[tuple[str, str, str]]:
    """Method, path and status of all that it has answered so far."""
    marker = f"/v2/?seen={len(registry.log)}"
    get(registry.name, marker)
    ended = ("response completed", "error authorizing context")
    while not any(marker in line and any(map(line.count, ended)) for line in registry.log):
        threading.Event().wait(0.01)
    return [match.groups() for line in registry.log if (match := _DONE.search(line))]  # type: ignore[misc]


@contextmanager
def in_thread(fake: FakeServer) -> Iterator[Callable[[Callable[[], object]], None]]:
    """A scripted server on a loop of its own; gives how to call something on that loop."""
    ready = threading.Event()
    place: dict[str, Any] = {}

    async def serve() -> None:
        place["loop"], place["stop"] = asyncio.get_running_loop(), asyncio.Event()
        async with fake.serve():
            ready.set()
            await place["stop"].wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(30)
    try:
        yield lambda act: place["loop"].call_soon_threadsafe(act)
    finally:
        place["loop"].call_soon_threadsafe(place["stop"].set)
        thread.join()
