"""Story: dockerd pulls from Docker Hub through the daemon, and doctor proves that it does.

What every runtime does is in test_matrix; here is what dockerd alone has.
"""

from __future__ import annotations

import json
from pathlib import Path

from registryd.runtimes import docker as docker_files
from tests.real.conftest import Start, Upstream
from tests.real.dockerd import Dockerd, dockerd, needs_root
from tests.real.images import Images
from tests.real.scripted import NAME, REPOSITORY, before, scripted
from tests.real.stories import Daemon, blobs_of, in_thread

pytestmark = needs_root

#: What doctor says when the image came.
CAME = "a test image came from it as /etc/docker/daemon.json says"


def test_a_short_name_is_docker_hubs(start: Start, images: Images, place: Path) -> None:
    """``docker pull app:1`` means library/app of Docker Hub, and so does the daemon's listener."""
    registry = scripted(images)
    registry.repositories["library/app"] = registry.repositories.pop(REPOSITORY)
    with in_thread(registry):
        node = start(before(registry.url))
        with dockerd(place / "own", f"http://{node.address}") as runtime:
            ran = runtime.pull("app:1")

            assert 0 == ran.code, ran.err
            assert {images.digest(NAME)} == runtime.digests()
    assert "docker.io/library/app:1" in node.ctl.ok("images", "--format", "json")


def test_an_index(everyones: Upstream, start: Start, place: Path) -> None:
    """Of an index the image that fits the machine is pulled, and no other's layers are fetched."""
    node = start(before(everyones.registry.url))
    with dockerd(place / "own", f"http://{node.address}") as runtime:
        ran = runtime.pull("docker.io/lib/multi:1")

        assert 0 == ran.code, ran.err
        assert {everyones.images.digest("multi")} == runtime.digests()
    wanted = everyones.images.blobs("gzip") | {everyones.images.digest("multi")}
    assert wanted == blobs_of(node.root)


def examined(node: Daemon, prefix: Path, runtime: Dockerd | None) -> dict[str, object]:
    """What doctor finds of dockerd, which was set up in this tree."""
    ctl = node.ctl.with_environ(DOCKER_HOST=f"unix://{runtime.socket}") if runtime else node.ctl
    prefix.mkdir(exist_ok=True)
    ctl.ok("setup", "docker", "--prefix", str(prefix))
    checks = json.loads(ctl("doctor", "--prefix", str(prefix), "--format", "json").out)["checks"]
    found: dict[str, object] = next(each for each in checks if each["name"] == "dockerd")
    return found


def test_doctor_sees_whether_the_file_was_read(start: Start, place: Path) -> None:
    """A dockerd that has not been told of its file is broken; after a reload the image comes."""
    node = start({})
    with dockerd(place / "own") as runtime:
        found = examined(node, place / "p", runtime)

        assert "broken" == found["state"]
        assert f"knows no mirror http://{node.address}" in str(found["why"])
        assert "systemctl reload docker" in str(found["fix"])

        content = json.loads((place / "p" / docker_files.PATH).read_text())
        runtime.reload(*content[docker_files.KEY])
        found = examined(node, place / "p", runtime)

        assert "ok" == found["state"], found
        assert CAME in str(found["proven"])
        assert set() == runtime.digests()
    assert 0 == node.metric("registryd_cache_blobs")


def test_doctor_sees_a_dockerd_that_cannot_reach_us(start: Start, place: Path) -> None:
    """Its loopback is another than ours, as that of a dockerd without root is."""
    node = start({})
    with dockerd(place / "own", f"http://{node.address}", namespaces=["--net"]) as runtime:
        found = examined(node, place / "p", runtime)

    assert "broken" == found["state"]
    assert "a pull through it failed" in str(found["why"])
    assert "loopback" in str(found["fix"])


def test_doctor_leaves_other_dockerds_alone(start: Start, place: Path) -> None:
    """With --prefix, and no DOCKER_HOST, nothing says which dockerd reads the file."""
    found = examined(start({}), place / "p", None)

    assert "ok" == found["state"]
    assert "DOCKER_HOST names none" in str(found["not_proven"])
