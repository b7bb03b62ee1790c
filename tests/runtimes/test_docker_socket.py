"""What is made of a dockerd's answers on its socket, whatever they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registryd.oci.platform import Platform
from registryd.runtimes.docker_socket import DockerdSilent, DockerdSocket
from registryd.runtimes.sentinel import sentinel
from registryd.runtimes.trial import TRIALS, tried
from tests.fakes.daemon import Answer, FakeDaemon, fake_daemon

MIRROR = "http://127.0.0.1:5050"
IMAGE = sentinel("n", Platform("linux", "amd64"))
CREATE = ("POST", "/images/create")
#: Docker Hub has no such name; a mirror of ours has it as its own registry's.
SHOW = ("GET", f"/images/docker.io/localhost/{IMAGE.name}/json")
INFO = ("GET", "/info")


@pytest.fixture
def dockerd(tmp_path: Path) -> Iterator[FakeDaemon]:
    """One that has our mirror, and pulls the image."""
    with fake_daemon(tmp_path / "d.sock") as fake:
        fake.on(*INFO, Answer.of({"RegistryConfig": {"Mirrors": [f"{MIRROR}/"]}}))
        fake.on(*CREATE, Answer.events({"status": "Pulling"}, {"status": "Downloaded"}))
        fake.on(*SHOW, Answer.of({"RepoDigests": [f"localhost/x@{IMAGE.digest}"]}))
        yield fake


def trial(fake: FakeDaemon) -> str:
    """What came of it."""
    return tried("dockerd", {"DOCKER_HOST": f"unix://{fake.socket}"}, MIRROR, IMAGE)


def test_the_image_comes(dockerd: FakeDaemon) -> None:
    """It is pulled by the name that a mirror takes for the node's own registry, and removed."""
    assert "" == trial(dockerd)
    pull = next(each for each in dockerd.requests if each.path == CREATE[1])
    wanted = {"fromImage": "docker.io/localhost/registryd/doctor", "tag": "n"}
    assert wanted == pull.query


FAILURES = [
    (INFO, Answer.of({"RegistryConfig": {"Mirrors": ["http://other"]}}), f"no mirror {MIRROR}"),
    (INFO, Answer.of({"RegistryConfig": None}), f"no mirror {MIRROR}"),
    (INFO, Answer.of([]), "is no dockerd"),
    (INFO, Answer(b"<html>"), "is no dockerd"),
    (INFO, Answer.of({}, 500), "is no dockerd"),
    (CREATE, Answer.events({"status": "Pulling"}, {"error": "not found"}), "not found"),
    (CREATE, Answer.of({"message": "no disk"}, 500), "no disk"),
    (CREATE, Answer(b"oops", 500), "oops"),
    (CREATE, Answer.events({"status": "Pulling"}, cut=True), "no dockerd answers"),
    (SHOW, Answer.of({"message": "no such image"}, 404), "does not list"),
    (SHOW, Answer.of({"RepoDigests": []}), "does not list"),
]


@pytest.mark.parametrize(("asked", "answer", "said"), FAILURES)
def test_what_it_fails_of_is_said(
    dockerd: FakeDaemon, asked: tuple[str, str], answer: Answer, said: str
) -> None:
    """By its status, by the last line of its words, or by there being no image."""
    dockerd.on(*asked, answer)

    assert said in trial(dockerd)


def test_there_is_no_trial_without_one(tmp_path: Path) -> None:
    """No socket, one elsewhere, or another's files: it is said why nothing is tried."""
    obstacle = TRIALS["dockerd"].obstacle

    assert "no dockerd answers" in obstacle({"DOCKER_HOST": f"unix://{tmp_path}/none"}, tmp_path)
    assert "no unix socket" in obstacle({"DOCKER_HOST": "tcp://10.0.0.1:2375"}, tmp_path)
    assert "names none" in obstacle({}, tmp_path)
    with pytest.raises(DockerdSilent):
        DockerdSocket(str(tmp_path / "none")).mirrors()


def test_images_in_containerd_tell_nothing(dockerd: FakeDaemon) -> None:
    """Its mirrors are told the registry's name, so the test image would be asked for elsewhere."""
    status = [["driver-type", "io.containerd.snapshotter.v1"]]
    dockerd.on(*INFO, Answer.of({"DriverStatus": status}))

    obstacle = TRIALS["dockerd"].obstacle({"DOCKER_HOST": f"unix://{dockerd.socket}"}, Path("/"))

    assert "in containerd" in obstacle
