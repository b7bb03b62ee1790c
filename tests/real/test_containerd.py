"""Story: containerd fetches through the mirror, as its hosts.toml says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import Start, Upstream
from tests.real.images import Images
from tests.real.registry import open_registry
from tests.real.runtimes import Containerd, Ran, Skopeo, containerd, hosts_file
from tests.real.stories import UP, Daemon, blob_reads


def fetched(folder: Path, node: Daemon, name: str) -> set[str]:
    """What a containerd with an empty store has after it fetched this image."""
    with containerd(folder) as runtime:
        ran = fetch(runtime, node, name)
        assert ran.code == 0, ran.err
        return runtime.content()


def fetch(runtime: Containerd, node: Daemon, name: str) -> Ran:
    """Fetch through the daemon alone."""
    hosts = hosts_file(runtime.folder / "hosts", UP, f"http://{node.address}")
    return runtime.fetch(name, hosts)


@pytest.mark.parametrize("name", ["gzip", "multi"])
def test_three_stores_cost_one_read_a_blob(
    everyones: Upstream, start: Start, tmp_path: Path, name: str
) -> None:
    """Three containerds with empty stores fetch an image; upstream sends each blob once."""
    node = start(everyones.sections)
    before = blob_reads(everyones.registry)

    stores = [fetched(tmp_path / f"c{n}", node, everyones.name(name)) for n in range(3)]

    if name == "gzip":
        assert [everyones.images.blobs(name)] * 3 == stores
    assert {everyones.images.digest(name)} <= stores[0] == stores[1] == stores[2]
    reads = blob_reads(everyones.registry) - before
    assert set(reads) <= stores[0]
    assert {1} == set(reads.values())
    assert "ns=up.test" in node.log


@pytest.mark.parametrize("ttl", ["1h", "0s"])
def test_a_held_image_outlives_its_registry(
    start: Start, tmp_path: Path, images: Images, skopeo: Skopeo, ttl: str
) -> None:
    """With the registry gone, a held image is given: in its tag's time to live, and after it."""
    with open_registry(tmp_path / "registry") as registry:
        skopeo.copy(images.source("gzip"), f"docker://{registry.name}/lib/gzip:1")
        transfer = {"attempts": 1, "connect_timeout": "2s"}
        upstream = {UP: {"endpoint": registry.url, "tag_ttl": ttl}}
        node = start({"registries": upstream, "transfer": transfer})
        node.ctl.ok("pull", f"{UP}/lib/gzip:1")

    assert images.blobs("gzip") == fetched(tmp_path / "c", node, f"{UP}/lib/gzip:1")


def test_a_missing_image_is_not_found(everyones: Upstream, start: Start, tmp_path: Path) -> None:
    """A tag that upstream does not have is "not found" to containerd, which holds nothing then."""
    node = start(everyones.sections)
    with containerd(tmp_path / "c") as runtime:
        ran = fetch(runtime, node, f"{UP}/lib/gzip:none")

        assert ran.code != 0
        assert "not found" in ran.err
        assert set() == runtime.content()
