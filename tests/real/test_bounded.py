"""Story: a cache that may have 12 MB, and images of twice that in a loop, from a real registry."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.images.layers.trees import layer, member
from tests.real.cluster import push_layers
from tests.real.conftest import Start
from tests.real.registry import RealRegistry, open_registry
from tests.real.runtimes import Skopeo
from tests.real.stories import UP, Daemon, arriving, blob_reads, blobs_of, told, upstream_at

MOST = 12_000_000
BASE = layer(member("base", random.Random(1).randbytes(1_000_000)))
COUNT = 10


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """Ten images of 3 MB on one base, and one that is too large."""
    with open_registry(tmp_path_factory.mktemp("registry")) as registry:
        for number in range(COUNT):
            own = random.Random(10 + number).randbytes(2_000_000)
            push_layers(registry, f"i{number}", [BASE, layer(member("own", own))])
        push_layers(registry, "large", [random.Random(2).randbytes(10_000_000)])
        yield registry


@pytest.fixture
def node(registry: RealRegistry, start: Start, tmp_path: Path) -> Daemon:
    """A daemon with that bound."""
    cache = {"root": tmp_path / "n" / "root", "max_size": "12MB"}
    return start({**upstream_at(registry.url), "cache": cache}, tmp_path / "n")


@contextmanager
def watched(root: Path) -> Iterator[list[int]]:
    """The bytes of blobs and of what arrives, looked at all the time."""
    seen, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            total = 0
            for path in (*root.glob("blobs/*/*"), *root.glob("ingest/*")):
                try:
                    total += path.stat().st_blocks * 512
                except FileNotFoundError:
                    continue
            seen.append(total)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def names(node: Daemon) -> set[str]:
    return {image["name"].rpartition("/")[2] for image in node.ctl.json("images")["images"]}


def test_a_bound_is_kept_while_images_come_and_go(node: Daemon) -> None:
    """Every pull ends well, two at a time and by a runtime's requests too; blobs and what arrives
    stay below the bound. The pinned image stays, what was converted goes with its image, and an
    image that cannot fit makes nothing go."""
    node.ctl.ok("pull", "-q", f"{UP}/i0:1")
    node.ctl.ok("cache", "pin", f"{UP}/i0:1")
    made = node.ctl.json("convert", f"{UP}/i1:1")["blob"]
    before = blobs_of(node.root)
    with watched(node.root) as seen:
        for number in range(2, COUNT, 2):
            words = [("pull", "-q", f"{UP}/i{number + more}:1") for more in range(2)]
            pulls = [node.ctl.begin(*each) for each in words]
            ended = [(pull.communicate()[1], pull.returncode) for pull in pulls]
            assert [(b"", 0)] * 2 == ended
            assert {f"i{number}", f"i{number + 1}", "i0"} <= names(node)
        status, _ = node.get(f"/v2/{UP}/i1/manifests/1")
        large = node.ctl("pull", "-q", f"{UP}/large:1")
    planned = node.ctl.json("cache", "gc", "--dry-run", "--free", "1GB")
    held = names(node)
    done = node.ctl.json("cache", "gc", "--free", "1GB")
    left = names(node)

    assert made in before
    assert made not in blobs_of(node.root)
    assert max(seen) < MOST + 200_000  # whole blocks, and the few bytes of journals
    assert max(seen) > MOST // 2
    assert 200 == status
    assert (1, True) == (large.code, "no room for" in told(large))
    assert {"i0", "i8", "i9"} <= held
    assert planned["going"] == done["going"]
    assert {"i0"} == left
    assert {"pinned"} == {each["why"] for each in done["staying"]}
    assert f"evicted: image={UP}/i1:1 " in node.log
    assert node.metric("registryd_removed_blobs_total") >= 2 * (COUNT - 3)
    assert [] == arriving(node.root)


def test_what_falls_below_the_bound_is_brought_again(node: Daemon) -> None:
    """An image that has gone comes again at the next pull; what others share was not touched."""
    for number in (0, 1, 2, 3, 4, 5):
        node.ctl.ok("pull", "-q", f"{UP}/i{number}:1")
    gone = "i0" not in names(node)
    again = node.ctl.json("pull", f"{UP}/i0:1", "--progress", "none")

    assert gone
    assert "i0" in names(node)
    assert again["fetched"] < 2_200_000


def test_what_there_is_no_room_for_passes(
    node: Daemon, registry: RealRegistry, skopeo: Skopeo, tmp_path: Path
) -> None:
    """A runtime gets an image for which nothing can go, through the daemon and unkept, and so does
    who pulls it into a folder; a pull into the cache alone fails. What is held stays, and the log
    and the metrics say so."""
    for number in range(3):
        node.ctl.ok("pull", "-q", f"{UP}/i{number}:1")
        node.ctl.ok("cache", "pin", f"{UP}/i{number}:1")
    before = blobs_of(node.root)
    skopeo.copy(node.mirror("large:1"), f"dir:{tmp_path}/dir", "--src-tls-verify=false")
    alone = node.ctl("pull", "-q", f"{UP}/large:1")
    out = node.ctl.json("pull", f"{UP}/large:1", "-o", f"oci:{tmp_path}/oci:x", "--progress=none")
    local = node.ctl.with_environ(REGISTRYD_ROOT=str(tmp_path / "own"), REGISTRYD_SOCKET="")
    config = tmp_path / "n/home/.config/registryd/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        f'[cache]\nmax_size = "1MB"\n[registries."{UP}"]\nendpoint = "{registry.url}"\n'
    )
    local.ok("pull", "-q", f"{UP}/large:1", "-o", f"oci:{tmp_path}/local:x")

    assert (1, True) == (alone.code, "no room for" in told(alone))
    assert (False, "large") == (out["kept"], out["reference"].rpartition("/")[2][:5])
    assert blobs_of(tmp_path / "oci") == blobs_of(tmp_path / "local")
    assert blobs_of(tmp_path / "oci") <= {
        f"sha256:{p.name}" for p in (tmp_path / "dir").iterdir()
    } | {out["digest"]}
    assert before <= blobs_of(node.root)
    assert [] == arriving(node.root)
    assert 1 == node.log.count("the cache has no room")
    assert node.metric("registryd_streamed_blobs_total") >= 2
    assert node.metric("registryd_streamed_bytes_total") >= 20_000_000
    assert 3 <= max(blob_reads(registry).values())
