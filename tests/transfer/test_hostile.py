"""Registries that mean harm: whatever their manifests say, a pull or a copy ends in a Fault."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from cache.content import Digest
from cache.errors import DigestMismatch, Fault, SizeMismatch
from cache.store import BlobStore
from registryd.oci.errors import BlobUnknown, ManifestInvalid, ManifestUnknown
from registryd.oci.fields import ENTRIES_LIMIT
from registryd.oci.manifest import MANIFEST_LIMIT
from registryd.oci.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.transfer.copy import DEPTH_LIMIT, copy_image
from registryd.transfer.endpoints import RegistrySource
from registryd.transfer.library import Library
from registryd.transfer.pull import Request, pull
from tests.fakes.endpoints import MemorySink
from tests.fakes.registry import FakeRegistry, digest_of, make_image, make_index
from tests.fakes.values import point

AMD64 = Platform("linux", "amd64")
CONFIG = b'{"os":"linux","architecture":"amd64"}'

Act = Callable[[], Awaitable[object]]


@pytest.fixture(params=["pull", "pull everything", "copy"])
def act(
    request: pytest.FixtureRequest,
    library: Library,
    store: BlobStore,
    remote: RegistryClient,
    app: Reference,
) -> Act:
    """What is done with team/app:1."""
    reference = app.with_tag("1")
    if request.param == "copy":
        return lambda: copy_image(RegistrySource(remote, reference), MemorySink())
    wanted = Request(reference, remote, AMD64, everything=request.param != "pull")
    return lambda: pull(library, store, wanted, lambda event: None)


def put(upstream: FakeRegistry, raw: bytes, kind: str = OCI_INDEX) -> None:
    upstream.add_manifest("team/app", "1", raw, kind)


def missing(number: int, kind: str, size: int = 5) -> dict[str, object]:
    """A descriptor of what is not there."""
    return {"mediaType": kind, "digest": digest_of(b"%d" % number), "size": size}


async def test_indexes_in_indexes(upstream: FakeRegistry, act: Act) -> None:
    """A hundred indexes, each in the next: after a few we stop asking."""
    raw = make_image(b"layer")
    kind = OCI_MANIFEST
    for _ in range(100):
        upstream.add_manifest("team/app", "", raw, kind)
        raw, kind = make_index(point(kind, raw)), OCI_INDEX
    put(upstream, raw)
    with pytest.raises(ManifestInvalid, match="indexes in indexes"):
        await act()

    assert len(upstream.lines("manifests")) <= DEPTH_LIMIT + 3


@pytest.mark.parametrize("others", [0, 1])
async def test_an_index_that_claims_to_hold_itself(
    upstream: FakeRegistry, act: Act, others: int
) -> None:
    """No digest can stand in its own content: who serves a circle serves a wrong digest."""
    names = [digest_of(b"%d" % number) for number in range(2 + others)]
    ring = [*names, names[0]]
    for here, after in pairwise(ring):
        raw = make_index({"mediaType": OCI_INDEX, "digest": after, "size": 300})
        upstream.add_manifest("team/app", "1", raw, OCI_INDEX)
        upstream.repositories["team/app"].manifests[here] = (OCI_INDEX, raw)
    with pytest.raises((DigestMismatch, SizeMismatch)):
        await act()

    assert len(upstream.lines("manifests")) <= 6


@pytest.mark.parametrize(
    ("act", "number", "size", "kind", "asked"),
    [
        ("copy", ENTRIES_LIMIT, MANIFEST_LIMIT, ManifestInvalid, 1),
        ("copy", ENTRIES_LIMIT, 5, ManifestUnknown, 20),
        ("pull everything", ENTRIES_LIMIT + 1, 5, ManifestInvalid, 2),
        ("pull", ENTRIES_LIMIT + 1, 5, ManifestInvalid, 2),
    ],
    indirect=["act"],
)
async def test_ten_thousand_entries(
    upstream: FakeRegistry, act: Act, number: int, size: int, kind: type[Fault], asked: int
) -> None:
    """Too many, too large, or not there: the first one that is wrong is the last one asked for."""
    put(upstream, make_index(*(missing(each, OCI_MANIFEST, size) for each in range(number))))
    with pytest.raises(kind):
        await act()

    assert len(upstream.lines("manifests")) <= asked


@pytest.mark.parametrize("act", ["copy"], indirect=True)
async def test_ten_thousand_layers(upstream: FakeRegistry, act: Act) -> None:
    """None of them there: the first one ends it."""
    members = json.loads(make_image(config=CONFIG))
    members["layers"] = [missing(each, OCI_LAYER) for each in range(ENTRIES_LIMIT)]
    upstream.add_blob("team/app", CONFIG)
    put(upstream, json.dumps(members).encode(), OCI_MANIFEST)
    with pytest.raises(BlobUnknown):
        await act()

    assert len(upstream.lines("blobs")) <= 40


@pytest.mark.parametrize("size", [0, 1, 10**6, 2**63 - 1])
async def test_sizes_that_are_not_true(upstream: FakeRegistry, act: Act, size: int) -> None:
    """A layer that is longer, or shorter, or as long as no disk is: an error, and nothing kept."""
    upstream.add_blob("team/app", b"layer")
    upstream.add_blob("team/app", CONFIG)
    members = json.loads(make_image(config=CONFIG))
    members["layers"] = [{**point(OCI_LAYER, b"layer"), "size": size}]
    put(upstream, json.dumps(members).encode(), OCI_MANIFEST)
    with pytest.raises(Fault):
        await act()


async def test_a_config_without_end(
    upstream: FakeRegistry, store: BlobStore, remote: RegistryClient, app: Reference
) -> None:
    """A config that is announced as larger than configs are is not read for its platform."""
    members = json.loads(make_image(config=CONFIG))
    members["config"] = {**point(OCI_CONFIG, CONFIG), "size": 2**40}
    put(upstream, json.dumps(members).encode(), OCI_MANIFEST)
    source = RegistrySource(remote, app.with_tag("1"))
    with pytest.raises(ManifestInvalid, match="are too many"):
        await copy_image(source, MemorySink(), platforms=[AMD64])

    assert [] == upstream.lines("blobs")


@pytest.mark.parametrize("raw", [b"[" * 10**6, b"\xff\xfe", b'{"schemaVersion":2,"a":NaN}', b""])
async def test_what_is_no_manifest(upstream: FakeRegistry, act: Act, raw: bytes) -> None:
    """Bytes that are none end it at once."""
    put(upstream, raw)
    with pytest.raises(Fault):
        await act()

    assert len(upstream.lines("manifests")) <= 2


async def test_a_child_that_is_other_bytes(upstream: FakeRegistry, act: Act) -> None:
    """The digest decides, whatever the registry says that it sends."""
    image = make_image(b"layer")
    put(upstream, make_index({**point(OCI_MANIFEST, image), "platform": _amd64()}))
    digest = digest_of(image)
    upstream.repositories["team/app"].manifests[digest] = (OCI_MANIFEST, make_image(b"other"))
    upstream.header("manifests/sha256", "Docker-Content-Digest", digest)
    with pytest.raises(DigestMismatch, match=str(Digest.parse(digest))):
        await act()


def _amd64() -> dict[str, str]:
    return {"os": "linux", "architecture": "amd64"}
