"""Who is admitted where signatures are wanted: verdicts, what they say, how long they hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
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
    found = await asyncio.gather(*(guarded.find(remote, tag) for _ in range(5)))
    await guarded.find(remote, tag)

    assert {signer.public} == {each.verified for each in found}
    assert len(upstream.lines(r"/manifests/.*\.sig")) == 2


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


@pytest.mark.parametrize("reload", [True, False])
async def test_a_key_that_is_taken_away(
    guarded: Library,
    remote: RegistryClient,
    tag: Reference,
    upstream: FakeRegistry,
    sign: Sign,
    signer: Signer,
    clock: FakeClock,
    reload: bool,
) -> None:
    """A verdict is remembered until a reload, or for a short while; then the key is read anew."""
    sign(digest_in(upstream, "1"))
    await guarded.find(remote, tag)
    key = signer.public.read_bytes()
    signer.public.write_bytes(Signer.make(signer.public).public.read_bytes())
    assert key != signer.public.read_bytes()
    await guarded.find(remote, tag)
    if reload:
        guarded.admission.take_over({f"{tag.registry}/team": SignatureConfig((signer.public,))})
    else:
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
    """Some runtimes unpack whatever a layer is called: a manifest that calls its layers payloads
    is given by digest or another tag only when each is signed; by cosign's tag, to who asks."""
    digest = digest_in(upstream, "1")
    sign(digest)
    signatures = tag_of(str(digest))
    manifests = upstream.repositories["team/app"].manifests
    good = json.loads(manifests[signatures][1])
    layer = json.loads(manifests["1"][1])["layers"][0] | {"annotations": {}}
    mixed, false = dict(good), dict(good)
    mixed["layers"] = [*good["layers"], layer]
    renamed = good["layers"][0] | {"digest": layer["digest"], "size": layer["size"]}
    false["layers"] = [*good["layers"], renamed]
    unsigned = good | {"layers": [renamed | {"annotations": {}}]}
    hidden = good | {"layers": [*good["layers"], renamed | {"annotations": {}}]}
    for content in (mixed, false, unsigned, hidden):
        raw = json.dumps(content).encode()
        found = Digest.parse(upstream.add_manifest("team/app", "moved", raw))
        misnamed = replace(tag, tag=signatures, digest=found)
        for reference in (tag.with_digest(found), tag.with_tag("moved"), misnamed):
            with pytest.raises(SignatureInvalid):
                await guarded.find(remote, reference, fresh=True)

    await guarded.find(remote, tag.with_digest(Digest.of(manifests[signatures][1])))
    assert None is (await guarded.find(remote, tag.with_tag(signatures))).verified


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
    with pytest.raises(SignatureInvalid, match=f"{tag.name}@{digest} is not admitted") as caught:
        await guarded.find(remote, tag)

    assert not fault.isdigit() or "could not be had" in str(caught.value)
