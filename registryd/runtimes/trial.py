"""A real program pulls the sentinel, into a folder that is thrown away.

Invariants:
- home, storage, configuration and policy are the trial's own: nothing of the machine is changed
  (but by dockerd, which pulls the image into its own storage and has it taken away again);
- the image is named so that only the mirror of the configuration under trial can answer;
- every process that was started has ended.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from registryd.runtimes.docker_socket import DockerdSilent, DockerdSocket
from registryd.runtimes.podman import MADE_UP, NODE
from registryd.runtimes.sentinel import Sentinel

#: Seconds in which a few hundred bytes are pulled on a busy machine too.
LIMIT = 60.0
#: Longest text of an error that is passed on.
WORDS = 300
#: podman takes no run folder of more than 50 letters, and TMPDIR may be long.
ROOM = "/tmp"  # noqa: S108 (a folder of its own is made there, for this user alone)
#: podman's locks are in memory that the whole machine shares, unless it is told otherwise.
LOCKS = '[engine]\nlock_type = "file"\n'
KEPT = ("PATH", "LD_LIBRARY_PATH", "DOCKER_HOST")


@dataclass(frozen=True, slots=True)
class Trial:
    """How a program tries. The act gives "" or what failed; ``fix`` is what may help then.

    ``obstacle`` says why there can be no trial here, of files in this folder; "" when there can.
    """

    act: Callable[[Path, dict[str, str], str, Sentinel], str]
    obstacle: Callable[[Mapping[str, str], Path], str]
    fix: str = ""


def _always(environ: Mapping[str, str], prefix: Path) -> str:
    return ""


def _unless_root(environ: Mapping[str, str], prefix: Path) -> str:
    return "" if os.geteuid() == 0 else "run doctor as root"


def tried(program: str, environ: Mapping[str, str], configuration: str, image: Sentinel) -> str:
    """Let the program pull the image by this configuration; "" when it has, else why not."""
    with tempfile.TemporaryDirectory(prefix="rd", dir=ROOM, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        return TRIALS[program].act(folder, _environ(folder, environ), configuration, image)


def _environ(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which nothing is configured, and every image's origin is taken."""
    policy = folder / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    own = {name: str(folder) for name in ("HOME", "XDG_RUNTIME_DIR", "TMPDIR")}
    return {name: environ[name] for name in KEPT if name in environ} | own


def _run(command: Sequence[str], environ: Mapping[str, str]) -> tuple[str, str]:
    """Its stdout, and why it failed ("" when it did not)."""
    try:
        done = subprocess.run(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"{command[0]} did not end in {LIMIT:g} seconds"
    except OSError as error:
        return "", f"{command[0]} cannot be run: {error.strerror}"
    said = " ".join(done.stderr.decode(errors="replace").split())
    failed = said[-WORDS:] or f"exit code {done.returncode}"
    return done.stdout.decode(errors="replace"), failed if done.returncode else ""


def _skopeo(folder: Path, environ: dict[str, str], configuration: str, image: Sentinel) -> str:
    conf = _written(folder / "registries.conf", configuration)
    source, target = f"docker://{MADE_UP}/{image.name}", f"dir:{folder / 'image'}"
    failed = _run(["skopeo", "--registries-conf", conf, "copy", source, target], environ)[1]
    held = {path.name for path in (folder / "image").glob("*")}
    layer = image.digests[2].partition(":")[2]
    return failed or ("" if layer in held else "it did not write the layer")


def _in_storage(program: str) -> Trial:
    """podman or buildah, with storage of its own."""

    def act(folder: Path, environ: dict[str, str], configuration: str, image: Sentinel) -> str:
        conf = _written(folder / "registries.conf", configuration)
        engine = _written(folder / "containers.conf", LOCKS)
        own = environ | {"CONTAINERS_REGISTRIES_CONF": conf, "CONTAINERS_CONF": engine}
        words = [program, "--root", str(folder / "storage"), "--runroot", str(folder / "run")]
        words += ["--storage-driver", "vfs"]
        if program == "podman":
            words += ["--tmpdir", str(folder / "tmp"), "--events-backend", "none"]
            words += ["--cgroup-manager", "cgroupfs"]
        name = f"{MADE_UP}/{image.name}"
        failed = _run([*words, "pull", name], own)[1]
        if failed:
            return failed
        listed = _run([*words, "images", "--digests", "--no-trunc"], own)[0]
        return "" if str(image.digest) in listed else "it does not list the image"

    return Trial(act, _unless_root)


def _containerd(folder: Path, environ: dict[str, str], configuration: str, image: Sentinel) -> str:
    hosts = folder / "certs.d"
    (hosts / NODE).mkdir(parents=True)
    _written(hosts / NODE / "hosts.toml", configuration)
    with _own_containerd(folder, environ) as address:
        if address is None:
            said = (folder / "log").read_text(errors="replace").split()
            return f"a containerd of its own did not start: {' '.join(said)[-WORDS:]}"
        ctr = ["ctr", "--address", address, "content"]
        name = f"{NODE}/{image.name}"
        failed = _run([*ctr, "fetch", "--hosts-dir", str(hosts), name], environ)[1]
        held = _run([*ctr, "ls", "--quiet"], environ)[0].split()
        return failed or ("" if set(image.digests) <= set(held) else "it does not hold the image")


@contextmanager
def _own_containerd(folder: Path, environ: Mapping[str, str]) -> Iterator[str | None]:
    """The address of a containerd that has a content store and little else; None: it ended."""
    address = folder / "c.sock"
    names = [f"io.containerd.snapshotter.v1.{name}" for name in ("btrfs", "devmapper", "zfs")]
    names += ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"]
    listed = ", ".join(f'"{name}"' for name in names)
    lines = ["version = 2", f'root = "{folder}/root"', f'state = "{folder}/state"']
    lines += [f"disabled_plugins = [{listed}]", "[grpc]", f'address = "{address}"']
    config = _written(folder / "config.toml", "\n".join(lines) + "\n")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as news:
        news.bind(str(folder / "notify"))
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                ["containerd", "--config", config, "--log-level", "error"],  # noqa: S607
                env={**environ, "NOTIFY_SOCKET": str(folder / "notify")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield str(address) if _ready(process, news) else None
        finally:
            process.terminate()
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(process: subprocess.Popen[bytes], news: socket.socket) -> bool:
    """Wait until a server says that it is ready (sd_notify); False when it ends or is silent."""
    ended = os.pidfd_open(process.pid)
    try:
        while True:
            waiting, _, _ = select.select([news.fileno(), ended], [], [], LIMIT)
            if news.fileno() not in waiting:
                return False
            if b"READY=1" in news.recv(4096):
                return True
    finally:
        os.close(ended)


def _dockerd(folder: Path, environ: dict[str, str], configuration: str, image: Sentinel) -> str:
    try:
        dockerd = DockerdSocket.named(environ)
        if configuration not in dockerd.mirrors():
            return f"the dockerd that runs knows no mirror {configuration}"
        return dockerd.pull(image)
    except DockerdSilent as error:
        return str(error)


def _unless_dockerd(environ: Mapping[str, str], prefix: Path) -> str:
    """It reads the files below / alone, unless somebody says that another one reads these."""
    if prefix != Path("/") and not environ.get("DOCKER_HOST"):
        return "DOCKER_HOST names none that reads it"
    try:
        return DockerdSocket.named(environ).obstacle()
    except DockerdSilent as error:
        return str(error)


def _written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


TRIALS = {
    "containerd": Trial(_containerd, _unless_root),
    "podman": _in_storage("podman"),
    "buildah": _in_storage("buildah"),
    "skopeo": Trial(_skopeo, _always),
    "dockerd": Trial(
        _dockerd,
        _unless_dockerd,
        "systemctl reload docker (and a dockerd with a network of its own does not reach this one's"
        " loopback)",
    ),
}
