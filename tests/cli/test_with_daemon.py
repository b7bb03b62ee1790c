"""The whole way: registryctl, a real daemon behind its socket, a real registry behind that."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Ctl
from tests.cli.test_copy import ARM, DIGEST, blobs, write_layout
from tests.real.registry import RealRegistry, basic_registry

#: A listening socket is handed over as systemd does it: who connects early waits, nobody polls.
DAEMON = """
import os, sys
os.dup2(int(sys.argv.pop(1)), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
from registryd.daemon import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that knows ann."""
    with basic_registry(tmp_path_factory.mktemp("registry"), {"ann": "s3cret"}) as running:
        yield running


@pytest.fixture
def node(ctl: Ctl, tmp_path: Path) -> Iterator[Ctl]:
    """The program, pointed to a daemon of its own."""
    root, path = tmp_path / "root", tmp_path / "d.sock"
    config = tmp_path / "config.toml"
    config.write_text(f'[daemon]\nlog_level = "error"\n[cache]\nroot = "{root}"\n')
    ctl.environ.update({"REGISTRYD_SOCKET": str(path)})
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        number = listening.fileno()
        words = [sys.executable, "-c", DAEMON, str(number), "--config", str(config)]
        environ = {**os.environ, "HOME": str(ctl.home)}
        process = subprocess.Popen(words, pass_fds=(number,), env=environ)
        try:
            yield ctl
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_the_whole_way(node: Ctl, tmp_path: Path, registry: RealRegistry) -> None:
    """Push, pull with the caller's own login, look, write out, name, remove."""
    name = f"{registry.name}/team/app:1"
    layout = write_layout(tmp_path / "layout", "v1")
    creds = ("--creds", "ann:s3cret", "-q")
    assert node("push", f"oci:{layout}:v1", name, *creds).code == 0

    assert node("pull", name, "-q").code == 3
    pulled = node("pull", name, *creds, "--platform", "linux/arm64", "-o", f"dir:{tmp_path / 'd'}")
    assert (pulled.code, pulled.out) == (0, f"{name}@{DIGEST}\n")
    assert (tmp_path / "d" / "manifest.json").exists()

    assert node("images", "-q").out == f"{DIGEST}\n"
    assert json.loads(node("status", "--format", "json").out)["images"] == 1
    assert node("tags", name.removesuffix(":1"), *creds).out == "1\n"
    described = node("inspect", name, *creds, "--platform", "linux/arm64")
    assert json.loads(described.out)["Architecture"] == "arm64"
    exact = node("manifest", name, *creds, "--platform", "linux/arm64").raw
    assert exact == (layout / "blobs/sha256" / ARM.partition(":")[2]).read_bytes()

    saved = ("save", name, "-o", str(tmp_path / "x"), "-q", "-j2")
    assert node(*saved, "--creds", "ann:s3cret").code == 0  # it is moved here
    assert node(*saved, "--plain-http").code == 64
    assert node("tag", name, "mine:1").code == 0
    missing = (
        "registryctl: docker.io/library/mine:1 is not in the cache; localhost/mine:1 is: write"
    )
    assert node("rmi", "mine:1").err == f"{missing} rmi localhost/mine:1\n"
    assert node("push", "localhost/mine:1", f"{registry.name}/team/b:1", *creds).code == 0
    assert node("rmi", name, "localhost/mine:1", "-q").code == 0
    assert blobs(tmp_path / "root") == set()


def test_a_daemon_of_many_images(node: Ctl, tmp_path: Path, registry: RealRegistry) -> None:
    """A copy into the cache brings all platforms; a second pull fetches nothing."""
    name = f"{registry.name}/team/many:1"
    layout = write_layout(tmp_path / "layout", "v1")
    creds = ("--creds", "ann:s3cret", "-q")
    node("push", f"oci:{layout}:v1", name, *creds)

    assert node("copy", name, "cache:localhost/mine:1", *creds).code == 0
    again = node("pull", name, *creds, "--all-platforms", "--format", "json")

    done = json.loads(again.out)
    assert (done["fetched_blobs"], done["held_blobs"], done["digest"]) == (0, 5, DIGEST)


def test_a_private_image_is_copied_out_with_the_callers_login(
    node: Ctl, tmp_path: Path, registry: RealRegistry
) -> None:
    """What the daemon does not hold and may not fetch by itself needs --src-creds."""
    name = f"{registry.name}/team/private:1"
    layout = write_layout(tmp_path / "layout", "v1")
    node("push", f"oci:{layout}:v1", name, "--creds", "ann:s3cret", "-q")
    words = ("copy", f"cache:{name}", f"oci:{tmp_path / 'out'}:x", "-q")

    assert node(*words).code == 3
    assert node(*words, "--src-creds", "ann:s3cret").code == 0
    assert blobs(tmp_path / "out") == blobs(layout)
