"""Mounts and manifests: what is pushed without bytes, and what comes last."""

from __future__ import annotations

import pytest

from cache.content import Descriptor
from registryd.oci.errors import (
    Denied,
    ManifestInvalid,
    NameUnknown,
)
from registryd.oci.manifest import parse
from registryd.oci.reference import Reference
from registryd.remote import upload
from registryd.secrets import Login, Secret
from tests.fakes.bodies import Opener
from tests.fakes.registry import OCI_MANIFEST, FakeRegistry, make_image
from tests.fakes.tokens import FakeTokenServer
from tests.remote.conftest import Connect

CONTENT = b"0123456789abcdef" * 20_000
BLOB = Descriptor.of("application/octet-stream", CONTENT)
UPLOADS = "/v2/team/app/blobs/uploads/"


@pytest.fixture
def repository(registry: FakeRegistry) -> Reference:
    return Reference(registry.name, "team/app")


def held(registry: FakeRegistry) -> bytes | None:
    found = registry.repositories.get("team/app")
    return None if found is None else found.blobs.get(str(BLOB.digest))


def methods(registry: FakeRegistry) -> list[str]:
    return [seen.method for seen in registry.requests]


async def test_has_blob(registry: FakeRegistry, repository: Reference, connect: Connect) -> None:
    """HEAD tells whether a blob is there."""
    client = await connect(registry)

    assert not await client.has_blob(repository, BLOB.digest)

    registry.add_blob("team/app", CONTENT)

    assert await client.has_blob(repository, BLOB.digest)


async def test_4b_09_mount(registry: FakeRegistry, repository: Reference, connect: Connect) -> None:
    """201 to a mount: the blob is there, and no byte was sent (9)."""
    registry.add_blob("team/base", CONTENT)
    client = await connect(registry)

    assert await client.mount_blob(repository, BLOB.digest, "team/base")
    assert CONTENT == held(registry)
    assert 1 == len(registry.requests)


async def test_4b_09_mount_that_begins_an_upload(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """202 to a mount is an upload session, and the upload that follows goes on with it (9)."""
    registry.mounts = False
    client = await connect(registry)

    assert not await client.mount_blob(repository, BLOB.digest, "team/base")
    await client.push_blob(repository, BLOB, Opener(CONTENT))

    assert CONTENT == held(registry)
    assert ["POST", "PUT"] == methods(registry)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
async def test_4b_09_refused_mount_is_an_upload(
    registry: FakeRegistry, repository: Reference, connect: Connect, status: int
) -> None:
    """Whatever else is said to a mount means: upload it (9)."""
    registry.answer("mount=", status)
    client = await connect(registry)

    assert not await client.mount_blob(repository, BLOB.digest, "team/base")
    await client.push_blob(repository, BLOB, Opener(CONTENT))

    assert CONTENT == held(registry)


async def test_mount_asks_for_the_source_only_with_a_login(
    guarded: FakeRegistry, tokens: FakeTokenServer, connect: Connect
) -> None:
    """The scope of the source is asked for where there is a login (2.19)."""
    client = await connect(guarded, Login("ann", Secret("secret-word")))
    await client.mount_blob(Reference(guarded.name, "team/app"), BLOB.digest, "team/base")

    assert [("repository:team/app:pull,push", "repository:team/base:pull")] == tokens.scopes

    tokens.scopes.clear()
    client = await connect(guarded)
    await client.mount_blob(Reference(guarded.name, "team/app"), BLOB.digest, "team/base")

    assert [("repository:team/app:pull,push",)] == tokens.scopes


async def test_mounts_that_no_upload_follows(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """Of the sessions that refused mounts have begun only the newest are kept."""
    client = await connect(registry)
    contents = [b"%d" % number for number in range(upload.KEPT_SESSIONS + 1)]
    blobs = [Descriptor.of("application/octet-stream", content) for content in contents]
    for blob in blobs:
        await client.mount_blob(repository, blob.digest, "team/base")
    before = len(registry.lines("POST"))
    await client.push_blob(repository, blobs[-1], Opener(contents[-1]))
    reused = len(registry.lines("POST"))
    await client.push_blob(repository, blobs[0], Opener(contents[0]))

    assert (before, before + 1) == (reused, len(registry.lines("POST")))


async def test_asking_whether_one_may_push(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """A session is opened and given back; a registry's no to that comes out."""
    client = await connect(registry)
    await client.ask_push(repository)
    assert (["POST", "DELETE"], 0) == (methods(registry), registry.open_uploads)

    registry.answer("POST", 404)
    with pytest.raises(NameUnknown, match="cannot push to"):
        await client.ask_push(repository)


async def test_push_manifest(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """A manifest goes out as it is, with its own media type, to its tag or its digest."""
    raw = make_image(CONTENT)
    document = parse(raw)
    client = await connect(registry)
    await client.push_manifest(repository.with_tag("1.0"), document)
    await client.push_manifest(repository, document)

    assert (OCI_MANIFEST, raw) == registry.repositories["team/app"].manifests["1.0"]
    assert ["/1.0", f"/{document.digest}"] == [
        seen.path.removeprefix("/v2/team/app/manifests") for seen in registry.requests
    ]


async def test_tag_wins_over_digest_when_pushing(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """A reference with both is pushed to its tag."""
    document = parse(make_image(CONTENT))
    both = Reference(registry.name, "team/app", "1.0", document.digest)
    client = await connect(registry)
    await client.push_manifest(both, document)

    assert ["1.0"] == registry.repositories["team/app"].tags


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_4b_10_manifest_success_has_several_statuses(
    registry: FakeRegistry, repository: Reference, connect: Connect, status: int
) -> None:
    """200, 201, 202 and 204 all mean that it is there (10)."""
    registry.answer("^PUT", status)
    client = await connect(registry)
    await client.push_manifest(repository.with_tag("1.0"), parse(make_image(CONTENT)))


async def test_refused_manifest(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """What the registry says is in the line; a refusal by its rules is Denied."""
    client = await connect(registry)
    document = parse(make_image(CONTENT))
    body = '{"errors":[{"code":"MANIFEST_INVALID","message":"no such config"}]}'
    registry.answer("^PUT", 400, body, Content_Type="application/json")
    with pytest.raises(ManifestInvalid, match=r"cannot push .*no such config"):
        await client.push_manifest(repository.with_tag("1.0"), document)
    registry.answer("^PUT", 403)
    with pytest.raises(Denied):
        await client.push_manifest(repository.with_tag("1.0"), document)
