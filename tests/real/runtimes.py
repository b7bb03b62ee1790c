"""The programs that people and runtimes use: skopeo, podman, buildah, containerd; each by itself.

Invariants:
- a program that is missing fails the test, with the package that has it;
- every run has a home, a configuration and storage of its own: nothing of this machine is used;
- each ends its own processes and nothing else.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

#: Seconds in which any one command has ended, on a busy machine too.
RUN_LIMIT = 120.0
#: Seconds in which a server has said that it is ready.
START_LIMIT = 60.0
#: Nothing listens here (port 1 is tcpmux, which nobody has): connections are refused at once.
NOBODY = "127.0.0.1:1"
#: Where Debian has the programs that differ from their package's name.
PACKAGES = {
    "busybox": "busybox-static",
    "ctr": "containerd",
    "dockerd": "docker.io",
    "htpasswd": "apache2-utils",
    "mount": "mount",
    "scontrol": "slurm-client",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}


def need(program: str) -> str:
    """The path of a program that a test cannot do without."""
    found = shutil.which(program)
    if found is None:
        package = PACKAGES.get(program, program)
        pytest.fail(f"{program} is not installed (Debian: apt install {package})")
    return found


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """stdout as text."""
        return self.raw.decode()


def attempt(command: Sequence[str], environ: Mapping[str, str], typed: str = "") -> Ran:
    """Run a command, whatever comes of it."""
    done = subprocess.run(
        [need(command[0]), *command[1:]],
        capture_output=True,
        env=dict(environ),
        input=typed.encode(),
        timeout=RUN_LIMIT,
    )
    return Ran(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


def succeed(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Run a command that must succeed; its stdout."""
    ran = attempt(command, environ)
    assert ran.code == 0, f"{' '.join(command)}\n{ran.err}"
    return ran.out


def as_root() -> tuple[str, ...]:
    """What to put before a command that wants to be root: a user namespace for everyone else."""
    return () if os.geteuid() == 0 else ("unshare", "--map-root-user", "--mount")


def plain_environ(home: Path) -> dict[str, str]:
    """An environment in which nothing is configured; also containers' own one."""
    home.mkdir(parents=True, exist_ok=True)
    policy = home / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    # In a user namespace the machine's own place for signatures cannot be read.
    (policy.parent / "registries.d").mkdir(exist_ok=True)
    (policy.parent / "registries.d" / "default.yaml").write_text(
        f"default-docker:\n  sigstore: file://{home}/signatures\n"
    )
    # Locks in files of this home: those in shared memory belong to whoever came first.
    engine = policy.parent / "containers.conf"
    engine.write_text('[engine]\nlock_type = "file"\n')
    kept = ("PATH", "LD_LIBRARY_PATH")
    return {
        "CONTAINERS_CONF": str(engine),
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "TMPDIR": str(home),
        "NO_COLOR": "1",
    }


@dataclass(frozen=True)
class Skopeo:
    """skopeo, which takes plain HTTP from every registry."""

    home: Path

    def __call__(self, *words: str) -> str:
        """Run it; its stdout."""
        return succeed(self._command(words), plain_environ(self.home))

    def attempt(self, *words: str) -> Ran:
        """Run it, whatever comes of it."""
        return attempt(self._command(words), plain_environ(self.home))

    def copy(self, source: str, target: str, *flags: str) -> None:
        """Copy, digests preserved."""
        # Else it may put a gzip layer that it knows of in the place of a zstd one.
        exact = () if "--dest-compress-format=zstd" in flags else ("--preserve-digests",)
        insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
        self("copy", *insecure, *exact, *flags, source, target)

    def digest(self, image: str) -> str:
        """The digest of what a name means, an index's too."""
        return self("inspect", "--tls-verify=false", "--format", "{{.Digest}}", image).strip()

    @staticmethod
    def _command(words: Sequence[str]) -> list[str]:
        return ["skopeo", "--insecure-policy", *words]


@dataclass(frozen=True)
class Containers:
    """podman or buildah with storage of its own and mirrored registries.

    ``origins`` says where the registries themselves are; none resolves by its name.
    """

    program: str
    folder: Path
    mirrors: Mapping[str, str]
    origins: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *words: str) -> str:
        """Run it; its stdout."""
        ran = self.attempt(*words)
        assert ran.code == 0, f"{self.program} {' '.join(words)}\n{ran.err}"
        return ran.out

    def attempt(self, *words: str) -> Ran:
        """Run it, whatever comes of it."""
        environ = plain_environ(self.folder) | {
            "CONTAINERS_REGISTRIES_CONF": str(
                registries_conf(self.folder, self.mirrors, self.origins)
            ),
            "BUILDAH_ISOLATION": "chroot",
        }
        if as_root():
            environ["_CONTAINERS_USERNS_CONFIGURED"] = "done"
        return attempt([*as_root(), self.program, *self._storage(), *words], environ)

    def _storage(self) -> list[str]:
        words = ["--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run")]
        words += ["--storage-driver", "vfs"]
        if self.program == "podman":
            words += ["--tmpdir", str(self.folder / "tmp"), "--events-backend", "none"]
            words += ["--cgroup-manager", "cgroupfs"]
        return words


def registries_conf(
    folder: Path, mirrors: Mapping[str, str], origins: Mapping[str, str] | None = None
) -> Path:
    """A registries.conf: each registry with its mirror, and with its own place if that is named."""
    lines: list[str] = []
    for registry, mirror in mirrors.items():
        own = (origins or {}).get(registry, registry)
        lines += ["[[registry]]", f'prefix = "{registry}"', f'location = "{own}"']
        lines += ["insecure = true"] if own != registry else []
        lines += ["[[registry.mirror]]", f'location = "{mirror}"', "insecure = true"]
    path = folder / "registries.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass(frozen=True)
class Containerd:
    """A running containerd whose content store is empty, and its ctr."""

    folder: Path
    address: str

    def fetch(self, name: str, hosts: Path, *flags: str) -> Ran:
        """Fetch an image's content through the hosts that this folder names."""
        return self.ctr("content", "fetch", "--hosts-dir", str(hosts), *flags, name)

    def ctr(self, *words: str) -> Ran:
        """Run ctr, whatever comes of it."""
        return attempt(["ctr", "--address", self.address, *words], plain_environ(self.folder))

    def content(self) -> set[str]:
        """The digests that it holds."""
        return set(self.ctr("content", "ls", "--quiet").out.split())


@contextmanager
def containerd(folder: Path) -> Iterator[Containerd]:
    """A containerd of its own, without the parts that need more than a content store."""
    folder.mkdir(parents=True)
    address = folder / "c.sock"
    config = folder / "config.toml"
    lines = ["version = 2", f'root = "{folder}/root"', f'state = "{folder}/state"']
    disabled = ("cri", "aufs", "btrfs", "devmapper", "zfs", "overlayfs")
    names = ", ".join(
        f'"io.containerd.{"grpc.v1" if name == "cri" else "snapshotter.v1"}.{name}"'
        for name in disabled
    )
    lines += [f"disabled_plugins = [{names}]", "[grpc]", f'address = "{address}"']
    config.write_text("\n".join(lines) + "\n")
    command = [*as_root(), "containerd", "--config", str(config), "--log-level", "error"]
    with server(command, folder, plain_environ(folder)):
        yield Containerd(folder, str(address))


def hosts_file(folder: Path, registry: str, host: str, *, origin: str = "") -> Path:
    """A folder with containerd's hosts.toml: this host first, then the origin if there is one."""
    place = folder / registry
    place.mkdir(parents=True, exist_ok=True)
    lines = [f'server = "{origin or host}"', f'[host."{host}"]']
    lines += ['capabilities = ["pull", "resolve"]']
    (place / "hosts.toml").write_text("\n".join(lines) + "\n")
    return folder


@contextmanager
def server(
    command: Sequence[str], folder: Path, environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that says by sd_notify when it is ready; its words are in ``folder/log``.

    It is told to end when the block ends, unless it has ended by then.
    """
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ready:
        path = folder / "notify"
        path.unlink(missing_ok=True)
        ready.bind(str(path))
        with open(folder / "log", "ab") as log:
            process = subprocess.Popen(
                [need(command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environ, "NOTIFY_SOCKET": str(path)},
            )
        try:
            _wait_ready(process, ready, folder / "log", " ".join(command))
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(START_LIMIT)


def _wait_ready(
    process: subprocess.Popen[bytes], ready: socket.socket, log: Path, what: str
) -> None:
    ended = os.pidfd_open(process.pid)
    try:
        while True:
            waiting, _, _ = select.select([ready, ended], [], [], START_LIMIT)
            if ready not in waiting:
                said = log.read_text(errors="replace")[-2000:]
                pytest.fail(f"{what} did not become ready:\n{said}")
            if b"READY=1" in ready.recv(4096):
                return
    finally:
        os.close(ended)


def module(name: str, *words: str) -> list[str]:
    """A program of this project as a command."""
    return [sys.executable, "-m", name, *words]
