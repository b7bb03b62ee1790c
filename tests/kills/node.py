"""Daemons to be killed: started by forking, on one cache each, spoken to on their socket."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registryd.unix_http import UnixConnection
from tests.kills.steps import Steps
from tests.real.runtimes import plain_environ

TOP = Path(__file__).resolve().parents[2]
#: Seconds in which anything has happened, on a busy machine too.
LIMIT = 60.0


class Died(Exception):
    """The daemon did not live to answer."""


class Refused(Exception):
    """What the daemon answered in place of doing it: a code, and words."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(f"{code}: {words}")
        self.code, self.words = code, words


@dataclass
class Node:
    """A daemon that runs, or did."""

    pid: int
    ended: int  #: readable when the process has ended
    root: Path
    socket: Path
    log: Path

    def said(self) -> list[str]:
        """Its log, with that of those who ran there before."""
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return not select.select([self.ended], [], [], 0)[0]

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; that it is gone is a success."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        """End it and forget it."""
        self.kill()
        os.close(self.ended)

    def wait(self) -> None:
        """Wait until it has ended."""
        assert select.select([self.ended], [], [], LIMIT)[0], f"{self.pid} does not end"

    def dies(self, seconds: float) -> bool:
        """Whether it ends by itself within this time."""
        return bool(select.select([self.ended], [], [], seconds)[0])

    # what is asked of it

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """An answer, whole. Raises Died."""
        connection = UnixConnection(str(self.socket), host="node", timeout=LIMIT)
        with closing(connection):
            try:
                connection.request(method, path, body or None, dict(headers or {}))
                answer = connection.getresponse()
                return answer.status, answer.read(), answer.headers
            except (OSError, http.client.HTTPException) as error:
                raise Died(f"{method} {path}: {error!r}") from error

    def ask(self, name: str, **arguments: object) -> Any:
        """A verb of the API, done; its (last) answer. Raises Died and Refused."""
        if name in ("images", "cache/blobs", "cache/df", "status"):
            status, content, _ = self.request("GET", f"/api/v1/{name}")
        else:
            kind = {"Content-Type": "application/json"}
            body = json.dumps(arguments).encode()
            status, content, _ = self.request("POST", f"/api/v1/{name}", body, kind)
        lines = [json.loads(line) for line in content.splitlines() if line.strip()]
        if status >= 400 or (lines and lines[-1].get("event") == "failed"):
            raise refusal(status, content)
        if not lines or lines[-1].get("event", "done") != "done":
            raise Died(f"{name}: the answer broke off")
        return lines[-1]

    def images(self) -> dict[str, str]:
        """The images that it shows, by reference, with their digests."""
        return {each["reference"]: each["digest"] for each in self.ask("images")["images"]}

    def get(self, path: str) -> bytes:
        """The body of a GET that succeeds. Raises Died and Refused."""
        status, content, _ = self.request("GET", path)
        if status >= 400:
            raise refusal(status, content)
        return content


def refusal(status: int, content: bytes) -> Refused:
    """What an answer says in place of doing what was asked for."""
    lines = content.splitlines() or [b"{}"]
    try:
        last = json.loads(lines[-1])
    except ValueError:
        return Refused(str(status), content.decode(errors="replace"))
    first = (last.get("errors") or [last])[0]
    return Refused(str(first.get("code", status)), str(first.get("message", first)))


class Nursery:
    """Where daemons are forked."""

    def __init__(self, process: subprocess.Popen[bytes], steps: Steps) -> None:
        self._process = process
        self.steps = steps

    def start(
        self, folder: Path, root: Path, config: Path, log: Path, environ: Mapping[str, str] = {}
    ) -> Node:
        """A daemon that has been begun; its steps are those that are counted."""
        ready = folder / "notify"
        self.steps.watch(0, root)
        order = {
            "argv": ["--config", str(config)],
            "environ": {**plain_environ(folder / "home"), "NOTIFY_SOCKET": str(ready),
                        "CONTAINERS_REGISTRIES_CONF": "/dev/null", **environ},
            "log": str(log),
            "control": self.steps.place,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        return Node(pid, os.pidfd_open(pid), root, folder / "s", log)


@contextmanager
def nursery(folder: Path, top: Path = TOP) -> Iterator[Nursery]:
    """A process that has read the program of this tree, and forks it."""
    steps = Steps(folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kills.programs.zygote"],
        cwd=top,
        env={**os.environ, **steps.environ, "PYTHONPATH": str(top)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield Nursery(process, steps)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.wait()
        process.stdout.close()


@contextmanager
def readiness(folder: Path) -> Iterator[socket.socket]:
    """Where a daemon of this folder says that it is ready."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ready:
        path = folder / "notify"
        path.unlink(missing_ok=True)
        ready.bind(str(path))
        yield ready


def wait_ready(node: Node, ready: socket.socket) -> bool:
    """Whether it became ready; False when it has ended instead."""
    until = time.monotonic() + LIMIT
    while (left := until - time.monotonic()) > 0:
        waiting, _, _ = select.select([ready, node.ended], [], [], left)
        if ready in waiting and b"READY=1" in ready.recv(4096):
            return True
        if node.ended in waiting and ready not in waiting:
            return False
    raise AssertionError("it neither became ready nor ended:\n" + "\n".join(node.said()[-20:]))
