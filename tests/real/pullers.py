"""The runtimes as one thing: each pulls through a mirror, and past it to the registry itself.

Invariants:
- a runtime begins empty, and is set up with the daemon as a mirror, as its own documents say;
- the registry that it falls back to is ``Way.origin`` and no other, whatever the image is called.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from tests.real.dockerd import Dockerd, Hub, dockerd, needs_root
from tests.real.images import Images
from tests.real.runtimes import (
    NOBODY,
    Containerd,
    Containers,
    Ran,
    attempt,
    containerd,
    hosts_file,
    plain_environ,
    registries_conf,
)
from tests.real.scripted import IMAGE, NAME
from tests.real.stories import UP, in_thread

#: Seconds in which a pull of a small image has ended, well or badly, on a busy machine too.
SOON = 20.0


@dataclass(frozen=True)
class Way:
    """HOST:PORT of the daemon, and of the registry (plain HTTP) where the runtime finds it.

    ``login`` is the user and password that the runtime has for the registry.
    """

    mirror: str
    origin: str = NOBODY
    login: tuple[str, str] | None = None


class Puller(Protocol):
    """A runtime that was empty at first."""

    def pull(self, image: str) -> Ran:
        """Pull ``repository:tag`` of its registry, whatever comes of it."""

    def push(self, image: str, target: str) -> Ran:
        """Push what was pulled to ``HOST:PORT/repository:tag``."""

    def holds(self, images: Images) -> bool:
        """Whether it has the whole image, as far as it tells."""


@dataclass(frozen=True)
class ByContainers:
    """podman and buildah."""

    runtime: Containers
    authfile: Path
    registry: str = UP

    def pull(self, image: str) -> Ran:
        flags = ("--authfile", str(self.authfile))
        return self.runtime.attempt("pull", *flags, f"{self.registry}/{image}")

    def push(self, image: str, target: str) -> Ran:
        words = ("push", "--tls-verify=false", f"{self.registry}/{image}", f"docker://{target}")
        return self.runtime.attempt(*words)

    def holds(self, images: Images) -> bool:
        listed = self.runtime("images", "--digests", "--no-trunc", "--format", "{{.Digest}}")
        return images.digest(NAME) in listed.split()


@dataclass(frozen=True)
class BySkopeo:
    """skopeo, which copies into a folder; each file there is called by its digest."""

    folder: Path
    way: Way
    registry: str = UP

    def pull(self, image: str) -> Ran:
        flags = ("--src-authfile", str(_authfile(self.folder, self.way)))
        return self._copy(f"docker://{self.registry}/{image}", f"dir:{self._image}", *flags)

    def push(self, image: str, target: str) -> Ran:
        return self._copy(f"dir:{self._image}", f"docker://{target}", "--dest-tls-verify=false")

    def holds(self, images: Images) -> bool:
        found = [path for path in self._image.glob("*") if path.name != "version"]
        held = {f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in found}
        return images.blobs(NAME) <= held

    @property
    def _image(self) -> Path:
        return self.folder / "image"

    def _copy(self, source: str, target: str, *flags: str) -> Ran:
        mirrors, origins = {UP: f"{self.way.mirror}/{UP}"}, {UP: self.way.origin}
        conf = registries_conf(self.folder, mirrors, origins)
        words = ["skopeo", "--insecure-policy", "--registries-conf", str(conf), "copy", *flags]
        return attempt([*words, source, target], plain_environ(self.folder))


@dataclass(frozen=True)
class ByContainerd:
    """containerd, through ctr."""

    runtime: Containerd
    hosts: Path
    login: tuple[str, str] | None
    registry: str = UP

    def pull(self, image: str) -> Ran:
        flags = ("--user", ":".join(self.login)) if self.login else ()
        return self.runtime.fetch(f"{self.registry}/{image}", self.hosts, *flags)

    def push(self, image: str, target: str) -> Ran:
        return self.runtime.ctr(
            *("images", "push", "--plain-http", target, f"{self.registry}/{image}")
        )

    def holds(self, images: Images) -> bool:
        return images.blobs(NAME) <= self.runtime.content()


@dataclass(frozen=True)
class ByDockerd:
    """dockerd, which knows mirrors of Docker Hub alone."""

    runtime: Dockerd
    login: tuple[str, str] | None
    registry: str = "docker.io"

    def pull(self, image: str) -> Ran:
        return self.runtime.pull(f"{self.registry}/{image}", self.login)

    def push(self, image: str, target: str) -> Ran:
        return self.runtime.push(f"{self.registry}/{image}", target)

    def holds(self, images: Images) -> bool:
        return images.digest(NAME) in self.runtime.digests()


def _authfile(folder: Path, way: Way) -> Path:
    """What ``login`` leaves for containers' programs: of the registry alone, not of a mirror."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "auth.json"
    names = (UP, way.origin) if way.login else ()
    auth = base64.b64encode(":".join(way.login or ()).encode()).decode()
    path.write_text(json.dumps({"auths": {name: {"auth": auth} for name in names}}))
    return path


def _by_containers(program: str) -> Callable[[Path, Way], AbstractContextManager[Puller]]:
    @contextmanager
    def puller(folder: Path, way: Way) -> Iterator[Puller]:
        runtime = Containers(program, folder, {UP: f"{way.mirror}/{UP}"}, {UP: way.origin})
        yield ByContainers(runtime, _authfile(folder, way))

    return puller


@contextmanager
def _by_skopeo(folder: Path, way: Way) -> Iterator[Puller]:
    yield BySkopeo(folder, way)


@contextmanager
def _by_containerd(folder: Path, way: Way) -> Iterator[Puller]:
    with containerd(folder / "c") as runtime:
        origin = f"http://{way.origin}"
        hosts = hosts_file(folder / "hosts", UP, f"http://{way.mirror}", origin=origin)
        yield ByContainerd(runtime, hosts, way.login)


@contextmanager
def _by_dockerd(folder: Path, way: Way) -> Iterator[Puller]:
    folder.mkdir(parents=True)
    hub = Hub(folder, way.origin)
    # It tries a layer five times more, after 5 s, 10 s and so on; once more will do here.
    once = ("--max-download-attempts", "1")
    with (
        in_thread(hub),
        dockerd(folder, f"http://{way.mirror}", environ=hub.environ, flags=once) as runtime,
    ):
        yield ByDockerd(runtime, way.login)


PULLERS = {
    "podman": _by_containers("podman"),
    "buildah": _by_containers("buildah"),
    "skopeo": _by_skopeo,
    "containerd": _by_containerd,
    "dockerd": _by_dockerd,
}


class Pulled(NamedTuple):
    """How a pull ended, and whether the runtime has the whole image."""

    ran: Ran
    whole: bool


def pulled(program: str, images: Images, folder: Path, way: Way) -> Pulled:
    """Let an empty runtime pull the image; nothing may take long, whatever comes of it."""
    with PULLERS[program](folder, way) as runtime:
        begun = time.monotonic()
        ran = runtime.pull(IMAGE)
        took = time.monotonic() - begun
        assert took < SOON, f"{program} took {took:.1f} s: {ran.err}"
        return Pulled(ran, runtime.holds(images))


#: For a test of each, whose argument is called ``program``.
each_runtime = pytest.mark.parametrize(
    "program",
    [pytest.param(name, marks=needs_root if name == "dockerd" else ()) for name in PULLERS],
)
