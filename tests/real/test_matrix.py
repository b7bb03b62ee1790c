"""Story: every runtime pulls through the daemon; whatever fails behind it, it makes nothing worse.

Each runtime has the daemon as its mirror, and knows the registry too: that is its way past us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.http import Reply
from tests.fakes.registry import FakeRegistry
from tests.real.conftest import Start, Upstream
from tests.real.images import Images
from tests.real.pullers import Pulled, Way, each_runtime, pulled
from tests.real.registry import open_registry
from tests.real.runtimes import NOBODY, Skopeo
from tests.real.scripted import IMAGE, NAME, TRANSFER, before, largest_layer, scripted
from tests.real.stories import blob_reads, blobs_of, in_thread

#: containers/image chooses its mirror at the manifest: when a blob breaks off there, it fails.
BOUND = {"podman", "buildah", "skopeo"}
#: Nobody tries all of it again after that.
LOST = {"skopeo"}


@pytest.fixture
def origin(images: Images) -> Iterator[FakeRegistry]:
    """The registry as the runtimes find it: it has the image."""
    with in_thread(registry := scripted(images)):
        yield registry


@pytest.fixture
def faulty(images: Images) -> Iterator[FakeRegistry]:
    """The registry as the daemon finds it: with the image, and a fault that the test asks for."""
    with in_thread(registry := scripted(images)):
        yield registry


@each_runtime
def test_a_blob_is_fetched_once_for_two(
    everyones: Upstream, start: Start, place: Path, images: Images, program: str
) -> None:
    """Two empty runtimes pull an image, cold and warm; a real registry sends each blob once."""
    node = start(before(everyones.registry.url))
    reads = blob_reads(everyones.registry)

    two = [pulled(program, images, place / name, Way(node.address)) for name in ("cold", "warm")]

    for ran, whole in two:
        assert 0 == ran.code, ran.err
        assert whole
    wanted = images.blobs(NAME)
    layers = wanted - {images.digest(NAME)}
    assert dict.fromkeys(layers, 1) == dict(blob_reads(everyones.registry) - reads)
    assert wanted == blobs_of(node.root)


@each_runtime
def test_a_held_image_outlives_its_registry(
    start: Start, place: Path, images: Images, skopeo: Skopeo, program: str
) -> None:
    """With the registry gone, what one had is pulled by another; its tag is past its time."""
    with open_registry(place / "registry") as registry:
        skopeo.copy(images.source(NAME), f"docker://{registry.name}/{IMAGE}")
        node = start(before(registry.url, tag_ttl="0s", transfer=TRANSFER))
        assert 0 == pulled(program, images, place / "first", Way(node.address)).ran.code

    ran, whole = pulled(program, images, place / "second", Way(node.address))

    assert 0 == ran.code, ran.err
    assert whole


@each_runtime
def test_a_blob_that_is_cut_once_comes_whole(
    faulty: FakeRegistry, start: Start, place: Path, images: Images, program: str
) -> None:
    """The daemon asks for the rest; the runtime has no other way, and notices nothing."""
    node = start(before(faulty.url, transfer=TRANSFER))
    layer, size = largest_layer(images)
    faulty.cut(f"GET .*{layer}", at=size // 2)

    ran, whole = pulled(program, images, place / "own", Way(node.address))

    assert 0 == ran.code, ran.err
    assert whole
    assert size == faulty.sent[layer]
    assert 2 == len(faulty.asked(f"GET .*{layer}"))


@each_runtime
def test_a_blob_that_never_comes_whole(
    faulty: FakeRegistry,
    origin: FakeRegistry,
    start: Start,
    place: Path,
    images: Images,
    program: str,
) -> None:
    """containerd takes the rest from the registry, all others but skopeo begin there anew."""
    node = start(before(faulty.url, transfer=TRANSFER))
    layer, size = largest_layer(images)
    cuts = iter([size // 2])
    faulty.change(f"GET .*{layer}", lambda answer: setattr(answer, "cut", next(cuts, 0)))

    ran, whole = pulled(program, images, place / "own", Way(node.address, origin.name))

    assert layer not in blobs_of(node.root)
    asked = [seen.headers.get("Range") for seen in origin.asked(f"GET .*{layer}")]
    if program in LOST:
        assert 0 != ran.code
        assert "connection reset" in ran.err
        assert not whole
        assert [] == origin.lines()
    else:
        assert 0 == ran.code, ran.err
        assert whole
        assert [f"bytes={size // 2}-" if program == "containerd" else None] == asked


def other_bytes(answer: Reply) -> None:
    """The same length, and another content at the very end."""
    answer.body = answer.body[:-1] + bytes([answer.body[-1] ^ 1])


@each_runtime
def test_a_blob_that_lies_reaches_nobody(
    faulty: FakeRegistry,
    origin: FakeRegistry,
    start: Start,
    place: Path,
    images: Images,
    program: str,
) -> None:
    """A wrong blob is never given whole, so the runtime that can do so takes the true one."""
    node = start(before(faulty.url, transfer=TRANSFER))
    layer, _ = largest_layer(images)
    faulty.change(f"GET .*{layer}", other_bytes)

    ran, whole = pulled(program, images, place / "own", Way(node.address, origin.name))

    assert layer not in blobs_of(node.root)
    assert (program in LOST) == (ran.code != 0), ran.err
    assert (program in LOST) == (not whole)


def limited(faulty: FakeRegistry) -> str:
    """It has heard enough of the daemon's address."""
    faulty.answer("/v2/", 429, times=None, Retry_After="3600")
    return faulty.url


def silent(faulty: FakeRegistry) -> str:
    """It answers with a head, and then sends nothing."""
    faulty.stall("/v2/", asyncio.Event(), times=None)
    return faulty.url


def absent(_: FakeRegistry) -> str:
    """Connections to it are refused."""
    return f"http://{NOBODY}"


@each_runtime
@pytest.mark.parametrize("state", [limited, silent, absent])
def test_an_upstream_that_the_daemon_alone_cannot_use(
    faulty: FakeRegistry,
    origin: FakeRegistry,
    start: Start,
    place: Path,
    images: Images,
    state: Callable[[FakeRegistry], str],
    program: str,
) -> None:
    """The daemon says soon that it has nothing, in words that send the runtime past it."""
    node = start(before(state(faulty), transfer=TRANSFER))

    ran, whole = pulled(program, images, place / "own", Way(node.address, origin.name))

    assert 0 == ran.code, ran.err
    assert whole
    assert set() == blobs_of(node.root)
    assert "manifests/" in node.log


@each_runtime
def test_a_private_image_by_the_login_of_the_runtime(
    faulty: FakeRegistry, start: Start, place: Path, images: Images, program: str
) -> None:
    """Who has a login pulls as without us; who has none gets nothing, before that and after."""
    faulty.users = {"ann": "s3cret"}
    node = start(before(faulty.url, transfer=TRANSFER))
    way = Way(node.address, faulty.name)
    known = replace(way, login=("ann", "s3cret"))

    first, ann, last = (
        pulled(program, images, place / name, each)
        for name, each in (("first", way), ("ann", known), ("last", way))
    )

    assert 0 == ann.ran.code, ann.ran.err
    assert ann.whole
    for nobody in (first, last):
        assert nobody.ran.code != 0
        assert not nobody.whole


@each_runtime
def test_a_daemon_that_does_not_run(
    origin: FakeRegistry, place: Path, images: Images, program: str
) -> None:
    """Nothing listens at the mirror's address: the runtime goes to the registry itself."""
    ran, whole = pulled(program, images, place / "own", Way(NOBODY, origin.name))

    assert 0 == ran.code, ran.err
    assert whole


@each_runtime
def test_a_daemon_that_dies_in_the_middle_of_a_blob(
    faulty: FakeRegistry,
    origin: FakeRegistry,
    start: Start,
    place: Path,
    images: Images,
    program: str,
) -> None:
    """containerd and dockerd go on without it; the others fail, unless they try all of it again."""
    node = start(before(faulty.url, transfer={"stall_timeout": "60s"}))
    layer, size = largest_layer(images)
    faulty.stall(f"GET .*{layer}", asyncio.Event(), at=size // 2)

    with ThreadPoolExecutor(1) as pool:
        way = Way(node.address, origin.name)
        pull = pool.submit(pulled, program, images, place / "own", way)
        wait_for(lambda: faulty.sent[layer] >= size // 2, pull)
        node.process.kill()
        ran, whole = pull.result()

    assert whole == (0 == ran.code), ran.err
    # podman and buildah do so when the answer has not begun.
    assert whole == (program not in BOUND or "retrying" in ran.err)


def wait_for(claim: Callable[[], bool], pull: Future[Pulled]) -> None:
    """Look until the claim holds, as long as the pull goes on."""
    while not claim():
        assert not wait([pull], timeout=0.01).done, pull.result()
