"""Story: registryctl sets runtimes up, they pull through the daemon by its files, doctor agrees."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from registryd.runtimes import containerd as containerd_files
from registryd.runtimes import podman as podman_files
from tests.real.conftest import Start, Upstream
from tests.real.runtimes import Containers, attempt, containerd, plain_environ
from tests.real.stories import UP, Daemon, blob_reads

PROGRAMS = {"containerd", "podman", "buildah", "skopeo"}
ROOT = os.geteuid() == 0


def set_up(node: Daemon, prefix: Path, runtime: str, *words: str) -> None:
    """Run registryctl setup; the address comes from the daemon itself."""
    prefix.mkdir(exist_ok=True)
    node.ctl.ok("setup", runtime, "--prefix", str(prefix), *words)


def states(node: Daemon, prefix: Path) -> dict[str, dict[str, object]]:
    """What doctor finds, whatever it ends with."""
    ran = node.ctl("doctor", "--prefix", str(prefix), "--format", "json")
    return {each["name"]: each for each in json.loads(ran.out)["checks"]}


@pytest.mark.parametrize("program", ["podman", "buildah", "skopeo"])
def test_containers_pull_by_the_file(
    everyones: Upstream, start: Start, place: Path, program: str
) -> None:
    """The drop-in sends pulls of the registry through the daemon, which fetches each blob once."""
    node = start(everyones.sections)
    set_up(node, place / "p", "podman", "--registry", UP)
    conf = str(place / "p" / podman_files.OWN)
    before = blob_reads(everyones.registry)

    name = everyones.name("gzip")
    environ = plain_environ(place / "h") | {"CONTAINERS_REGISTRIES_CONF": conf}
    if program == "skopeo":
        words = ["skopeo", "--registries-conf", conf, "copy", f"docker://{name}", f"dir:{place}/d"]
    else:
        storage = Containers(program, place / "s", {})._storage()
        words = [program, *storage, "pull", name]
        (place / "s").mkdir()
    if not ROOT:
        words = ["unshare", "--map-root-user", "--mount", *words]
        environ["_CONTAINERS_USERNS_CONFIGURED"] = "done"
    ran = attempt(words, environ)

    assert 0 == ran.code, ran.err
    wanted = everyones.images.blobs("gzip") - {everyones.images.digest("gzip")}
    assert dict.fromkeys(wanted, 1) == dict(blob_reads(everyones.registry) - before)
    assert node.metric("registryd_served_bytes_total") > 0


@pytest.mark.parametrize("words", [(), ("--registry", UP)])
def test_containerd_fetches_by_the_file(
    everyones: Upstream, start: Start, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """For all registries, or for one; containerd 1.6 passes over dial_timeout."""
    node = start(everyones.sections)
    set_up(node, tmp_path / "p", "containerd", *words)
    hosts = tmp_path / "p" / containerd_files.CERTS
    assert "dial_timeout" in next(hosts.rglob("hosts.toml")).read_text()

    with containerd(tmp_path / "c") as runtime:
        ran = runtime.fetch(everyones.name("gzip"), hosts)

        assert 0 == ran.code, ran.err
        assert everyones.images.blobs("gzip") == runtime.content()
    assert f"ns={UP}" in node.log


def test_an_empty_folder_switches_the_default_off(
    everyones: Upstream, start: Start, tmp_path: Path
) -> None:
    """What setup warns of is so: containerd does not ask the daemon for that registry."""
    node = start(everyones.sections)
    hosts = tmp_path / "p" / containerd_files.CERTS
    (hosts / UP).mkdir(parents=True)

    ran = node.ctl("setup", "containerd", "--prefix", str(tmp_path / "p"))

    assert 7 == ran.code
    assert f"_default does not count for {UP}" in ran.err
    with containerd(tmp_path / "c") as runtime:
        assert 0 != runtime.fetch(everyones.name("gzip"), hosts).code
    assert "ns=" not in node.log


def test_doctor_proves_each_program(start: Start, place: Path) -> None:
    """Each pulls a test image through the daemon; nothing of it stays in the cache."""
    node = start({})
    assert {"not set up"} == {
        each["state"] for name, each in states(node, place).items() if name != "registryd"
    }
    for runtime in ("containerd", "podman"):
        set_up(node, place / "p", runtime)

    found = states(node, place / "p")

    assert {*PROGRAMS, "registryd"} <= set(found)
    assert [] == [each for each in found.values() if each["state"] == "broken"]
    assert {"ok"} == {found[name]["state"] for name in PROGRAMS}
    proofs = {name for name in PROGRAMS if "a test image" in str(found[name]["proven"])}
    assert (PROGRAMS if ROOT else {"skopeo"}) == proofs
    assert 0 == node.metric("registryd_cache_blobs")
    assert [] == node.ctl.json("images")["images"]


def test_doctor_sees_what_does_not_work(start: Start, place: Path) -> None:
    """A mirror that lacks insecure, and a host that may not resolve, are found by trying them."""
    node = start({})
    hosts = place / "p" / containerd_files.CERTS / "_default" / "hosts.toml"
    conf = place / "p" / podman_files.MAIN
    for path in (hosts, conf):
        path.parent.mkdir(parents=True)
    hosts.write_text(f'[host."http://{node.address}"]\ncapabilities = ["push"]\n')
    mirror = f'[[registry.mirror]]\nlocation = "{node.address}/docker.io"\n'
    conf.write_text('[[registry]]\nlocation = "docker.io"\n' + mirror)

    found = states(node, place / "p")

    tried = PROGRAMS if ROOT else {"skopeo"}
    assert {"broken"} == {found[name]["state"] for name in tried}
    assert "a pull through it failed" in str(found["skopeo"]["why"])


def test_doctor_tells_another_daemon_from_this(start: Start, place: Path) -> None:
    """A registryd that answers at the address, but is not the one on the socket, is found out."""
    node, other = start({}), start({})
    set_up(node, place / "p", "podman", "--address", other.address)

    found = states(node, place / "p")

    assert "broken" == found["skopeo"]["state"]
    assert "not the daemon on the socket" in str(found["skopeo"]["why"])
    assert f"--address {node.address}" in str(found["skopeo"]["fix"])
