"""``doctor`` where no program need be run: what it looks at, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registryd.oci.manifest import Manifest, parse
from registryd.oci.platform import Platform
from registryd.runtimes.sentinel import sentinel
from tests.cli.conftest import Ctl

CLOSED = "127.0.0.1:1"


@pytest.fixture
def machine(ctl: Ctl, tmp_path: Path) -> Path:
    """A tree with nothing in it, and programs that say nothing."""
    folder = tmp_path / "machine"
    (folder / "bin").mkdir(parents=True)
    for name in ("dockerd", "skopeo", "apptainer"):
        (folder / "bin" / name).write_text("#!/bin/sh\n")
        (folder / "bin" / name).chmod(0o755)
    ctl.environ["PATH"] = str(folder / "bin")
    return folder


def checks(ctl: Ctl, machine: Path) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and each finding by its program."""
    ran = ctl("doctor", "--prefix", str(machine), "--format", "json")
    return ran.code, {each["name"]: each for each in json.loads(ran.out)["checks"]}


def test_nothing_is_set_up(ctl: Ctl, machine: Path) -> None:
    """Programs on PATH alone are looked at; not being set up is no fault, and says what to type."""
    code, found = checks(ctl, machine)

    assert 0 == code
    assert {"registryd", "dockerd", "skopeo", "apptainer"} == set(found)
    assert {"not set up"} == {each["state"] for each in found.values()}
    assert "registryctl setup docker" == found["dockerd"]["fix"]


def test_without_a_daemon_what_is_set_up_is_broken(ctl: Ctl, machine: Path) -> None:
    """Nothing answers there: exit code 1, why, and how to start it."""
    ctl("setup", "docker", "--prefix", str(machine), "--address", CLOSED)

    code, found = checks(ctl, machine)

    assert (1, "broken", "not set up") == (
        code,
        found["dockerd"]["state"],
        found["skopeo"]["state"],
    )
    assert f"nothing answers on {CLOSED}" in found["dockerd"]["why"]
    assert "systemctl start registryd" in found["dockerd"]["fix"]


def test_one_line_a_check(ctl: Ctl, machine: Path) -> None:
    """The table form; the last words name what is broken."""
    ctl("setup", "docker", "--prefix", str(machine), "--address", CLOSED)

    ran = ctl("doctor", "--prefix", str(machine))

    names = [line.partition(":")[0] for line in ran.out.splitlines()]
    assert ["registryd", "skopeo", "dockerd", "apptainer"] == names
    assert ["registryctl: broken: dockerd"] == ran.words


def test_a_setting_that_undoes_ours_is_named(ctl: Ctl, machine: Path) -> None:
    """Another's table for the same registry, put there after setup, is a fault with its cure."""
    ctl("setup", "podman", "--prefix", str(machine), "--address", CLOSED)
    later = machine / "etc/containers/registries.conf.d/99-mine.conf"
    later.write_text('[[registry]]\nlocation = "ghcr.io"\n')

    code, found = checks(ctl, machine)

    assert (1, "broken") == (code, found["skopeo"]["state"])
    assert "99-mine.conf has a table of its own for ghcr.io" in found["skopeo"]["fix"]


def test_files_that_cannot_be_read_are_a_finding(ctl: Ctl, machine: Path) -> None:
    """One runtime's broken file does not keep the others from being looked at."""
    path = machine / "etc/containers/registries.conf"
    path.parent.mkdir(parents=True)
    path.write_text("{ not")

    code, found = checks(ctl, machine)

    assert (1, "broken") == (code, found["skopeo"]["state"])
    assert "not set up" == found["dockerd"]["state"]


def test_the_sentinel_is_an_image_of_its_own() -> None:
    """It is a valid manifest, and no blob of it is ever the same but for what has no nonce."""
    first, second = (sentinel(nonce, Platform("linux", "amd64")) for nonce in ("a", "b"))

    assert isinstance(parse(first.manifest), Manifest)
    assert set() == set(first.digests) & set(second.digests)
    assert len(first.manifest) + len(first.config) + len(first.layer) < 2000
