"""Story: an image of a real registry, pulled through a daemon and read from it by skopeo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.conftest import Start, Upstream
from tests.real.images import closure, root_digest
from tests.real.runtimes import Skopeo
from tests.real.stories import blob_reads, blobs_of

NAMES = ("gzip", "zstd", "multi")


@pytest.mark.parametrize("name", NAMES)
def test_pull_prints_the_digest_that_the_upstream_has(
    upstream: Upstream, start: Start, skopeo: Skopeo, name: str
) -> None:
    """What is pulled is what skopeo finds upstream, and the live cache is a layout it can read."""
    node = start(upstream.sections)
    flags = ("--platform", "linux/amd64") if name == "multi" else ()

    printed = node.ctl.ok("pull", "-q", *flags, upstream.name(name))

    digest = upstream.images.digest(name)
    assert f"{upstream.name(name)}@{digest}\n" == printed
    assert digest == skopeo.digest(f"oci:{node.root}:{upstream.name(name)}")
    assert blobs_of(node.root) <= upstream.images.blobs(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_through_the_daemon_is_exact(
    upstream: Upstream, start: Start, skopeo: Skopeo, tmp_path: Path, name: str
) -> None:
    """skopeo gets every manifest and layer of the upstream, with the same digests."""
    node = start(upstream.sections)

    skopeo.copy(node.mirror(f"lib/{name}:1"), f"oci:{tmp_path}/x:{name}", "--all")

    digest = upstream.images.digest(name)
    assert digest == root_digest(tmp_path / "x", name)
    wanted = upstream.images.blobs(name)
    assert wanted == closure(tmp_path / "x", digest) == blobs_of(tmp_path / "x")
    assert wanted == blobs_of(node.root)
    assert digest == skopeo.digest(f"oci:{node.root}:{upstream.name(name)}")


def test_tags_through_the_daemon(upstream: Upstream, start: Start, skopeo: Skopeo) -> None:
    """list-tags of a repository gives what its registry has."""
    node = start(upstream.sections)

    listed = json.loads(skopeo("list-tags", "--tls-verify=false", node.mirror("lib/gzip")))

    assert ["1"] == listed["Tags"]
    assert "1\n" == node.ctl.ok("tags", "up.test/lib/gzip")


def test_every_blob_is_read_once(
    everyones: Upstream, start: Start, skopeo: Skopeo, tmp_path: Path
) -> None:
    """Three clients, one after the other and by different doors, cost upstream one read a blob."""
    node = start(everyones.sections)
    before = blob_reads(everyones.registry)

    skopeo.copy(node.mirror("lib/gzip:1"), f"oci:{tmp_path}/a:1")
    node.ctl.ok("pull", everyones.name("gzip"))
    skopeo.copy(node.mirror("lib/gzip:1"), f"oci:{tmp_path}/b:1")

    digest = everyones.images.digest("gzip")
    wanted = dict.fromkeys(everyones.images.blobs("gzip") - {digest}, 1)
    assert wanted == dict(blob_reads(everyones.registry) - before)


def test_a_closed_upstream_stays_closed(
    guarded: Upstream, start: Start, skopeo: Skopeo, tmp_path: Path
) -> None:
    """A daemon without a login gives nothing of a private image, and says that access is denied."""
    node = start({"registries": {"up.test": {"endpoint": guarded.registry.url}}})

    ran = skopeo.attempt(
        "copy", "--src-tls-verify=false", node.mirror("lib/gzip:1"), f"oci:{tmp_path}/x:1"
    )

    assert ran.code != 0
    assert "denied" in ran.err or "unauthorized" in ran.err or "403" in ran.err, ran.err
    assert blobs_of(node.root) == set()
