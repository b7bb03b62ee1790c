"""What is attached to a manifest: by the API, by the tag, and where registries get it wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from cache.content import Digest
from registryd.oci.errors import BadAnswer, Denied, Unsupported
from registryd.oci.manifest import Index
from registryd.oci.reference import Reference
from registryd.remote import referrers
from registryd.remote.client import RegistryClient
from tests.fakes.referrers import OCI_INDEX, ReferrersRegistry, make_artifact, point
from tests.fakes.registry import make_image
from tests.remote.conftest import Connect

IMAGE = make_image(b"layer")
SUBJECT = Digest.of(IMAGE)
TAG = f"sha256-{SUBJECT.hex}"


@pytest.fixture
async def registry() -> AsyncIterator[ReferrersRegistry]:
    async with ReferrersRegistry().serve() as server:
        server.add_manifest("team/app", "1", IMAGE)
        yield server


@pytest.fixture
async def client(registry: ReferrersRegistry, connect: Connect) -> RegistryClient:
    return await connect(registry)


@pytest.fixture
def repository(registry: ReferrersRegistry) -> Reference:
    return Reference(registry.name, "team/app")


def digests(index: Index) -> set[str]:
    return {str(entry.descriptor.digest) for entry in index.entries}


def put_tag(registry: ReferrersRegistry, *manifests: bytes, **more: object) -> None:
    """Write the tag that stands in for the list."""
    entries = [point(raw) | {"artifactType": json.loads(raw)["artifactType"]} for raw in manifests]
    members = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, **more}
    registry.add_manifest("team/app", TAG, json.dumps(members).encode(), OCI_INDEX)


async def test_4b_20_all_pages_of_the_api(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """Every page is followed; entries have their type and annotations; nothing else is asked."""
    registry.entries = 2
    attached = {registry.attach("team/app", IMAGE, "text/sbom", nr=str(n)) for n in range(5)}
    found = await client.referrers(repository, SUBJECT)

    assert attached == digests(found)
    assert {"0", "1", "2", "3", "4"} == {entry.annotations["nr"] for entry in found.entries}
    assert {"text/sbom"} == {entry.artifact_type for entry in found.entries}
    assert 3 == len(registry.requests) == len(registry.lines(f"/referrers/{SUBJECT}"))


@pytest.mark.parametrize("api", [True, False], ids=["api", "tag"])
@pytest.mark.parametrize("filters", [True, False], ids=["filters", "lists-all"])
async def test_4b_20_only_one_type(
    registry: ReferrersRegistry,
    client: RegistryClient,
    repository: Reference,
    api: bool,
    filters: bool,
) -> None:
    """A filter that is not said to be applied is applied here, in every page (20)."""
    registry.entries, registry.filters, registry.api = 1, filters, api
    kinds = ("text/sbom", "text/signature", "text/sbom")
    for number, kind in enumerate(kinds):
        registry.attach("team/app", IMAGE, kind, nr=str(number))
    put_tag(registry, *(make_artifact(IMAGE, k, nr=str(n)) for n, k in enumerate(kinds)))
    found = await client.referrers(repository, SUBJECT, artifact_type="text/sbom")

    assert ["text/sbom"] * 2 == [entry.artifact_type for entry in found.entries]
    assert registry.lines("artifactType=text%2Fsbom")


async def test_no_referrers_and_no_repository(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """An empty list is an answer, with the API and without."""
    assert () == (await client.referrers(repository, SUBJECT)).entries

    registry.api = False
    nowhere = Reference(registry.name, "team/none")

    assert () == (await client.referrers(repository, SUBJECT)).entries
    assert () == (await client.referrers(nowhere, SUBJECT)).entries


async def test_the_way_is_forced(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """``api`` never asks for the tag, and says when there is no API; ``tag`` asks for it alone."""
    by_api = registry.attach("team/app", IMAGE, "text/sbom")
    put_tag(registry, make_artifact(IMAGE, "text/signature"))

    assert {by_api} == digests(await client.referrers(repository, SUBJECT, way="api"))
    assert [f"GET /v2/team/app/referrers/{SUBJECT}"] == registry.lines()

    registry.requests.clear()
    by_tag = await client.referrers(repository, SUBJECT, way="tag")

    assert ["text/signature"] == [entry.artifact_type for entry in by_tag.entries]
    assert [f"GET /v2/team/app/manifests/{TAG}"] == registry.lines()

    registry.api = False
    with pytest.raises(Unsupported, match="has no referrers API"):
        await client.referrers(repository, SUBJECT, way="api")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, "<html>", "text/html"),
        (405, "", ""),
        (400, '{"errors":[]}', "application/json"),
        (200, "<html>hello</html>", "text/html"),
        (200, IMAGE, "application/vnd.oci.image.manifest.v1+json"),
    ],
)
async def test_what_is_no_api(
    registry: ReferrersRegistry,
    client: RegistryClient,
    repository: Reference,
    status: int,
    body: str | bytes,
    kind: str,
) -> None:
    """Whatever else is served under this path is no API: the tag is what counts."""
    registry.answer("/referrers/", status, body, Content_Type=kind)
    put_tag(registry, make_artifact(IMAGE))

    assert 1 == len((await client.referrers(repository, SUBJECT)).entries)


async def test_no_access_is_no_empty_list(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """A refusal comes out as what it is, from the API and from the tag."""
    registry.answer("/referrers/", 403)
    with pytest.raises(Denied):
        await client.referrers(repository, SUBJECT)
    registry.api = False
    registry.answer("/manifests/", 403)
    with pytest.raises(Denied):
        await client.referrers(repository, SUBJECT)


@pytest.mark.parametrize("index", [False, True])
async def test_tag_that_is_the_subject_itself(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference, index: bool
) -> None:
    """A registry may give the manifest itself for sha256-HEX: that is no list (2.22)."""
    registry.api = False
    raw = IMAGE
    if index:
        members = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [point(IMAGE)]}
        raw = json.dumps(members).encode()
    kind = json.loads(raw)["mediaType"]
    subject = Digest.of(raw)
    registry.add_manifest("team/app", f"sha256-{subject.hex}", raw, kind)

    assert () == (await client.referrers(repository, subject)).entries


async def test_index_under_the_tag_that_is_an_image(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """Images by platform, the subject itself and what is no manifest are no referrers."""
    registry.api = False
    entries = [
        point(make_image(b"other")) | {"platform": {"os": "linux", "architecture": "amd64"}},
        point(IMAGE),
        {"mediaType": "text/plain", "digest": str(Digest.of(b"x")), "size": 1},
    ]
    put_tag(registry, make_artifact(IMAGE))
    members = json.loads(registry.repositories["team/app"].manifests[TAG][1])
    members["manifests"] += entries
    registry.add_manifest("team/app", TAG, json.dumps(members).encode(), OCI_INDEX)
    found = await client.referrers(repository, SUBJECT)

    assert {str(Digest.of(make_artifact(IMAGE)))} == digests(found)


async def test_pages_that_loop_or_lead_away(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """A page that links to itself is the last one; one on another host is not followed (2.26)."""
    attached = registry.attach("team/app", IMAGE)
    path = f"/v2/team/app/referrers/{SUBJECT}"
    registry.header("/referrers/", "Link", f'<{path}>; rel="next"')
    found = await client.referrers(repository, SUBJECT)

    assert ({attached}, 1) == (digests(found), len(registry.requests))

    for at, then in (("from=1", "from=2"), ("from=2", "from=1")):
        registry.header(f"/referrers/.*{at}", "Link", f'<{path}?{then}>; rel="next"')
    registry.header(f"/referrers/{SUBJECT}$", "Link", f'<{path}?from=1>; rel="next"')
    registry.requests.clear()
    await client.referrers(repository, SUBJECT)

    assert 3 == len(registry.requests)

    registry.header("/referrers/", "Link", '<http://other.test/x>; rel="next"')
    with pytest.raises(BadAnswer, match="page of referrers to another host"):
        await client.referrers(repository, SUBJECT)


async def test_second_page_that_is_no_index(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """Half a list is none."""
    registry.entries = 1
    for number in range(2):
        registry.attach("team/app", IMAGE, nr=str(number))
    registry.answer("page=1", 200, "<html>", Content_Type="text/html")
    with pytest.raises(BadAnswer, match="no index"):
        await client.referrers(repository, SUBJECT)


def test_tag_of_a_long_digest() -> None:
    """Algorithm and digest are cut to what a tag can hold (spec, "Referrers Tag Schema")."""
    digest = Digest.of(b"x", "sha512")

    assert f"sha512-{digest.hex[:64]}" == referrers.fallback_tag(digest)
