"""Who is admitted where signatures are wanted: verdicts, what they say, how long they hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cache.content import Digest
from cache.store import BlobStore
from registryd.config import SignatureConfig
from registryd.oci.errors import SignatureInvalid
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.transfer.admission import FRESH, Admission
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library
from registryd.transfer.tag_policy import TagPolicy
from tests.fakes.clock import FakeClock
from tests.fakes.cosign import Signer, manifest_of, payload_of, tag_of
from tests.fakes.registry import OCI_MANIFEST, FakeRegistry


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.make(tmp_path / "cosign.pub")


@pytest.fixture
def admission(store: BlobStore, app: Reference, signer: Signer, clock: FakeClock) -> Admission:
    """``team`` has to be signed by the signer."""
    rules = {f"{app.registry}/team": SignatureConfig((signer.public,))}
    return Admission(rules, store, clock=lambda: clock.now)


@pytest.fixture
def guarded(
    store: BlobStore,
    flights: Flights,
    policy: TagPolicy,
    clock: FakeClock,
    admission: Admission,
) -> Library:
    return Library(store, flights, policy=policy, clock=lambda: clock.now, admission=admission)


Sign = Callable[..., None]


@pytest.fixture
def sign(upstream: FakeRegistry, signer: Signer) -> Sign:
    """Signs a digest, under cosign's tag or attached by ``subject``."""

    def sign_(digest: Digest, *, attached: bool = False) -> None:
        payload = payload_of("team/app", str(digest))
        subject = {"mediaType": OCI_MANIFEST, "digest": str(digest), "size": 1}
        signed = (payload, signer.sign(payload))
        raw, config = manifest_of(signed, subject=subject if attached else None)
        for blob in (payload, config):
            upstream.add_blob("team/app", blob)
        upstream.add_manifest("team/app", "" if attached else tag_of(str(digest)), raw)

    return sign_


def digest_in(upstream: FakeRegistry, tag: str) -> Digest:
    return Digest.of(upstream.repositories["team/app"].manifests[tag][1])


@pytest.mark.parametrize("attached", [False, True])
async def test_admitted(
    guarded: Library,
    remote: RegistryClient,
    tag: Reference,
    upstream: FakeRegistry,
    sign: Sign,
    signer: Signer,
    attached: bool,
) -> None:
    """By cosign's tag, and by what is attached to the image; judged once for all who ask."""
    with pytest.raises(SignatureInvalid):
        await guarded.find(remote, tag)
    sign(digest_in(upstream, "1"), attached=attached)
    asked = len(upstream.requests)
    found = await asyncio.gather(*(guarded.find(remote, tag) for _ in range(5)))
    await guarded.find(remote, tag)

    assert {signer.public} == {each.verified for each in found}
    assert len(upstream.lines(r"/manifests/.*\.sig")) == 2
    assert len(upstream.requests) - asked <= 5


async def test_a_tag_that_is_replaced(
    guarded: Library, remote: RegistryClient, tag: Reference, upstream: FakeRegistry, sign: Sign
) -> None:
    """What was said of one digest says nothing of the next one; the old one stays admitted."""
    old = digest_in(upstream, "1")
    sign(old)
    await guarded.find(remote, tag)
    upstream.add_image("team/app", "1", b"something else")
    with pytest.raises(SignatureInvalid, match="no signature by"):
        await guarded.find(remote, tag, fresh=True)

    assert old == (await guarded.document(remote, tag.with_digest(old))).digest


async def test_a_key_that_is_taken_away(
    guarded: Library,
    remote: RegistryClient,
    tag: Reference,
    upstream: FakeRegistry,
    sign: Sign,
    signer: Signer,
    clock: FakeClock,
) -> None:
    """A verdict is remembered for a short while; then the key counts as it is now."""
    sign(digest_in(upstream, "1"))
    await guarded.find(remote, tag)
    key = signer.public.read_bytes()
    signer.public.write_bytes(Signer.make(signer.public).public.read_bytes())
    assert key != signer.public.read_bytes()
    await guarded.find(remote, tag)
    clock.now += FRESH
    with pytest.raises(SignatureInvalid):
        await guarded.find(remote, tag)


async def test_a_reload_forgets_verdicts(
    guarded: Library,
    remote: RegistryClient,
    tag: Reference,
    upstream: FakeRegistry,
    sign: Sign,
    tmp_path: Path,
) -> None:
    """New rules count at once."""
    sign(digest_in(upstream, "1"))
    await guarded.find(remote, tag)
    other = Signer.make(tmp_path / "other.pub").public
    guarded.admission.take_over({tag.registry: SignatureConfig((other,))})
    with pytest.raises(SignatureInvalid, match=r"other\.pub"):
        await guarded.find(remote, tag)
    guarded.admission.take_over({})
    await guarded.find(remote, tag)


async def test_no_image_passes_for_a_signature(
    guarded: Library, remote: RegistryClient, tag: Reference, upstream: FakeRegistry, sign: Sign
) -> None:
    """Under cosign's tag too: only what carries nothing but payloads is given without one."""
    digest = digest_in(upstream, "1")
    upstream.add_manifest("team/app", tag_of("sha256:" + "a" * 64), manifest(upstream))
    for target in (tag_of("sha256:" + "a" * 64), "1"):
        with pytest.raises(SignatureInvalid):
            await guarded.find(remote, tag.with_tag(target))
    sign(digest)
    await guarded.find(remote, tag.with_tag(tag_of(str(digest))))


def manifest(upstream: FakeRegistry) -> bytes:
    """The image with one layer more, which is called a payload."""
    content = json.loads(upstream.repositories["team/app"].manifests["1"][1])
    kind = "application/vnd.dev.cosign.simplesigning.v1+json"
    content["layers"].append({**content["layers"][0], "mediaType": kind})
    return json.dumps(content).encode()


@pytest.mark.parametrize("fault", ["401", "500", "short payload", "long payload", "wrong payload"])
async def test_what_stands_in_the_way_is_a_no(
    guarded: Library,
    remote: RegistryClient,
    tag: Reference,
    upstream: FakeRegistry,
    sign: Sign,
    signer: Signer,
    fault: str,
) -> None:
    """A registry that fails or lies about a signature admits nothing."""
    digest = digest_in(upstream, "1")
    sign(digest)
    blobs = upstream.repositories["team/app"].blobs
    payload = str(Digest.of(payload_of("team/app", str(digest))))
    if fault.isdigit():
        upstream.answer(r"\.sig", int(fault), times=None)
    elif fault == "short payload":
        upstream.cut(f"/blobs/{payload}", 10, times=None)
    elif fault == "long payload":
        blobs[payload] += b" "
    else:
        blobs[payload] = blobs[payload].replace(b"team", b"mean")
    with pytest.raises(SignatureInvalid, match=f"{tag.name}@{digest} is not admitted"):
        await guarded.find(remote, tag)
