"""Story: nodes of two racks, and what goes between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.cluster import Cluster, Node, cluster, push_image
from tests.real.registry import RealRegistry, open_registry
from tests.real.stories import UP, upstream_at

MIB = 1 << 20
LAYERS = (32 * MIB, 8 * MIB)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """An upstream of the module's own."""
    with open_registry(tmp_path_factory.mktemp("upstream")) as running:
        yield running


@pytest.fixture
def racks(tmp_path: Path, registry: RealRegistry) -> Iterator[Cluster]:
    """Two racks of two nodes each, which hold nothing."""
    zones = ("rack1", "rack1", "rack2", "rack2")
    with cluster(tmp_path / "c", upstream_at(registry.url), 4, zones=zones) as nodes:
        yield nodes


def came(node: Node, zone: str) -> float:
    """Bytes of blobs that other nodes have sent to this one: ``near``, ``far``."""
    return node.daemon.metric(f'registryd_cluster_received_bytes_total{{zone="{zone}"}}')


def test_bytes_are_counted_by_zone(racks: Cluster, registry: RealRegistry) -> None:
    """All pull at once: what came from near and from far is what the others have sent."""
    push_image(registry, "lib/racks", LAYERS, 1)
    racks.pull(f"{UP}/lib/racks:1")
    far = [came(node, "far") for node in racks.nodes]
    near = [came(node, "near") for node in racks.nodes]

    assert all(far) and all(near), (far, near)
    assert sum(far + near) == sum(
        node.daemon.metric("registryd_cluster_sent_bytes_total") for node in racks.nodes
    )


def test_one_rack_alone(tmp_path: Path, registry: RealRegistry) -> None:
    """Where all are in one rack nothing comes from far."""
    push_image(registry, "lib/near", LAYERS, 2)
    sections = upstream_at(registry.url)
    with cluster(tmp_path / "c", sections, 2, zones=("rack1", "rack1")) as nodes:
        nodes.pull(f"{UP}/lib/near:1")
        far = [came(node, "far") for node in nodes.nodes]
        near = [came(node, "near") for node in nodes.nodes]

    assert (0, True) == (sum(far), all(near))
