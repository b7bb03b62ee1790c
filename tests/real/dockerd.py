"""A dockerd of a test's own, what is said on its socket, and a Docker Hub on loopback for it.

Invariants:
- it sees neither the machine's /run nor its /etc/docker, and changes no setting of the network;
- what it asks of anybody but loopback goes to the Hub of the test, which knows one host alone, or
  to nobody: the true Docker Hub is never asked.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

import pytest
from typing_extensions import override

from tests.fakes.certificates import make_identity
from tests.fakes.http import FakeServer
from tests.real.runtimes import NOBODY, RUN_LIMIT, Ran, containerd, plain_environ, server


def _may_run() -> bool:
    """Whether we are root, and not such a root as may not mount."""
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


#: dockerd wants mounts and cgroups of its own, which no user namespace gives.
needs_root = pytest.mark.skipif(not _may_run(), reason="only root, who may mount, can run dockerd")

#: Where dockerd finds Docker Hub, whatever its mirrors are.
HUB = "registry-1.docker.io"
#: $1 is its folder; what is mounted goes with the namespace.
_START = """set -eu
mkdir -p /etc/docker
mount -t tmpfs none /etc/docker
mount -t tmpfs none /run
folder=$1
shift
exec dockerd --host "unix://$folder/d.sock" --config-file "$folder/daemon.json" \
    --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
    --storage-driver vfs --bridge none --iptables=false --ip6tables=false --ip-forward=false "$@"
"""


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=RUN_LIMIT)
        self._path = path

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(RUN_LIMIT)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Dockerd:
    """A running dockerd without images."""

    folder: Path

    @property
    def socket(self) -> Path:
        """Where it answers."""
        return self.folder / "d.sock"

    def reload(self, *mirrors: str) -> None:
        """Give it these mirrors while it runs."""
        write_mirrors(self.folder, mirrors)
        os.kill(int((self.folder / "pid").read_text()), signal.SIGHUP)
        while json.loads(self.ask("GET", "/info")[1])["RegistryConfig"]["Mirrors"] != [
            f"{mirror}/" for mirror in mirrors
        ]:
            threading.Event().wait(0.01)

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body of one request."""
        connection = _Connection(self.socket)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def pull(self, name: str, login: tuple[str, str] | None = None) -> Ran:
        """Pull ``registry/repository:tag``, with this user and password."""
        image, _, tag = name.rpartition(":")
        path = "/images/create?" + urlencode({"fromImage": image, "tag": tag})
        return self._events(path, X_Registry_Auth=_auth(login))

    def push(self, name: str, target: str) -> Ran:
        """Push an image that it has to another name."""
        image, _, tag = target.rpartition(":")
        status, said = self.ask(
            "POST", f"/images/{name}/tag?" + urlencode({"repo": image, "tag": tag})
        )
        assert 201 == status, said
        return self._events(f"/images/{image}/push?tag={tag}", X_Registry_Auth=_auth(None))

    def load(self, archive: Path) -> str:
        """What it says of ``docker load`` of this archive."""
        connection = _Connection(self.socket)
        try:
            with open(archive, "rb") as body:
                connection.request("POST", "/images/load", body, {"Content-Type": "x/tar"})
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def digests(self) -> set[str]:
        """The digests of the images that it has, as they were pulled and pushed."""
        listed = json.loads(self.ask("GET", "/images/json")[1])
        return {name.partition("@")[2] for image in listed for name in image["RepoDigests"] or ()}

    def _events(self, path: str, **headers: str) -> Ran:
        """What it says of long work; it tells of a failure in its last line, or by its status."""
        status, said = self.ask("POST", path, **headers)
        events = [json.loads(line) for line in said.splitlines()]
        errors = [event.get("error") or event.get("message", "") for event in events]
        failed = "".join(errors) if status >= 400 else "".join(e for e in errors if e)
        return Ran(int(bool(failed)), said, failed)


def _auth(login: tuple[str, str] | None) -> str:
    user, password = login or ("", "")
    entry = {"username": user, "password": password}
    return base64.urlsafe_b64encode(json.dumps(entry if login else {}).encode()).decode()


def write_mirrors(place: Path, mirrors: Sequence[str]) -> None:
    """Its daemon.json."""
    (place / "daemon.json").write_text(json.dumps({"registry-mirrors": mirrors}))


@contextmanager
def dockerd(
    folder: Path,
    *mirrors: str,
    environ: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    namespaces: Sequence[str] = (),
) -> Iterator[Dockerd]:
    """A dockerd with these mirrors of Docker Hub, and a containerd of its own."""
    place = folder / "d"
    place.mkdir(parents=True)
    write_mirrors(place, mirrors)
    with containerd(folder / "c") as below:
        # A containerd that dockerd starts takes a second to end.
        command = ["unshare", "--mount", *namespaces, "sh", "-c", _START, "dockerd", str(place)]
        command += ["--containerd", below.address, *flags]
        nowhere = {"HTTPS_PROXY": f"http://{NOBODY}"}
        with server(command, place, {**plain_environ(place), **(environ or nowhere)}):
            yield Dockerd(place)


class Hub(FakeServer):
    """A plain registry as Docker Hub: by TLS, under its name, for who takes this as their proxy."""

    def __init__(self, folder: Path, origin: str) -> None:
        super().__init__()
        self._identity = make_identity(folder, "hub", HUB)
        self._origin = origin
        self._tls_port = 0

    @property
    def environ(self) -> dict[str, str]:
        """Sends a program there and makes it trust what it finds; loopback takes no proxy in Go."""
        return {"HTTPS_PROXY": self.url, "SSL_CERT_FILE": str(self._identity.cert_file)}

    @override
    @asynccontextmanager
    async def serve(self, **site: object) -> AsyncIterator[Self]:
        context = self._identity.server_context()
        async with (
            await asyncio.start_server(self._pass_on, "127.0.0.1", 0, ssl=context) as tls,
            await asyncio.start_server(self._connect, "127.0.0.1", 0) as door,
        ):
            self._tls_port = tls.sockets[0].getsockname()[1]
            self.port = door.sockets[0].getsockname()[1]
            yield self

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """CONNECT (RFC 9110 section 9.3.6), to Docker Hub alone."""
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(f"CONNECT {HUB}:443 ".encode()):
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await _both_ways(reader, writer, f"127.0.0.1:{self._tls_port}")

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _both_ways(reader, writer, self._origin)


async def _both_ways(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str
) -> None:
    """Pass bytes on until either side ends."""
    host, _, port = target.rpartition(":")
    far_reader, far_writer = await asyncio.open_connection(host, int(port))
    async with asyncio.TaskGroup() as group:
        group.create_task(_copy(reader, far_writer))
        group.create_task(_copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(2**16):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()
