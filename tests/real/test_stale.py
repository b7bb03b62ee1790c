"""Story: a registry goes away and comes back; what is held is given meanwhile, and that is said."""

from __future__ import annotations

import http.client
import re
from pathlib import Path

from tests.real.conftest import Start
from tests.real.images import Images, root_digest
from tests.real.registry import open_registry
from tests.real.runtimes import Skopeo
from tests.real.stories import UP, Daemon, Sections, blobs_of, daemon, told

IMAGE = f"{UP}/lib/gzip:1"
#: Quick to see that nobody listens.
IMPATIENT = {"attempts": 2}


def asking(endpoint: str, **more: object) -> Sections:
    """A daemon that asks for a tag's meaning each time."""
    entry = {"endpoint": endpoint, "tag_ttl": "0s", **more}
    return {"registries": {UP: entry}, "transfer": IMPATIENT}


def head(node: Daemon, name: str) -> tuple[int, str | None, str | None]:
    """Status, digest and warning of a HEAD over TCP."""
    connection = http.client.HTTPConnection(node.address, timeout=60)
    try:
        connection.request("HEAD", f"/v2/{UP}/lib/{name}/manifests/1")
        answer = connection.getresponse()
        answer.read()
        found = answer.headers
        return answer.status, found["Docker-Content-Digest"], found["Warning"]
    finally:
        connection.close()


def test_a_registry_that_stops_and_starts(
    start: Start, images: Images, skopeo: Skopeo, tmp_path: Path
) -> None:
    """While it is down skopeo and registryctl get the held image by its tag, and are told so by
    header, line and log; what is not whole is refused. Once it is back there is nothing to say."""
    with open_registry(tmp_path / "registry") as registry:
        for name in ("gzip", "zstd"):
            skopeo.copy(images.source(name), f"docker://{registry.name}/lib/{name}:1")
        node = start(asking(registry.url))
        skopeo.copy(node.mirror("lib/gzip:1"), f"oci:{tmp_path}/before:1")
        before = head(node, "gzip"), head(node, "zstd")
    skopeo.copy(node.mirror("lib/gzip:1"), f"oci:{tmp_path}/during:1")
    during, half = head(node, "gzip"), head(node, "zstd")
    pulled = node.ctl("pull", "-q", IMAGE)
    asked = node.ctl("digest", IMAGE)
    refused = node.ctl("pull", "-q", f"{UP}/lib/none:1")
    with open_registry(tmp_path / "registry", registry.name):
        after = head(node, "gzip"), head(node, "zstd")

    digest = images.digest("gzip")
    said = rf"{UP} cannot be reached: {re.escape(IMAGE)} is given as it was (?:\d+m)?\d+s ago"
    assert ((200, digest, None), (200, images.digest("zstd"), None)) == before == after
    assert (200, digest) == during[:2]
    assert re.fullmatch(f'299 - "{said}"', during[2] or "")
    assert (503, None, None) == half
    assert digest == root_digest(tmp_path / "during", "1")
    for ran, printed in ((pulled, f"{UP}/lib/gzip:1@{digest}\n"), (asked, f"{digest}\n")):
        assert (0, printed) == (ran.code, ran.out)
        assert re.fullmatch(f"warning: {said}\n", ran.err)
    assert (6, True) == (refused.code, "cannot reach" in told(refused))
    assert "given without its registry's word: " in node.log


def test_a_registry_that_is_left_alone(images: Images, skopeo: Skopeo, tmp_path: Path) -> None:
    """With offline = true nothing is sent: what is held is pulled with a warning, what is not is
    refused, and so is a push, each in one line that names the setting."""
    root = tmp_path / "root"
    with open_registry(tmp_path / "registry") as registry:
        skopeo.copy(images.source("gzip"), f"docker://{registry.name}/lib/gzip:1")
        with daemon(tmp_path / "a", asking(registry.url), root=root) as node:
            node.ctl.ok("pull", "-q", IMAGE)
        sent = len(registry.log)
        with daemon(tmp_path / "b", asking(registry.url, offline=True), root=root) as node:
            pulled = node.ctl("pull", "-q", IMAGE)
            skopeo.copy(node.mirror("lib/gzip:1"), f"oci:{tmp_path}/out:1")
            refused = [
                node.ctl("pull", "-q", f"{UP}/lib/none:1"),
                node.ctl("push", "-q", IMAGE, f"{UP}/lib/new:1"),
            ]
        received = len(registry.log) - sent

    assert (0, 0) == (pulled.code, received)
    assert pulled.err.startswith(f"warning: {UP} is offline by configuration: {IMAGE} is given")
    assert images.blobs("gzip") == blobs_of(tmp_path / "out")
    for ran in refused:
        line = f'registryctl: {UP} is offline by configuration ([registries."{UP}"] offline = true)'
        assert (6, line) == (ran.code, told(ran))


def test_a_pinned_tag(start: Start, images: Images, skopeo: Skopeo, tmp_path: Path) -> None:
    """A pin decides what a tag means, for registryctl and for skopeo, whatever its registry says;
    and what is not here yet is fetched by its digest."""
    with open_registry(tmp_path / "registry") as registry:
        for name in ("gzip", "zstd"):
            skopeo.copy(images.source(name), f"docker://{registry.name}/lib/app:1")
        pin = images.digest("gzip")
        sections = {
            "registries": {UP: {"endpoint": registry.url}},
            f'registries."{UP}".pins': {"lib/app:1": pin},
        }
        node = start(sections)
        digest = node.ctl.ok("digest", f"{UP}/lib/app:1")
        skopeo.copy(node.mirror("lib/app:1"), f"oci:{tmp_path}/out:1")

    assert f"{pin}\n" == digest
    assert pin == root_digest(tmp_path / "out", "1")
