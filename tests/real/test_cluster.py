"""Stories: nodes that pull the same image share the work, and upstream's own log counts it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.real.cluster import Cluster, Node, blob_bytes, cluster, more_bytes, push_image
from tests.real.conftest import PASSWORD, USER, Upstream, fill
from tests.real.images import Images, closure
from tests.real.registry import JwtTokenServer, RealRegistry, open_registry, token_registry
from tests.real.runtimes import Containers, Skopeo
from tests.real.stories import UP, blobs_of, in_thread, upstream_at

MIB = 1 << 20
#: A large layer, one of a few chunks, one of a part of a chunk, and one that is hardly there.
LAYERS = (24 * MIB, 7 * MIB + 1, MIB // 2, 1000)
#: Upstream is asked twice for the chunks of an owner that stays silent, and here all nodes share a
#: machine that may be busy; nodes without a cluster would ask it for 4.0 times the image.
SLACK = 1.5


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """An upstream of the module's own."""
    with open_registry(tmp_path_factory.mktemp("upstream")) as running:
        yield running


@pytest.fixture
def four(tmp_path: Path, registry: RealRegistry) -> Iterator[Cluster]:
    """Four nodes that hold nothing."""
    with cluster(tmp_path / "c", upstream_at(registry.url), 4) as nodes:
        yield nodes


def digest_on(nodes: Cluster, at: int, name: str) -> str:
    """What an image's name means on a node, by ``registryctl images``."""
    images = nodes[at].daemon.ctl.json("images")["images"]
    return next(str(each["digest"]) for each in images if each["name"] == name)


def test_all_at_once(four: Cluster, registry: RealRegistry) -> None:
    """Four nodes pull one image at once: upstream sends it about once, each node has it whole."""
    blobs = push_image(registry, "lib/storm", LAYERS, 1)
    before = blob_bytes(registry)
    four.pull(f"{UP}/lib/storm:1")
    sent = more_bytes(before, blob_bytes(registry))
    came = four.at_once(lambda node: node.daemon.metric("registryd_cluster_received_bytes_total"))

    assert blobs.keys() == sent.keys()
    assert sum(sent.values()) <= sum(blobs.values()) * SLACK
    assert all(each > 0 for each in came)
    assert 1 == len({digest_on(four, at, f"{UP}/lib/storm") for at in range(4)})
    for node in four.nodes:
        assert blobs.keys() <= blobs_of(node.daemon.root)


def test_one_has_it(four: Cluster, registry: RealRegistry) -> None:
    """What one node has pulled comes to the others from it: upstream sends no byte of a layer."""
    push_image(registry, "lib/warm", LAYERS, 2)
    four.pull(f"{UP}/lib/warm:1", four.nodes[:1])
    before = blob_bytes(registry)
    four.pull(f"{UP}/lib/warm:1", four.nodes[1:2])
    four.pull(f"{UP}/lib/warm:1", four.nodes[2:])

    assert {} == more_bytes(before, blob_bytes(registry))
    assert 1 == len({digest_on(four, at, f"{UP}/lib/warm") for at in range(4)})


def test_skopeo_reads_what_comes_from_a_peer(
    four: Cluster, registry: RealRegistry, skopeo: Skopeo, tmp_path: Path
) -> None:
    """A runtime reads through one node what this one receives from another."""
    blobs = push_image(registry, "lib/through", LAYERS, 3)
    four.pull(f"{UP}/lib/through:1", four.nodes[:1])
    before = blob_bytes(registry)
    skopeo.copy(four[1].daemon.mirror("lib/through:1"), f"oci:{tmp_path}/image:1")

    assert {} == more_bytes(before, blob_bytes(registry))
    assert blobs.keys() <= blobs_of(tmp_path / "image")
    assert blobs.keys() <= blobs_of(four[1].daemon.root)


def test_podman_runs_on_what_comes_from_a_peer(everyones: Upstream, place: Path) -> None:
    """podman pulls through a node that has nothing, from one that has the image; no byte anew."""
    with cluster(place / "c", everyones.sections, 3) as nodes:
        nodes.pull(everyones.name("gzip"), nodes.nodes[:1])
        before = blob_bytes(everyones.registry)
        podman = Containers("podman", place / "p", {UP: f"{nodes[2].daemon.address}/{UP}"})
        podman("pull", everyones.name("gzip"))
        found = podman("image", "inspect", "--format", "{{.Digest}}", everyones.name("gzip"))
        held = blobs_of(nodes[2].daemon.root)

    layout = everyones.images.layouts["gzip"]
    assert everyones.images.digest("gzip") == found.strip()
    assert closure(layout, found.strip()) <= held
    assert {} == more_bytes(before, blob_bytes(everyones.registry))


def test_a_node_that_dies(four: Cluster, registry: RealRegistry) -> None:
    """Pulls that are under way when a node is killed end well, and so do those after it."""
    blobs = push_image(registry, "lib/killed", LAYERS, 4)
    left = four.nodes[:3]

    def pull_or_die(node: object) -> int:
        if node is four[3]:
            four[3].kill()
            return 0
        return next(each for each in left if each is node).pull(f"{UP}/lib/killed:1").code

    assert [0, 0, 0, 0] == four.at_once(pull_or_die)
    for node in left:
        assert blobs.keys() <= blobs_of(node.daemon.root)


def test_a_private_image(tmp_path: Path, images: Images, skopeo: Skopeo, place: Path) -> None:
    """One user's login brings an image by way of nodes that have none: they fetch their share with
    a token that is lent to them, and it opens nothing to those who ask them."""
    folder = tmp_path / "token"
    tokens = JwtTokenServer(folder / "tokens", users={USER: PASSWORD}, anonymous=False)
    with in_thread(tokens), token_registry(folder, tokens) as guarded:
        login = f"{USER}:{PASSWORD}"
        fill(guarded, images, skopeo, f"--dest-creds={login}")
        image = f"{UP}/lib/gzip:1"
        with cluster(place / "c", upstream_at(guarded.url), 3) as nodes:
            mine = nodes[0].daemon.ctl("pull", image, "--creds", login, "--progress", "none")
            others = [node.pull(image).code for node in nodes.nodes[1:]]
            shares = [node.daemon.metric("registryd_cluster_registry_chunks_total")
                      for node in nodes.nodes]  # fmt: skip
            held = blobs_of(nodes[0].daemon.root)
            logs = "".join(nodes.logs())
        sent = blob_bytes(guarded)

    sizes = {digest: len(read_blob(images, digest)) for digest in sent}
    assert (0, "", [3, 3]) == (mine.code, mine.err, others)
    assert images.blobs("gzip") <= held
    assert sum(sent.values()) <= sum(sizes.values()) * SLACK
    assert sum(each > 0 for each in shares) > 1
    assert not any(token in logs for token in tokens.issued)


def read_blob(images: Images, digest: str) -> bytes:
    """A blob of an image as its layout has it."""
    return (images.layouts["gzip"] / "blobs" / digest.replace(":", "/")).read_bytes()


def test_a_node_without_room(four: Cluster, registry: RealRegistry) -> None:
    """While all pull, one node has no room: a client of its is given every byte past its cache, and
    the others, who have chunks that it would have brought, have all of the image."""
    last = four[3]
    config = last.daemon.folder / "config.toml"
    config.write_text(config.read_text().replace("[cache]", '[cache]\nmax_size = "100kB"', 1))
    last.reload()
    while " reloaded: " not in last.daemon.log:
        threading.Event().wait(0.01)
    blobs = push_image(registry, "lib/roomless", (17 * MIB, 1000), 6)

    def pull_or_read(node: Node) -> object:
        if node is not last:
            return node.pull(f"{UP}/lib/roomless:1").code
        got = [node.daemon.get(f"/v2/{UP}/lib/roomless/blobs/{digest}") for digest in blobs]
        return [(status, f"sha256:{sha256(body).hexdigest()}") for status, body in got]

    *pulled, read = four.at_once(pull_or_read)

    assert [0, 0, 0] == pulled
    assert [(200, digest) for digest in blobs] == read
    assert last.daemon.metric("registryd_streamed_blobs_total") >= 1
    for node in four.nodes[:3]:
        assert blobs.keys() <= blobs_of(node.daemon.root)
