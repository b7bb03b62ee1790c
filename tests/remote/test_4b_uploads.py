"""Uploads and deletions: rules 9, 10, 19 and 20 of what registries do (4b), against a scripted one.

More of 19 is in ``test_upload``, ``test_upload_rules`` and ``test_upload_journal``; more of 20 in
``test_referrers`` and ``test_subjects``.
"""

from __future__ import annotations

import pytest

from cache.content import Descriptor, Digest
from registryd.oci.errors import RegistryError, Unsupported
from registryd.oci.manifest import parse
from registryd.oci.reference import Reference
from registryd.secrets import Login, Secret
from tests.fakes.bodies import Opener
from tests.fakes.registry import FakeRegistry, make_artifact, make_image
from tests.fakes.tokens import FakeTokenServer
from tests.fakes.values import OCI_MANIFEST, point
from tests.remote.conftest import Connect

MIB = 2**20
ANN = Login("ann", Secret("secret-word"), origin="a test")
CONTENT = bytes(range(256)) * 4096 * 2  # 2 MiB
BLOB = Descriptor.of("application/octet-stream", CONTENT)


def methods(registry: FakeRegistry) -> list[str]:
    return [seen.method for seen in registry.requests]


@pytest.fixture
def repository(registry: FakeRegistry) -> Reference:
    return Reference(registry.name, "team/app")


# 9: mounts.


@pytest.mark.parametrize("absent", [202, 400, 401, 403, 404, 405, 409, 500])
@pytest.mark.parametrize("known", [True, False])
async def test_4b_09_whatever_a_mount_is_refused_with(
    guarded: FakeRegistry, tokens: FakeTokenServer, connect: Connect, absent: int, known: bool
) -> None:
    """202 goes on as an upload; all else begins a plain one, with a token for that alone."""
    repository = Reference(guarded.name, "team/app")
    guarded.traits = guarded.traits.but("uploads", mount_absent=absent)
    if not known:
        guarded.tokens = None
    client = await connect(guarded, ANN if known else None)
    assert not await client.mount_blob(repository, BLOB.digest, "else/where")

    began = len(guarded.lines("^POST"))
    await client.push_blob(repository, BLOB, Opener(CONTENT))

    assert CONTENT == guarded.repositories["team/app"].blobs[str(BLOB.digest)]
    assert (absent == 202) == (began == len(guarded.lines("^POST")))
    assert (0, 1) == (guarded.open_uploads, len(guarded.lines("^PUT")))


# 10: what success and absence look like.


@pytest.mark.parametrize("finished", [200, 201, 204])
async def test_4b_10_blob_is_there(
    registry: FakeRegistry, repository: Reference, connect: Connect, finished: int
) -> None:
    """200, 201 and 204 all end an upload."""
    registry.traits = registry.traits.but("uploads", finished=finished)
    client = await connect(registry)
    await client.push_blob(repository, BLOB, Opener(CONTENT))

    assert ["POST", "PUT"] == methods(registry)


@pytest.mark.parametrize("done", [200, 202, 204])
async def test_4b_10_deleted(registry: FakeRegistry, connect: Connect, done: int) -> None:
    """200, 202 and 204 all mean that it is gone; 404 means that it was gone already."""
    registry.add_image("team/app", "1.0", b"layer")
    registry.traits = registry.traits.but("manifests", delete=done).but("blobs", delete=done)
    tagged = Reference(registry.name, "team/app", "1.0")
    layer = Digest.of(b"layer")
    client = await connect(registry)

    assert [True, False] == [await client.delete_manifest(tagged) for _ in range(2)]
    assert [True, False] == [await client.delete_blob(tagged, layer) for _ in range(2)]


async def test_4b_10_deletion_is_switched_off(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """405 says that nothing is deleted there, and nothing is."""
    registry.traits = registry.traits.but("manifests", delete=405).but("blobs", delete=405)
    client = await connect(registry)
    with pytest.raises(Unsupported, match="does not delete"):
        await client.delete_manifest(image)
    with pytest.raises(Unsupported, match="does not delete"):
        await client.delete_blob(image, Digest.of(b"layer " * 1000))

    assert ["1.0"] == registry.repositories["team/app"].tags


# 19: uploads in chunks.


@pytest.mark.parametrize(
    "ways",
    [
        {},
        {"patched": 201, "reached": "0-{first}"},
        {"patched": 204, "reached": "bytes=0-{last}"},
        {"reached": ""},
        {"least": 17 * MIB, "says_least": True},
        {"location": "{session}?_state=a%2Fb"},
    ],
)
async def test_4b_19_chunks(
    registry: FakeRegistry, repository: Reference, connect: Connect, ways: dict[str, object]
) -> None:
    """Every chunk goes on where the last one ended, whatever Range says; small ones come last."""
    content = bytes(range(256)) * 4096 * 20
    blob = Descriptor.of("x", content)
    registry.traits = registry.traits.but("uploads", most_whole=MIB, **ways)
    client = await connect(registry)
    await client.push_blob(repository, blob, Opener(content))
    sent = registry.asked("^PATCH")

    assert content == registry.repositories["team/app"].blobs[str(blob.digest)]
    assert ["0", str(max(16, 17 if "least" in ways else 0) * MIB)] == [
        seen.headers["Content-Range"].partition("-")[0] for seen in sent
    ]
    for seen in registry.requests:
        assert "Expect" not in seen.headers
        assert "Transfer-Encoding" not in seen.headers


async def test_4b_19_chunks_that_are_too_long(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """416 to a chunk, and nothing taken: the registry says where it is, and gets smaller ones."""
    registry.traits = registry.traits.but("uploads", most_whole=1, most=MIB)
    client = await connect(registry)
    await client.push_blob(repository, BLOB, Opener(CONTENT))

    assert CONTENT == registry.repositories["team/app"].blobs[str(BLOB.digest)]
    assert [f"0-{MIB - 1}", f"{MIB}-{2 * MIB - 1}"] == [
        seen.headers["Content-Range"] for seen in registry.asked("^PATCH")[-2:]
    ]


async def test_4b_19_session_is_given_back_after_a_failure(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """What failed for good is cancelled, and its own error is what comes out."""
    registry.traits = registry.traits.but("uploads", cancelled=500)
    client = await connect(registry)
    with pytest.raises(RegistryError, match="did not match"):
        await client.push_blob(repository, BLOB, Opener(bytes(len(CONTENT))))

    assert "DELETE" == methods(registry)[-1]


# 20: referrers.


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("page", [0, 1, 2])
async def test_4b_20_filter_and_pages(
    registry: FakeRegistry, connect: Connect, filters: bool, page: int
) -> None:
    """OCI-Filters-Applied absent: we filter; the list may be paged."""
    subject = make_image(b"layer")
    registry.add_manifest("team/app", "1.0", subject)
    for number, kind in enumerate(["a/sbom", "a/signature"] * 2):
        raw = make_artifact(point(OCI_MANIFEST, subject), kind, {"nr": str(number)})
        registry.add_manifest("team/app", "", raw)
    registry.traits = registry.traits.but("lists", filters=filters, referrers_page=page)
    client = await connect(registry)
    repository = Reference(registry.name, "team/app")
    found = await client.referrers(repository, Digest.of(subject), artifact_type="a/sbom")

    assert ["a/sbom"] * 2 == [entry.artifact_type for entry in found.entries]
    assert 4 == len((await client.referrers(repository, Digest.of(subject))).entries)


@pytest.mark.parametrize("api", [True, False])
async def test_4b_20_subject(registry: FakeRegistry, connect: Connect, api: bool) -> None:
    """Without OCI-Subject, and without the API, the tag sha256-HEX lists what was pushed."""
    subject = make_image(b"layer")
    registry.add_manifest("team/app", "1.0", subject)
    registry.traits = registry.traits.but("lists", referrers=api)
    artifact = parse(make_artifact(point(OCI_MANIFEST, subject), "a/sbom"))
    repository = Reference(registry.name, "team/app")
    client = await connect(registry)
    if not await client.push_manifest(repository, artifact):
        await client.note_subject(repository, artifact)
    tag = f"sha256-{Digest.of(subject).hex}"

    assert (not api) == (tag in registry.repositories["team/app"].tags)
    found = await client.referrers(repository, Digest.of(subject))
    assert [artifact.digest] == [entry.descriptor.digest for entry in found.entries]


async def test_4b_20_subject_that_is_not_taken(
    registry: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """A registry from before says no to a subject, and why is in the line."""
    subject = registry.repositories["team/app"].manifests["1.0"][1]
    registry.traits = registry.traits.but("manifests", takes_subject=False)
    client = await connect(registry)
    with pytest.raises(RegistryError, match="it has a subject"):
        await client.push_manifest(
            image, parse(make_artifact(point(OCI_MANIFEST, subject), "a/sbom"))
        )
