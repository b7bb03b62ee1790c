"""A munged of a test's own, and a client that speaks to a gateway as ``shifterimg`` does.

It is written from Shifter's contract: a fresh credential for each request, in the header
``authentication``, sealing the caller's logins; tags with their slashes in the path, which ends
with one; numbers with commas, and one comma too many; polling by asking again.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.real.runtimes import START_LIMIT, need

#: The states in which it asks again.
PENDING = {"INIT", "PENDING", "PULLING", "EXAMINATION", "CONVERSION", "TRANSFER", "HASHING"}
#: Seconds between two askings (the real one takes 0.5), and in which a pull has ended.
EVERY, LIMIT = 0.05, 60.0


@contextmanager
def munged(folder: Path) -> Iterator[Path]:
    """A munged with a key of its own; its socket. It is ended by its process id."""
    folder.mkdir(mode=0o755)
    key, socket = folder / "key", folder / "socket"
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    command = [
        need("munged"), "--foreground", "--force", "--num-threads=2",
        f"--socket={socket}", f"--key-file={key}", f"--pid-file={folder / 'pid'}",
        f"--log-file={folder / 'log'}", f"--seed-file={folder / 'seed'}",
    ]  # fmt: skip
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        ends = time.monotonic() + START_LIMIT
        while subprocess.run(
            ["munge", "--no-input", f"--socket={socket}"], capture_output=True
        ).returncode:
            assert process.poll() is None, (folder / "said").read_text()
            assert time.monotonic() < ends
            threading.Event().wait(EVERY)
        yield socket
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class ShifterImg:
    """A user of ``shifterimg``; ``logins`` are what they have in ``~/.udiRoot/.cred``."""

    uid: int
    address: str
    socket: Path
    system: str = "cluster"
    logins: Mapping[str, str] = field(default_factory=dict)

    def credential(self, *flags: str) -> str:
        """What munge seals for this user."""
        payload = json.dumps({"authorized_locations": dict(self.logins)})
        who = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        command = [*who, need("munge"), f"--socket={self.socket}", *flags]
        done = subprocess.run(command, input=payload.encode(), capture_output=True, check=True)
        return done.stdout.decode().strip()

    def ask(
        self, method: str, path: str, body: Any = None, credential: str | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of one request."""
        sealed = self.credential() if credential is None else credential
        connection = http.client.HTTPConnection(self.address, timeout=LIMIT)
        try:
            raw = None if body is None else json.dumps(body)
            headers = {"authentication": sealed} if sealed else {}
            connection.request(method, path, body=raw, headers=headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def get(self, verb: str, name: str = "") -> tuple[int, Any]:
        """One of the GET routes."""
        itype, _, tag = name.partition(":")
        rest = f"{itype}/{tag}/" if name else ""
        return self.ask("GET", f"/api/{verb}/{self.system}/{rest}")

    def post(self, verb: str, name: str, **body: str) -> dict[str, Any]:
        """Ask, and ask again until the record is in no state on its way; the record."""
        itype, _, tag = name.partition(":")
        ends = time.monotonic() + LIMIT
        while True:
            path = f"/api/{verb}/{self.system}/{itype}/{tag}/"
            status, record = self.ask("POST", path, body)
            assert status == 200, record
            if record["status"] not in PENDING:
                assert isinstance(record, dict)
                return record
            assert time.monotonic() < ends, record
            threading.Event().wait(EVERY)

    def pull(self, name: str, users: str = "", groups: str = "") -> dict[str, Any]:
        """``shifterimg pull``."""
        return self.post("pull", name, allowed_uids=users, allowed_gids=groups)
