"""The image of registryd itself: made of the Debian package, pushed, pulled and started."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.clean_root import NoCleanRoot, base
from scripts.make_image import write_layer
from scripts.own_image import exact_tree
from tests.packages.clean_root import run
from tests.real.registry import RealRegistry
from tests.real.runtimes import need
from tests.real.stories import Ctl

#: crun does not take the mix of old and new control groups that some machines have.
CGROUPS = "[ ! -d /sys/fs/cgroup/unified ] || mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup\n"


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder with a short name that any user reaches: the daemon's socket is below it."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def ready(path: Path) -> int:
    """The status of /readyz, asked of a unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status


def test_the_image_is_pushed_pulled_and_serves(
    package: Path, upstream: RealRegistry, ground: Path
) -> None:
    """registryctl carries the image to a registry and from there into a bundle; what a runtime
    starts of it is the daemon, as an ordinary user, and it ends when it is told to."""
    try:
        base()
    except NoCleanRoot as reason:
        pytest.skip(str(reason))
    layout, name = ground / "layout", f"{upstream.name}/lib/registryd:1"
    made = [sys.executable, "-m", "scripts.own_image", package, layout, "--zstd"]
    version = run(made).strip()
    ctl = Ctl(ground / "home", {"REGISTRYD_ROOT": str(ground / "cache")})
    ctl.ok("push", f"oci:{layout}:{version}", name, "--plain-http")
    ctl.ok("pull", name, "--plain-http", "-o", f"bundle:{ground}/b")
    user = json.loads((ground / "b/config.json").read_text())["process"]["user"]
    words = [need("crun"), "--cgroup-manager=disabled", "--root", str(ground / "state")]
    words += ["run", "-b", str(ground / "b"), f"registryd-{os.getpid()}"]
    script = f'{CGROUPS}exec "$@"'

    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", script, "sh", *words],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as container:
        assert container.stderr is not None
        lines = []
        for line in container.stderr:
            lines.append(line)
            if " ready: " in line:
                break
        try:
            assert " ready: " in lines[-1], "".join(lines)
            served = ready(ground / "b/rootfs/run/registryd/registryd.sock")
        finally:
            container.terminate()
            container.stderr.read()
            container.wait(60)

    assert (200, 0) == (served, container.returncode)
    assert 0 < user["uid"]
    assert f"version={version} root=/var/lib/registryd " in lines[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners are root's to make")
def test_a_layer_is_what_the_folder_is(tmp_path: Path) -> None:
    """Owners, modes, links and what was taken away are kept; when it was written is not, so that
    the same folder is the same layer on another day."""
    digests = set()
    for day in (1, 2):
        folder = tmp_path / f"day{day}"
        (folder / "var/log").mkdir(parents=True)
        (folder / "var/log/dpkg.log").write_text(f"day {day}")
        (folder / "usr/bin").mkdir(parents=True)
        (folder / "usr/bin/program").write_text("#!/bin/sh\n")
        os.chown(folder / "usr/bin/program", 7, 8)
        (folder / "usr/bin/program").chmod(0o4750)
        (folder / "bin").symlink_to("usr/bin")
        os.mknod(folder / "opt", 0o020000, 0)
        os.mkfifo(folder / "pipe")
        os.utime(folder / "usr/bin/program", (2000 + day, 2000 + day))
        tree = exact_tree(folder, 1000)
        digests.add(write_layer(tmp_path / "layout", tree, "gzip").digest)
        program = tree.entries["/usr/bin/program"]

        assert {"/bin", "/usr", "/usr/bin", "/usr/bin/program", "/var", "/var/log", "/.wh.opt"} == (
            tree.entries.keys()
        )
        assert (0o4750, (7, 8), 1000) == (program.mode, program.owner, program.time)
    assert 1 == len(digests)
