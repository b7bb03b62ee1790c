"""Manifests that are attached to others: listed by the registry, or by us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from cache.content import Digest
from registryd.oci.errors import ManifestInvalid, RegistryError
from registryd.oci.manifest import MANIFEST_LIMIT, Document, parse
from registryd.oci.reference import Reference
from registryd.oci.referrers import entry_of, with_entry
from registryd.remote.client import RegistryClient
from registryd.transfer.copy import copy_image
from registryd.transfer.endpoints import RegistrySink
from registryd.transfer.referrers import Rooted
from tests.fakes.endpoints import MemorySource, image
from tests.fakes.http import Reply
from tests.fakes.referrers import OCI_INDEX, ReferrersRegistry, make_artifact, point
from tests.fakes.registry import make_image
from tests.remote.conftest import Connect

IMAGE = make_image(b"layer")
TAG = f"sha256-{Digest.of(IMAGE).hex}"


@pytest.fixture
async def registry() -> AsyncIterator[ReferrersRegistry]:
    """A registry without the API."""
    async with ReferrersRegistry(api=False).serve() as server:
        server.add_manifest("team/app", "1", IMAGE)
        yield server


@pytest.fixture
async def client(registry: ReferrersRegistry, connect: Connect) -> RegistryClient:
    return await connect(registry)


@pytest.fixture
def repository(registry: ReferrersRegistry) -> Reference:
    return Reference(registry.name, "team/app")


def artifact(number: int) -> Document:
    return parse(make_artifact(IMAGE, "text/sbom", nr=str(number)))


async def put(client: RegistryClient, repository: Reference, document: Document) -> None:
    """Push a manifest as a copy does."""
    sink = RegistrySink(client, repository.with_digest(document.digest))
    await sink.put_manifest(document, root=True)


def listed(registry: ReferrersRegistry) -> list[dict[str, object]]:
    """The entries under the tag."""
    entries: list[dict[str, object]] = json.loads(
        registry.repositories["team/app"].manifests[TAG][1]
    )["manifests"]
    return entries


async def test_4b_20_registry_that_lists_by_itself(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """OCI-Subject in the answer: nothing more is asked."""
    registry.api = True
    await put(client, repository, artifact(1))

    assert ["PUT"] == [seen.method for seen in registry.requests]


async def test_registry_that_forgets_to_say_so(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """No OCI-Subject, but the API is there: it is asked once, and no tag is made."""
    registry.api = True
    registry.header("^PUT", "OCI-Subject", None)
    await put(client, repository, artifact(1))
    await put(client, repository, artifact(2))

    assert ["PUT", "GET", "PUT"] == [seen.method for seen in registry.requests]
    assert TAG not in registry.repositories["team/app"].manifests


async def test_4b_20_tag_is_made_and_added_to(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """Without the API the tag lists it: type, annotations; pushed twice it is there once."""
    for number in (1, 2, 1):
        await put(client, repository, artifact(number))
    found = await client.referrers(repository, Digest.of(IMAGE))

    assert [
        point(artifact(number).raw)
        | {"artifactType": "text/sbom", "annotations": {"nr": str(number)}}
        for number in (1, 2)
    ] == listed(registry)
    assert {artifact(1).digest, artifact(2).digest} == {e.descriptor.digest for e in found.entries}


async def test_artifact_that_is_there_and_in_no_list(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """A push that ended between the two: the next one finds it there, and lists it."""
    document = artifact(1)
    await client.push_manifest(repository, document)
    sink = RegistrySink(client, repository.with_digest(document.digest))
    again = await copy_image(Rooted(MemorySource(image()), document), sink)

    assert again.unchanged
    assert [str(document.digest)] == [entry["digest"] for entry in listed(registry)]
    assert [f"PUT /v2/team/app/manifests/{TAG}"] == registry.lines("^PUT")[1:]


async def test_what_others_wrote_stays(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """Entries, members and annotations of another tool are kept as they are."""
    theirs = point(artifact(9).raw) | {"artifactType": "x/y", "urls": ["http://a.test"]}
    members = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [theirs],
        "annotations": {"a": "b"},
        "x-more": [1],
    }
    registry.add_manifest("team/app", TAG, json.dumps(members).encode(), OCI_INDEX)
    await put(client, repository, artifact(1))
    after = json.loads(registry.repositories["team/app"].manifests[TAG][1])

    assert (theirs, {"a": "b"}, [1]) == (
        after["manifests"][0],
        after["annotations"],
        after["x-more"],
    )
    assert 2 == len(after["manifests"])


async def test_tag_that_is_the_subject_itself_is_no_list(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """Where sha256-HEX gives the subject (2.22), the list begins empty."""
    registry.add_manifest("team/app", TAG, IMAGE)
    await put(client, repository, artifact(1))

    assert [str(artifact(1).digest)] == [entry["digest"] for entry in listed(registry)]


async def test_artifacts_pushed_at_once_are_all_listed(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """One process is no rival of its own."""
    await asyncio.gather(*(put(client, repository, artifact(n)) for n in range(6)))

    assert {str(artifact(n).digest) for n in range(6)} == {e["digest"] for e in listed(registry)}
    assert 6 == len(registry.lines(f"^PUT .*{TAG}"))


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_4b_20_another_writer_at_the_same_moment(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference, moment: str
) -> None:
    """Someone writes the list after we have read it, or over ours: both entries are there."""
    other = with_entry(None, entry_of(artifact(7)))

    def interfere(reply: Reply) -> None:
        registry.add_manifest("team/app", TAG, other.raw, OCI_INDEX)

    # The first read is answered, and then the other one writes; or our write is undone by theirs.
    registry.change(f"^GET .*{TAG}" if moment == "before" else f"^PUT .*{TAG}", interfere, times=1)
    await put(client, repository, artifact(1))

    assert {str(artifact(n).digest) for n in (1, 7)} == {e["digest"] for e in listed(registry)}


async def test_writers_without_end(
    registry: ReferrersRegistry, client: RegistryClient, repository: Reference
) -> None:
    """Who is always overwritten stops, and says what was done and what not."""

    def interfere(reply: Reply) -> None:
        other = with_entry(None, entry_of(artifact(7)))
        registry.add_manifest("team/app", TAG, other.raw, OCI_INDEX)

    registry.change(f"^PUT .*{TAG}", interfere)
    with pytest.raises(RegistryError, match="was pushed, but is not listed"):
        await put(client, repository, artifact(1))


@pytest.mark.parametrize(("status", "code"), [(400, "MANIFEST_INVALID"), (404, "")])
async def test_registry_that_takes_no_subject(
    registry: ReferrersRegistry,
    client: RegistryClient,
    repository: Reference,
    status: int,
    code: str,
) -> None:
    """The line says what may be the matter (a registry refused them for years)."""
    body = json.dumps({"errors": [{"code": code}]}) if code else ""
    registry.answer("^PUT", status, body, times=None, Content_Type="application/json")
    with pytest.raises(RegistryError, match="has a subject, which some registries do not take"):
        await put(client, repository, artifact(1))
    with pytest.raises(RegistryError) as caught:
        await client.push_manifest(repository.with_tag("2"), parse(IMAGE))

    assert "subject" not in str(caught.value)


def test_full_list() -> None:
    """A list that no registry would take is not made."""
    large = parse(make_artifact(IMAGE, "a/b", words="x" * (MANIFEST_LIMIT - 2000)))
    index = with_entry(None, entry_of(large))
    with pytest.raises(ManifestInvalid, match="are allowed"):
        with_entry(index, entry_of(parse(make_artifact(IMAGE, "a/b", words="y" * 2000))))
