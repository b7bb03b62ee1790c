"""Debian's nats-server on free loopback ports, with JetStream: one, or several as a cluster.

Each ends its own process and nothing else. It can be killed, held up and started again where it
was, on the same port and store. Where the program is missing, the test fails.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HOST = "127.0.0.1"
#: Seconds in which a server must be ready, on a busy machine too.
START_LIMIT = 30.0
#: Another process may take the port between our choice and the server's bind.
START_TRIES = 3
READY = "Server is ready"
#: A cluster's JetStream works from when its servers have chosen one of them.
LEADER = ("JetStream cluster new metadata leader", "Self is new JetStream cluster metadata leader")


def need(program: str) -> str:
    """The path of the server, without which these tests mean nothing."""
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"{program} is not installed (Debian: apt install {program})")
    return found


@dataclass
class NatsServer:
    """One server: where it listens, what it is told, and what it has said."""

    folder: Path
    port: int
    settings: str = ""
    name: str = "one"
    log: list[str] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None
    _reader: threading.Thread | None = None
    _heard: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        """As the configuration of a node has it."""
        return f"nats://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Run it, again or for the first time; back when it is ready."""
        assert self._process is None
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nats.conf"
        config.write_text(
            f'server_name: "{self.name}"\nlisten: "{HOST}:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.folder / "store"}" }}\n{self.settings}\n'
        )
        self.log.clear()
        self._process = subprocess.Popen(
            [need("nats-server"), "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,))
        self._reader.start()
        if not self.said(READY):
            log = "".join(self.log[-5:])
            self.end(signal.SIGKILL)
            raise RuntimeError(f"nats-server did not start:\n{log}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, by a signal; ending twice is ending."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
        process.wait()
        assert self._reader is not None and process.stderr is not None
        self._reader.join()
        process.stderr.close()

    def kill(self) -> None:
        """End it as the power does."""
        self.end(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP holds it up, SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def said(self, *words: str) -> bool:
        """Wait until it has said any of these in its log; False when it has ended instead."""

        def found() -> bool:
            return any(each in line for line in self.log for each in words)

        with self._heard:
            self._heard.wait_for(lambda: found() or self.log[-1:] == [""], START_LIMIT)
            return found()

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Read what the process says until it ends, so that it never waits for us."""
        assert process.stderr is not None
        for line in process.stderr:
            self._add(line)
        self._add("")

    def _add(self, line: str) -> None:
        with self._heard:
            self.log.append(line)
            self._heard.notify_all()


@contextmanager
def nats_server(folder: Path, settings: str = "") -> Iterator[NatsServer]:
    """A server alone; ``settings`` are more lines of its configuration."""
    for tries_left in reversed(range(START_TRIES)):
        server = NatsServer(folder, *free_ports(1), settings)
        try:
            server.start()
        except RuntimeError as error:
            if not tries_left:
                pytest.fail(str(error))
            continue
        try:
            yield server
            return
        finally:
            server.end()


@contextmanager
def nats_cluster(folder: Path, count: int = 3, settings: str = "") -> Iterator[list[NatsServer]]:
    """Servers that are one cluster; back when they have met, and JetStream works."""
    ports = free_ports(2 * count)
    routes = ", ".join(f'"nats://{HOST}:{port}"' for port in ports[count:])
    with ExitStack() as stack:
        servers = []
        for index in range(count):
            meet = f'listen: "{HOST}:{ports[count + index]}", routes: [{routes}]'
            cluster = f'cluster {{ name: "c", {meet} }}\n{settings}'
            name = f"s{index}"
            server = NatsServer(folder / name, ports[index], cluster, name)
            server.start()
            stack.callback(server.end)
            servers.append(server)
        for server in servers:
            assert server.said(*LEADER), server.log[-5:]
        yield servers


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
