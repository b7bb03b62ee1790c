"""What the configuration says of tags, obeyed: registries left alone, pins, tags that are gone."""

import pytest

from cache.content import Digest
from cache.store import BlobStore
from registryd.oci.errors import Denied, ManifestUnknown
from registryd.oci.reference import Reference
from registryd.ports import Offline
from registryd.remote.client import RegistryClient
from registryd.remote.offline import SilentRegistry
from tests.fakes.clock import FakeClock
from tests.fakes.registry import OCI_MANIFEST, FakeRegistry
from tests.transfer.conftest import Configured

LAYER = b"layer " * 1000


# offline, pins


async def test_an_offline_registry(
    configured: Configured, upstream: FakeRegistry, tag: Reference,
    held: Digest, clock: FakeClock,
) -> None:  # fmt: skip
    """What is held is given at once, within its time too, and said to be so; the rest is refused
    in words that name the setting."""
    library = configured(offline=True)
    silent = SilentRegistry.configured(upstream.name)
    found = await library.find(silent, tag, fresh=True)
    by_digest = await library.find(silent, tag.with_digest(held))

    assert found.stale is not None
    assert (held, "offline") == (found.document.digest, found.stale.cause)
    assert (held, None) == (by_digest.document.digest, by_digest.stale)
    with pytest.raises(Offline, match=r"is offline by configuration .* offline = true"):
        await library.find(silent, tag.with_tag("2"))


@pytest.mark.parametrize("is_held", [True, False])
async def test_a_pinned_tag(
    configured: Configured, upstream: FakeRegistry, remote: RegistryClient,
    tag: Reference, store: BlobStore, is_held: bool,
) -> None:  # fmt: skip
    """It means its digest, fresh or not: the tag is never asked for, the digest only when it is
    not here; and the name stands for it in the list."""
    pin = Digest.parse(upstream.add_image("team/app", "", LAYER))
    upstream.add_image("team/app", "1", b"something else")
    library = configured(pins={"team/app:1": str(pin)})
    if is_held:
        await library.document(remote, tag.with_digest(pin))
    before = len(upstream.requests)
    found = await library.find(remote, tag, fresh=True)
    asked = upstream.requests[before:]
    meaning = await library.tags.resolve(remote, tag)
    name = await store.resolve(str(tag))

    assert (pin, pin) == (found.document.digest, meaning.descriptor.digest)
    wanted = [] if is_held else [f"GET /v2/team/app/manifests/{pin}"]
    assert wanted == [seen.line for seen in asked]
    assert name is not None and pin == name.descriptor.digest


async def test_a_pin_that_is_not_held_is_asked_for_by_digest(
    configured: Configured, upstream: FakeRegistry, remote: RegistryClient,
    tag: Reference, clock: FakeClock,
) -> None:  # fmt: skip
    """What it is can be told without fetching it."""
    pin = upstream.add_image("team/app", "", b"pinned")
    library = configured(pins={"team/app:1": pin})
    found = await library.resolve(remote, tag)

    assert (pin, OCI_MANIFEST) == (str(found.digest), found.media_type)
    assert [f"HEAD /v2/team/app/manifests/{pin}"] == upstream.lines()


# proof that one may read


async def test_proof_of_a_tag_that_is_gone(
    configured: Configured, upstream: FakeRegistry, remote: RegistryClient,
    tag: Reference, held: Digest, clock: FakeClock,
) -> None:  # fmt: skip
    """Where missing tags are served, the list of tags is what proves access to them; a registry
    that refuses that too has let nobody in, and nothing is proven for what is not held."""
    serving = configured(missing_tags="serve").tags
    refusing = configured().tags
    del upstream.repositories["team/app"].manifests["1"]
    await serving.prove(remote, tag)
    asked = upstream.lines("tags/list")

    assert 1 == len(asked)
    for tags, reference in ((refusing, tag), (serving, tag.with_tag("none"))):
        with pytest.raises(ManifestUnknown):
            await tags.prove(remote, reference)
    upstream.answer("tags/list", 403, times=None)
    with pytest.raises(Denied):
        await serving.prove(remote, tag)


async def test_proof_of_a_pinned_tag(
    configured: Configured, upstream: FakeRegistry, remote: RegistryClient,
    tag: Reference, held: Digest, clock: FakeClock,
) -> None:  # fmt: skip
    """Who may read the digest may read the tag that is pinned to it."""
    tags = configured(pins={"team/app:gone": str(held)}).tags
    before = len(upstream.requests)
    await tags.prove(remote, tag.with_tag("gone"))

    assert [f"HEAD /v2/team/app/manifests/{held}"] == [s.line for s in upstream.requests[before:]]
