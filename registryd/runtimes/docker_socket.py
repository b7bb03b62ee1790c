"""A dockerd that runs, on its unix socket: the mirrors that it knows, and one pull by them.

Invariants:
- it is asked what it has read of its files, as it reads them when it starts or is told to;
- the image is called ``docker.io/localhost/...``: Docker Hub has none of that name, and to a mirror
  the path means the node's own registry;
- an image that came is taken away again: dockerd has no storage but its own.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from cache.errors import Fault
from registryd.runtimes.sentinel import Sentinel
from registryd.runtimes.toml import table, texts
from registryd.unix_http import UnixConnection

USUAL = "unix:///var/run/docker.sock"
SCHEME = "unix://"
#: Seconds in which dockerd answers: it tries a pull that fails five times, and waits in between.
LIMIT = 120.0
#: What dockerd says of itself, or of a pull of a tiny image, is shorter.
BODY_LIMIT = 1 << 20
#: Where the images of this dockerd are in containerd, which names the registry to its mirrors.
IN_CONTAINERD = "io.containerd.snapshotter.v1"


class DockerdSilent(Fault):
    """Raised when no dockerd answers on a socket, or in no way that is known."""


@dataclass(frozen=True, slots=True)
class DockerdSocket:
    """A dockerd, by the path of its socket."""

    path: str

    @classmethod
    def named(cls, environ: Mapping[str, str]) -> DockerdSocket:
        """That of DOCKER_HOST, else the usual one. Raises DockerdSilent for one elsewhere."""
        host = environ.get("DOCKER_HOST") or USUAL
        if not host.startswith(SCHEME):
            raise DockerdSilent(f"DOCKER_HOST={host} is no unix socket of this machine")
        return cls(host.removeprefix(SCHEME))

    def obstacle(self) -> str:
        """Why a pull would tell nothing; "" when it would. Raises DockerdSilent."""
        named = [str(value) for pair in self._info().get("DriverStatus") or () for value in pair]
        return "its images are in containerd" if IN_CONTAINERD in named else ""

    def mirrors(self) -> list[str]:
        """The mirrors of Docker Hub that are in force. Raises DockerdSilent."""
        listed = texts(table(self._info(), "RegistryConfig").get("Mirrors"))
        return [mirror.rstrip("/") for mirror in listed]

    def pull(self, image: Sentinel) -> str:
        """Pull the image by a mirror; "" when it came, else what was said. Raises DockerdSilent."""
        name, _, tag = image.name.rpartition(":")
        name = f"docker.io/localhost/{name}"
        try:
            status, said = self._ask(
                "POST", "/images/create?" + urlencode({"fromImage": name, "tag": tag})
            )
            failed = _failure(status, said)
            status, held = self._ask("GET", f"/images/{name}:{tag}/json")
            came = status == 200 and str(image.digest).encode() in held
            return failed or ("" if came else "it does not list the image")
        finally:
            self._ask("DELETE", f"/images/{name}:{tag}")

    def _info(self) -> dict[str, Any]:
        status, said = self._ask("GET", "/info")
        try:
            value = json.loads(said)
        except (ValueError, RecursionError):
            value = None
        if status != 200 or not isinstance(value, dict):
            raise DockerdSilent(f"what answers on {self.path} is no dockerd (status {status})")
        return value

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        try:
            with closing(UnixConnection(self.path, host="dockerd", timeout=LIMIT)) as connection:
                connection.request(method, path)
                answer = connection.getresponse()
                return answer.status, answer.read(BODY_LIMIT)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DockerdSilent(f"no dockerd answers on {self.path}: {reason}") from error


def _failure(status: int, said: bytes) -> str:
    """What a pull has failed of: the status says it, or the last of its lines of JSON."""
    last = said.decode(errors="replace").strip().rpartition("\n")[2]
    try:
        event = table(json.loads(last or "{}"))
    except (ValueError, RecursionError):
        event = {"error": last}
    failed = event.get("error") or (event.get("message") if status != 200 else "")
    return str(failed or ("" if status == 200 else f"status {status}"))
