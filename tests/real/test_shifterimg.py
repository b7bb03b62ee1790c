"""Story: ``shifterimg`` talks to the gateway, by Shifter's routes and munge.

Each hole of Shifter's own gateway has its place here: queues that anybody reads, private images
that all may read, passwords with colons, credentials on disk, ids of a part of a file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.conftest import Start, Upstream
from tests.real.images import Images
from tests.real.registry import RealRegistry, basic_registry
from tests.real.runtimes import Skopeo
from tests.real.shifterimg import ShifterImg, munged
from tests.real.stories import UP, Daemon

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other users")

COLONS = "pass:with:colons"
PUBLIC = "pub.test"
#: Where there is nothing, and nobody is told more.
ODD_PATHS = (
    *("/v2/", "/api/v1/status", "/metrics", "/healthz", "/api/x/y/", "/api//", "//", "/api/pull/"),
    *("/api/lookup/cluster/docker/%00/", "/api/lookup/cluster/docker/..%2f..%2fetc/"),
    *("/api/lookup/cluster/id/..%2fx", "/api/lookup/cluster/custom/%F0%9F%92%A9/"),
    f"/api/lookup/cluster/docker/{'a' * 3000}",
)
NAME = f"docker:{UP}/lib/gzip:1"


@pytest.fixture(scope="module")
def registry(
    tmp_path_factory: pytest.TempPathFactory, images: Images, skopeo: Skopeo
) -> Iterator[RealRegistry]:
    """A registry whose password has colons."""
    with basic_registry(tmp_path_factory.mktemp("colons"), {"ann": COLONS}) as running:
        source, creds = images.source("gzip"), f"--dest-creds=ann:{COLONS}"
        skopeo.copy(source, f"docker://{running.name}/lib/gzip:1", creds)
        yield running


@pytest.fixture
def site(place: Path) -> Path:
    """Where udiRoot looks for images, and whence files are imported."""
    (place / "site").mkdir()
    (place / "files").mkdir()
    return place / "site"


@pytest.fixture(scope="module")
def munge() -> Iterator[Path]:
    """munged's socket, where every user can reach it."""
    with tempfile.TemporaryDirectory(prefix="rd") as folder:
        Path(folder).chmod(0o755)
        with munged(Path(folder, "munge")) as socket:
            yield socket


@pytest.fixture
def node(
    place: Path, munge: Path, start: Start, registry: RealRegistry, by_token: Upstream, site: Path
) -> Daemon:
    """A gateway for Shifter's clients, in front of both registries."""
    place.chmod(0o755)
    registries = {
        UP: {"endpoint": registry.url},
        PUBLIC: {"endpoint": by_token.registry.url},
    }
    gateway = {
        "listen": "127.0.0.1:0",
        "munge_socket": munge,
        "anonymous": True,
        "default_registry": UP,
        "image_dir": site,
        "import_users": ["61001"],
        "import_dirs": [str(site.parent / "files")],
    }
    return start({"registries": registries, "gateway": gateway}, place / "n")


@pytest.fixture
def ann(node: Daemon, munge: Path) -> ShifterImg:
    """Who has a password."""
    found = re.search(r"shifter's routes: address=(\S+)", node.log)
    assert found is not None
    return ShifterImg(61001, found[1], munge, logins={UP: f"ann:{COLONS}"})


@pytest.fixture
def eve(ann: ShifterImg) -> ShifterImg:
    """Who has none."""
    return dataclasses.replace(ann, uid=61002, logins={})


def test_two_users(
    ann: ShifterImg, eve: ShifterImg, node: Daemon, site: Path, images: Images
) -> None:
    """ann pulls, polling until READY, with a password that has colons; udiRoot's files are there,
    for their owner alone. eve is told of nothing; whom ann then allows looks it up."""
    id = images.digest("gzip").partition(":")[2]
    record = ann.pull(NAME)
    meta = (site / f"{id}.meta").read_text()
    listed = ann.get("list")[1]["list"]
    lost = (404, {"status": 404, "error": "Not Found"})

    assert ("READY", id, ["lib/gzip:1"]) == (record["status"], record["id"], record["tag"])
    assert ([61001], "MISSING") == (record["userACL"], record["groupACL"])
    assert [(id, "READY")] == [(each["id"], each["status"]) for each in listed]
    assert "FORMAT: squashfs\nCMD: ['/bin/sh']\nUSERACL: 61001\n" in meta
    assert {f"{id}.meta", f"{id}.squashfs"} == set(os.listdir(site))
    assert {0o600} == {path.stat().st_mode & 0o777 for path in site.iterdir()}
    elsewhere = {PUBLIC: f"ann:{COLONS}", "other.test": f"ann:{COLONS}"}
    for logins in ({}, {UP: "ann:guess"}, elsewhere):
        who = dataclasses.replace(eve, logins=logins)
        assert "FAILURE" == (failed := who.pull(NAME))["status"]
        assert ("MISSING", True) == (failed["id"], UP in failed["status_message"])
    for verb, name in (("lookup", NAME), ("lookup", f"id:{id}"), ("lookup", "docker:lib/gzip:1")):
        status, said = eve.get(verb, name)
        assert lost == (status, {key: said[key] for key in ("status", "error")})
        assert said["message"].startswith("Not Found: http://")
        assert (
            404
            == eve.ask("GET", f"/api/lookup/cluster/{name.replace(':', '/', 1)}/", credential="")[0]
        )
    assert [] == eve.get("list")[1]["list"]
    assert [{"status": "FAILURE", "image": "lib/gzip:1"}] == eve.get("queue")[1]["list"]
    assert [] == ann.get("queue")[1]["list"]
    assert 404 == eve.ask("GET", "/api/queue/cluster/", credential="")[0]
    assert {"list": []} == eve.ask("GET", "/api/list/cluster/", credential="")[1]
    assert [] == eve.get("metrics")[1]
    assert ({"status": False}, {"status": False}) == (
        eve.get("expire", NAME)[1],
        eve.get("autoexpire")[1],
    )
    ann.pull(NAME, users="61002,")
    assert (200, id) == ((found := eve.get("lookup", NAME))[0], found[1]["id"])
    assert "USERACL: 61001,61002\n" in (site / f"{id}.meta").read_text()
    root = dataclasses.replace(eve, uid=0)
    assert [61002] == [each["uid"] for each in root.get("metrics")[1]]
    assert {"status": True} == root.get("expire", NAME)[1]
    assert ({"status": None}, []) == (root.get("expire", NAME)[1], os.listdir(site))
    assert (404, 404) == (ann.get("lookup", NAME)[0], eve.get("lookup", NAME)[0])
    files = [path for path in node.folder.rglob("*") if path.is_file()]
    assert [] == [path for path in files if COLONS.encode() in path.read_bytes()]


def test_what_everybody_may_read(ann: ShifterImg, eve: ShifterImg, images: Images) -> None:
    """A public image needs no login, and one that is out of date does no harm; it is eve's too, and
    anybody's who shows nothing. No tag means latest, slashes stay in tags, and an image that is not
    there is a failure with its reason."""
    id = images.digest("zstd").partition(":")[2]
    record = dataclasses.replace(ann, logins={}).pull(f"docker:{PUBLIC}/lib/zstd:1")
    stale = dataclasses.replace(ann, logins={PUBLIC: "ann:old"}).pull(f"docker:{PUBLIC}/lib/gzip:1")
    nobody = eve.ask("GET", f"/api/lookup/cluster/docker/{PUBLIC}/lib/zstd:1", credential="")
    failed = ann.pull(f"docker:{PUBLIC}/lib/none")

    assert ("READY", "MISSING", f"{PUBLIC}/lib/zstd:1") == (
        record["status"],
        record["userACL"],
        record["tag"][0],
    )
    assert ("READY", "MISSING") == (stale["status"], stale["userACL"]), stale
    assert (200, id) == (nobody[0], nobody[1]["id"])
    assert (200, id) == ((found := eve.get("lookup", f"id:{id}"))[0], found[1]["id"])
    listed = eve.ask("GET", "/api/list/cluster/", credential="")[1]["list"]
    assert {id, stale["id"]} == {each["id"] for each in listed}
    assert ("FAILURE", [f"{PUBLIC}/lib/none:latest"]) == (failed["status"], failed["tag"])
    assert "none:latest" in failed["status_message"]
    assert 404 == eve.ask("POST", f"/api/pull/cluster/docker/{PUBLIC}/lib/zstd:1/", {}, "")[0]


def test_what_munge_does_not_take(ann: ShifterImg, place: Path, node: Daemon) -> None:
    """A credential that was used, is too old, is of another key, or is none, is 404; the log says
    why. So is a system that is not this one, numbers that are none, and every other path."""
    used, old, until = ann.credential(), ann.credential("--ttl=1"), time.time() + 2.1
    assert 200 == ann.ask("GET", "/api/list/cluster/", credential=used)[0]
    with munged(place / "other") as socket:
        other = dataclasses.replace(ann, socket=socket).credential()
    sent = [used, other, "MUNGE:AAAA:", "none", "MUNGE:" + "A" * 5000 + ":"]
    assert {404} == {ann.ask("GET", "/api/queue/cluster/", credential=each)[0] for each in sent}
    assert "it was used before" in node.log
    assert 404 == dataclasses.replace(ann, system="other").get("list")[0]
    for body in ({"allowed_uids": "1,x"}, {"allowed_uids": "4294967296"}, [], "x"):
        assert 404 == ann.ask("POST", f"/api/pull/cluster/docker/{PUBLIC}/lib/zstd:1/", body)[0]
    for path in ODD_PATHS:
        for method in ("GET", "POST", "DELETE"):
            status, said = ann.ask(method, path)
            assert (404, 404, "Not Found") == (status, said["status"], said["error"]), path
    while time.time() < until:
        threading.Event().wait(0.1)
    assert 404 == ann.ask("GET", "/api/queue/cluster/", credential=old)[0]
    assert "it is too old" in node.log


def squashfs_of(folder: Path, target: Path, content: bytes) -> None:
    """A squashfs of one file, whose content begins alike in all."""
    folder.mkdir()
    (folder / "data").write_bytes(content)
    words = ["mksquashfs", str(folder), str(target), "-quiet", "-no-progress", "-noD", "-noI"]
    subprocess.run([*words, "-mkfs-time", "0", "-all-time", "0"], check=True, capture_output=True)


def test_a_file_is_read_as_its_user(ann: ShifterImg, eve: ShifterImg, site: Path) -> None:
    """doimport takes a file that who asks may read, from the folders that the site names; two files
    that differ far behind are two images; who may not import, or names another path, gets 404."""
    files = site.parent / "files"
    ids = []
    for number in (1, 2):
        target = files / f"{number}.squashfs"
        squashfs_of(site.parent / f"tree{number}", target, b"x" * (3 << 20) + bytes([number]))
        os.chown(target, 61001, 61001)
        target.chmod(0o600)
        record = ann.post(
            "doimport", f"custom:mine{number}", filepath=str(target), format="squashfs"
        )
        assert ("READY", [f"mine{number}:latest"]) == (record["status"], record["tag"])
        assert hashlib.sha256(target.read_bytes()).hexdigest() == record["id"]
        ids.append(record["id"])
    (files / "1.squashfs").chmod(0o000)
    os.chown(files / "1.squashfs", 0, 0)
    refused = ann.post(
        "doimport", "custom:other", filepath=str(files / "1.squashfs"), format="squashfs"
    )

    assert 2 == len(set(ids))
    assert (404, []) == (eve.get("lookup", "custom:mine1")[0], eve.get("list")[1]["list"])
    assert ("FAILURE", True) == (
        refused["status"],
        "Permission denied" in refused["status_message"],
    )
    for who, path in ((eve, files / "2.squashfs"), (ann, "/etc/passwd"), (ann, f"{files}/../x")):
        body = {"filepath": str(path), "format": "squashfs"}
        assert 404 == who.ask("POST", "/api/doimport/cluster/custom/a/", body)[0], path
