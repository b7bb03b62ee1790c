"""Four nodes of a Slurm cluster on this machine, each with a registryd; all of them a test's own.

A node is a mount and a UTS namespace with its own /run (so its registryd's socket is where it
usually is), its own users and a /dev/fuse that everybody may open. Invariants:
- munge, its key, every port, spool and configuration are in one folder: other Slurm files of the
  machine are not read, and other daemons are not met;
- what is started is ended by its process id; a node's namespace ends with the pipe that it reads.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registryd.cli.socket_client import SocketBackend
from tests.fakes.members import HOST, Site
from tests.real.cluster import free_ports
from tests.real.runtimes import Ran, attempt, module, need, plain_environ, server, succeed
from tests.real.slurm_files import BECOME, CONF
from tests.real.stories import Ctl, Sections, toml

NODES = ("n1", "n2", "n3", "n4")
#: People of the cluster; no other machine knows them.
USERS = {"ann": 61011, "eve": 61012}
#: Seconds in which something of Slurm has happened, on a busy machine too.
LIMIT = 60.0
#: Where everything of a node's registryd is looked for.
SOCKET = "/run/registryd/registryd.sock"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
#: Where ``make -C slurm install`` puts the plugin, in the cluster's folder.
PLUGIN_FOLDER = "usr/local/lib/slurm"
ROOT = Path(__file__).resolve().parents[2]
#: What registryctl is run with, where everybody on a node finds it: this very interpreter, its
#: packages and this tree may lie where only their owner can look.
SEEN_AS = {
    "python": Path(sys.base_prefix),
    "packages": Path(sysconfig.get_path("purelib")),
    "code": ROOT,
}


@dataclass(frozen=True)
class SlurmNode:
    """One node: its namespaces by the process that holds them, its files here."""

    name: str
    folder: Path
    holder: int

    @property
    def inside(self) -> tuple[str, ...]:
        """What to put before a command that is to run on this node."""
        spaces = f"/proc/{self.holder}/ns"
        return ("nsenter", f"--mount={spaces}/mnt", f"--uts={spaces}/uts", "--")

    def ask(self, operation: str) -> Any:
        """What its registryd answers to root."""
        backend = SocketBackend(Path(f"/proc/{self.holder}/root{SOCKET}"))
        try:
            return backend.call(operation, {})
        finally:
            backend.close()

    @property
    def log(self) -> str:
        """What its registryd has said."""
        return (self.folder / "log").read_text()


@dataclass
class SlurmRig:
    """The running cluster. Commands run on the first node, which is where people log in."""

    folder: Path
    nodes: dict[str, SlurmNode] = field(default_factory=dict)

    @property
    def etc(self) -> Path:
        """Where Slurm's configuration is."""
        return self.folder / "etc" / "slurm"

    @property
    def program(self) -> Path:
        """registryctl, as everybody on every node can run it."""
        return self.folder / "bin" / "registryctl"

    def home(self, user: str) -> Path:
        """A user's home, the same on all nodes."""
        return self.folder / "home" / user

    def run(
        self, user: str, *words: str, on: str = "n1", environ: Mapping[str, str] | None = None
    ) -> Ran:
        """Run a command as this user (``root`` too), from their home."""
        command = [*self.nodes[on].inside, *self._as(user), *words]
        return attempt(command, self._environ(user) | dict(environ or {}))

    def ok(self, user: str, *words: str, on: str = "n1", **more: str) -> str:
        """Run one that must succeed; its stdout."""
        ran = self.run(user, *words, on=on, environ=more)
        assert ran.code == 0, f"{' '.join(words)}: {ran.code}\n{ran.out}\n{ran.err}\n{self.logs()}"
        return ran.out

    def ctl(self, user: str, *words: str, on: str = "n1") -> Ran:
        """registryctl as this user, on a node."""
        return self.run(user, str(self.program), *words, on=on)

    def _as(self, user: str) -> list[str]:
        start = ["sh", "-c", 'cd "$0" && exec "$@"', str(self.home(user))]
        if user == "root":
            return start
        uid = str(USERS[user])
        return [*start, "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]

    def _environ(self, user: str) -> dict[str, str]:
        runtime = {"XDG_RUNTIME_DIR": f"/run/user/{USERS.get(user, 0)}"}
        kept = {k: os.environ[k] for k in ("PATH", "LD_LIBRARY_PATH") if k in os.environ}
        conf = {"SLURM_CONF": "/etc/slurm/slurm.conf"}
        return {**kept, **conf, **runtime, "HOME": str(self.home(user)), "USER": user}

    def states(self) -> dict[str, str]:
        """The state of each node, in Slurm's words."""
        listed = self.ok("root", "sinfo", "-h", "-N", "-o", "%N %T").split()
        return dict(zip(listed[::2], listed[1::2], strict=True))

    @contextmanager
    def told_apart(self) -> Iterator[None]:
        """Nodes that MPI takes for different machines: it tells them by the id of their boot.

        Not always: the kernel lets nobody mount /proc in a namespace where a part is hidden.
        """
        with ExitStack() as stack:
            for name, node in self.nodes.items():
                own = node.folder / "boot_id"
                own.write_text(f"{uuid.uuid4()}\n")
                self.ok("root", "mount", "--bind", str(own), BOOT_ID, on=name)
                stack.callback(self.ok, "root", "umount", BOOT_ID, on=name)
            yield

    def logs(self) -> str:
        """The last that all programs have said, for a test that fails."""
        found = sorted((self.folder / "spool").glob("*.log")) + sorted(self.folder.glob("n*/log"))
        return "\n".join(f"--- {path}\n{path.read_text()[-1500:]}" for path in found)

    def until(self, claim: Callable[[], object]) -> None:
        """Look until a claim holds."""
        ends = time.monotonic() + LIMIT
        while time.monotonic() < ends:
            if claim():
                return
            threading.Event().wait(0.05)
        raise AssertionError(f"it did not happen:\n{self.logs()}")


@contextmanager
def slurm_rig(sections: Sections) -> Iterator[SlurmRig]:
    """The cluster, ready: registryd on all nodes with this configuration, nodes idle.

    Slurm is as ``registryctl setup slurm`` has set it up, with the plugin.
    """
    with tempfile.TemporaryDirectory(prefix="rds", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        folder.chmod(0o755)
        rig = SlurmRig(folder)
        _make_places(rig)
        with ExitStack() as stack:
            for name in NODES:
                rig.nodes[name] = stack.enter_context(_namespace(folder, name))
            _start_registryds(rig, sections, stack)
            stack.enter_context(_munge(folder / "munge"))
            _configure(rig)
            _start_slurm(rig, stack)
            yield rig
        for node in rig.nodes.values():
            assert "Traceback" not in node.log, node.log


def _make_places(rig: SlurmRig) -> None:
    for place in ("etc/slurm", "spool/ctld", "munge", "bin", "home/root", PLUGIN_FOLDER, *SEEN_AS):
        (rig.folder / place).mkdir(parents=True, exist_ok=True)
    (rig.folder / "munge").chmod(0o755)
    people = "".join(f"{n}:x:{u}:{u}::{rig.home(n)}:/bin/sh\n" for n, u in USERS.items())
    (rig.folder / "passwd").write_text(Path("/etc/passwd").read_text() + people)
    groups = "".join(f"{name}:x:{uid}:\n" for name, uid in USERS.items())
    (rig.folder / "group").write_text(Path("/etc/group").read_text() + groups)
    for name, uid in USERS.items():
        rig.home(name).mkdir(mode=0o700)
        os.chown(rig.home(name), uid, uid)
    python = f"{rig.folder}/python/bin/python3.{sys.version_info.minor}"
    library = f'LD_LIBRARY_PATH={rig.folder}/python/lib"${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"'
    modules = f"PYTHONPATH={rig.folder}/code:{rig.folder}/packages PYTHONDONTWRITEBYTECODE=1"
    rig.program.write_text(
        f'#!/bin/sh\n{modules} {library} exec {python} -m registryd.cli.main "$@"\n'
    )
    importer = rig.program.with_name("registryd-pyxis-importer")
    importer.write_text(rig.program.read_text().replace("cli.main", "cli.pyxis"))
    for program in (rig.program, importer):
        program.chmod(0o755)
    build = f"BUILD={rig.folder / PLUGIN_FOLDER}"
    succeed(["make", "-C", str(ROOT / "slurm"), build], plain_environ(rig.folder / "home/root"))


@contextmanager
def _namespace(folder: Path, name: str) -> Iterator[SlurmNode]:
    place = folder / name
    place.mkdir()
    uids = " ".join(map(str, USERS.values()))
    binds = " ".join(f"{name}={path}" for name, path in SEEN_AS.items())
    command = [need("unshare"), "--mount", "--uts", "--propagation", "private", "sh", "-c", BECOME]
    holder = subprocess.Popen(
        [*command, "sh", name, str(place), uids, str(folder), binds],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"ready\n", f"{name} could not be made"
        yield SlurmNode(name, place, holder.pid)
    finally:
        holder.stdin.close()
        holder.wait(LIMIT)
        holder.stdout.close()


def _start_registryds(rig: SlurmRig, sections: Sections, stack: ExitStack) -> None:
    """A registryd on each node; all of them one cluster."""
    site = Site.make(rig.folder / "site")
    ports = free_ports(len(NODES))
    peers = [f"{HOST}:{port}" for port in ports]
    starting = []
    for node, port in zip(rig.nodes.values(), ports, strict=True):
        files = site.node(node.name, days=365)
        own: dict[str, Any] = {
            "listen": f"{HOST}:{port}",
            "peers": peers,
            "ca_file": files.ca_file,
            "cert": files.cert,
            "key": files.key,
        }
        place = {"socket": SOCKET, "drain_timeout": "5s", "listen": []}
        config, root = node.folder / "config.toml", {"root": node.folder / "root"}
        config.write_text(toml({"daemon": place, "cache": root, **sections, "cluster": own}))
        command = [*node.inside, *module("registryd.daemon", "--config", str(config))]
        environ = {**plain_environ(node.folder / "home"), "CONTAINERS_REGISTRIES_CONF": "/dev/null"}
        starting.append(stack.push(_Begun(server(command, node.folder, environ))))
    with ThreadPoolExecutor(len(NODES)) as pool:
        list(pool.map(_Begun.begin, starting))


class _Begun:
    """A context that is entered by another thread than the one that leaves it."""

    def __init__(self, context: AbstractContextManager[object]) -> None:
        self._context = context
        self._entered = False

    def begin(self) -> None:
        """Enter it."""
        self._context.__enter__()
        self._entered = True

    def __exit__(self, *how: Any) -> None:
        if self._entered:
            self._context.__exit__(*how)


@contextmanager
def _ended_process(command: Sequence[str], log: Path, **environ: str) -> Iterator[None]:
    """A program that is told to end when the block ends."""
    kept = {k: os.environ[k] for k in ("PATH", "LD_LIBRARY_PATH") if k in os.environ}
    with open(log, "ab") as said:
        process = subprocess.Popen(
            [need(command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={**kept, **environ},
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _munge(folder: Path) -> Iterator[None]:
    key = folder / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    places = [f"--{n}-file={folder}/{n}" for n in ("key", "pid", "log", "seed")]
    command = ["munged", "--foreground", "--force", f"--socket={folder}/socket", *places]
    with _ended_process(command, folder / "said"):
        ends = time.monotonic() + LIMIT
        while not (folder / "socket").exists():
            assert time.monotonic() < ends, (folder / "said").read_text()
            threading.Event().wait(0.02)
        yield


def _configure(rig: SlurmRig) -> None:
    """slurm.conf, and all that setup makes."""
    ports = free_ports(1 + len(NODES))
    text = CONF.format(
        host=socket.gethostname(),
        ports=ports,
        nodes=",".join(map(str, ports[1:])),
        folder=rig.folder,
    )
    (rig.etc / "slurm.conf").write_text(text)
    (rig.etc / "burst_buffer.conf").write_text("")
    (rig.etc / "plugstack.conf").write_text("include /etc/slurm/plugstack.conf.d/*.conf\n")
    words = ("setup", "slurm", "--prefix", str(rig.folder), "--program", str(rig.program))
    Ctl(rig.home("root")).ok(*words)


def _start_slurm(rig: SlurmRig, stack: ExitStack) -> None:
    conf = "/etc/slurm/slurm.conf"
    first = rig.nodes["n1"]
    # Among the first node's files, where the users are known; by this machine's name, its own.
    files = f"--mount=/proc/{first.holder}/ns/mnt"
    command = ["nsenter", files, "--", need("slurmctld"), "-D", "-f", conf]
    stack.enter_context(_ended_process(command, rig.folder / "spool/ctld.said", SLURM_CONF=conf))
    for node in rig.nodes.values():
        command = [*node.inside, need("slurmd"), "-D", "-N", node.name, "-f", conf]
        said = rig.folder / "spool" / f"{node.name}.said"
        stack.enter_context(_ended_process(command, said, SLURM_CONF=conf))
    rig.until(lambda: _idle(rig))


def _idle(rig: SlurmRig) -> bool:
    ran = rig.run("root", "sinfo", "-h", "-N", "-o", "%T")
    return ran.code == 0 and ran.out.split() == ["idle"] * len(NODES)


def lacking() -> str:
    """Why such a cluster cannot be had here, or nothing."""
    if os.geteuid() != 0:
        return "only root can be four nodes and their users"
    missing = [each for each in ("munged", "slurmctld", "slurmd", "srun") if not shutil.which(each)]
    return f"not installed: {', '.join(missing)}" if missing else ""
