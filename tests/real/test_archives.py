"""Story: archives of skopeo, podman, docker and umoci into a node, and ours into theirs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.real.conftest import Start, Upstream
from tests.real.dockerd import dockerd, needs_root
from tests.real.images import Images, closure, root_digest
from tests.real.runtimes import Containers, Skopeo, as_root, attempt, plain_environ
from tests.real.stories import Daemon

NAME, OWN = "quay.io/team/app:1", "localhost/team/app:1"


def piped(node: Daemon, *words: str, source: Path | None = None, target: Path | None = None) -> str:
    """registryctl as shells run it, ``< source > target``; its stdout where it has no target."""
    environ = {**plain_environ(node.folder / "home"), **node.ctl.environ}
    with open(source or "/dev/null", "rb") as stdin, open(target or "/dev/null", "wb") as stdout:
        to = stdout if target else subprocess.PIPE
        done = subprocess.run(
            node.ctl.command(*words), stdin=stdin, stdout=to, stderr=subprocess.PIPE, env=environ
        )
    assert done.returncode == 0, done.stderr.decode()
    return (done.stdout or b"").decode()


def loaded(node: Daemon) -> dict[str, str]:
    """Name -> digest of what a node holds."""
    return {i["reference"]: i["digest"] for i in node.ctl.json("images")["images"]}


def test_skopeos_oci_archive_keeps_its_digest(
    start: Start, skopeo: Skopeo, images: Images, tmp_path: Path
) -> None:
    """``load < x`` and ``import`` give the digest that the image had, and so does the way back."""
    node = start({})
    for name in ("gzip", "zstd"):
        theirs, ours = tmp_path / f"{name}.tar", tmp_path / f"{name}-back.tar"
        skopeo.copy(images.source(name), f"oci-archive:{theirs}:{NAME}")
        said = piped(node, "load", "-q", source=theirs)
        node.ctl.ok("export", "-q", OWN, "-o", f"oci-archive:{ours}")
        skopeo.copy(f"oci-archive:{ours}", f"oci:{tmp_path}/back:{name}")

        assert f"Loaded image: {OWN}\n" == said
        assert {OWN: images.digest(name)} == loaded(node)
        assert images.digest(name) == root_digest(tmp_path / "back", name)


def test_docker_archives_of_skopeo_and_podman(
    start: Start, skopeo: Skopeo, images: Images, place: Path, tmp_path: Path
) -> None:
    """Classic archives of both give one manifest: config and layers as every tool has them."""
    node = start({})
    podman = Containers("podman", place / "p", {})
    (place / "p").mkdir()
    first, second, several = (tmp_path / f"{n}.tar" for n in ("skopeo", "podman", "several"))
    skopeo("copy", images.source("gzip"), f"docker-archive:{first}:{NAME}")
    podman("load", "-q", "-i", str(first))
    podman("tag", NAME, "docker.io/library/other:2")
    podman("save", "-q", "-o", str(second), NAME)
    podman("save", "-q", "-m", "-o", str(several), NAME, "docker.io/library/other:2")
    found = []
    for archive in (first, second, several):
        node.ctl.ok("import", "-q", str(archive))
        found.append(loaded(node))
    config = json.loads(node.ctl.ok("inspect", "--raw", OWN))["config"]["digest"]

    assert [OWN] == list(found[0])
    assert found[0] == found[1]
    assert {OWN: found[0][OWN], "localhost/other:2": found[0][OWN]} == found[2]
    assert podman("image", "inspect", "--format", "{{.Id}}", NAME).strip() == config[7:]


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_what_we_save_is_loaded_by_others(
    start: Start, skopeo: Skopeo, images: Images, place: Path, tmp_path: Path, name: str
) -> None:
    """``save > x``: skopeo and podman find the name and the image, podman even its digest."""
    node = start({})
    archive = tmp_path / "saved.tar"
    node.ctl.ok("import", "-q", str(images.layouts[name]), OWN)
    streamed = () if name == "gzip" else ("-o", "/dev/stdout")  # a file, and not to be replaced
    piped(node, "save", "-q", OWN, *streamed, target=archive)
    podman = Containers("podman", place / "p", {})
    (place / "p").mkdir()
    said = podman("load", "-q", "-i", str(archive))
    shown = json.loads(skopeo("inspect", "--config", f"docker-archive:{archive}:{OWN}"))
    skopeo("copy", f"docker-archive:{archive}:{OWN}", f"dir:{tmp_path}/dir")

    assert f"Loaded image: {OWN}" == said.strip()
    assert images.digest(name) == podman("image", "inspect", "--format", "{{.Digest}}", OWN).strip()
    assert ["/bin/sh"] == shown["config"]["Cmd"]


def test_umoci_reads_an_oci_archive_of_ours(start: Start, images: Images, tmp_path: Path) -> None:
    """Unpacked by tar, an oci-archive is a layout from which umoci unpacks the root."""
    node = start({})
    node.ctl.ok("import", "-q", str(images.layouts["gzip"]), OWN)
    node.ctl.ok("export", "-q", OWN, "-o", f"oci-archive:{tmp_path}/x.tar:v1")
    (tmp_path / "layout").mkdir()
    subprocess.run(["tar", "xf", f"{tmp_path}/x.tar", "-C", f"{tmp_path}/layout"], check=True)
    words = ["umoci", "unpack", "--image", f"{tmp_path}/layout:v1", f"{tmp_path}/bundle"]
    ran = attempt([*as_root(), *words], plain_environ(tmp_path))

    assert 0 == ran.code, ran.err
    assert b"hello\n" == (tmp_path / "bundle/rootfs/etc/motd").read_bytes()


@needs_root
def test_docker_loads_ours_and_we_load_dockers(
    start: Start, images: Images, place: Path, tmp_path: Path
) -> None:
    """``docker load`` of what we save, and back what ``docker save`` makes of it."""
    node = start({})
    node.ctl.ok("import", "-q", str(images.layouts["gzip"]), OWN)
    config = json.loads(node.ctl.ok("inspect", "--raw", OWN))["config"]["digest"]
    node.ctl.ok("save", "-q", OWN, "-o", f"{tmp_path}/ours.tar")
    with dockerd(place / "own") as docker:
        said = docker.load(tmp_path / "ours.tar")
        held = json.loads(docker.ask("GET", "/images/json")[1])
        status, theirs = docker.ask("GET", "/images/get?" + urlencode({"names": OWN}))
    (tmp_path / "theirs.tar").write_bytes(theirs)
    node.ctl.ok("import", "-q", f"{tmp_path}/theirs.tar")
    back = json.loads(node.ctl.ok("inspect", "--raw", OWN))

    assert (200, True) == (status, f"Loaded image: {OWN}" in said), said
    assert [(config, [OWN])] == [(image["Id"], image["RepoTags"]) for image in held]
    assert config == back["config"]["digest"]
    assert {"application/vnd.docker.image.rootfs.diff.tar"} == {
        layer["mediaType"] for layer in back["layers"]
    }


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_through_an_archive_from_registry_to_registry(
    everyones: Upstream, start: Start, skopeo: Skopeo, tmp_path: Path, form: str
) -> None:
    """pull -o on one side, push on the other: an index arrives with every digest it had."""
    node = start(everyones.sections)
    archive, target = f"{form}:{tmp_path}/x.tar", f"{everyones.registry.name}/carried/{form}:1"
    node.ctl.ok("pull", "-q", "--all-platforms", everyones.name("multi"), "-o", archive)
    pushed = node.ctl.ok("push", "-q", "--plain-http", archive, target)
    skopeo.copy(f"docker://{target}", f"oci:{tmp_path}/x:x", "--all")

    digest = everyones.images.digest("multi")
    assert f"{target}@{digest}\n" == pushed
    assert closure(tmp_path / "x", digest) == everyones.images.blobs("multi")
