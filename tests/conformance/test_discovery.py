"""Distribution specification 1.1, category "content discovery": tags, referrers; the catalog."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache.content import Digest
from tests.conformance.registry import (
    OCI_INDEX,
    OCI_MANIFEST,
    Registry,
    descriptor,
    encode,
    index_of,
)
from tests.fakes.node import plain, running_node
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream

SIGNATURE = "application/vnd.example.signature"
LIST = "application/vnd.example.list"


async def attach(
    registry: Registry, repository: str, subject: bytes, kind: str, number: int = 0
) -> dict[str, object]:
    """Push an artifact that is attached to a manifest; how a list shows it."""
    notes = {"org.example.number": str(number)}
    raw = await registry.push(
        repository, "", artifactType=kind, subject=descriptor(OCI_MANIFEST, subject),
        annotations=notes,
    )  # fmt: skip
    return descriptor(OCI_MANIFEST, raw, artifactType=kind, annotations=notes)


def sorted_entries(entries: list[dict[str, object]]) -> list[dict[str, object]]:
    """In the order of digests."""
    return sorted(entries, key=lambda entry: str(entry["digest"]))


async def pages(registry: Registry, path: str, member: str) -> list[list[object]]:
    """What every page has, as the links lead."""
    found = []
    while path:
        answer = await registry.ask("GET", path)
        assert answer.status == 200
        found.append(answer.json[member])
        path = answer.next
    return found


async def test_discovery_01_tags(registry: Registry, name: str) -> None:
    """The tags of a repository are listed in order, under its name; digests are no tags."""
    for tag in ("v2", "Latest", "v10", ""):
        await registry.push(name, tag)
    answer = await registry.ask("GET", f"/v2/{name}/tags/list")

    assert answer.json["tags"] == ["Latest", "v10", "v2"]
    assert answer.json["name"] == name


async def test_discovery_02_tags_in_pages(registry: Registry) -> None:
    """n bounds a page, last says after which tag it begins, Link leads to the next."""
    for tag in "abcde":
        await registry.push("app", tag)

    assert [["a", "b"], ["c", "d"], ["e"]] == await pages(registry, "/v2/app/tags/list?n=2", "tags")
    assert [["d", "e"]] == await pages(registry, "/v2/app/tags/list?last=c", "tags")
    assert [[]] == await pages(registry, "/v2/app/tags/list?n=0", "tags")


async def test_discovery_03_tags_of_a_repository_that_is_not_there(registry: Registry) -> None:
    """An unknown repository is 404 NAME_UNKNOWN; one that has a blob, but no tag, is known."""
    unknown = await registry.ask("GET", "/v2/app/tags/list")
    await registry.put_blob("app", b"a blob")
    known = await registry.ask("GET", "/v2/app/tags/list")

    assert unknown.refusal == (404, "NAME_UNKNOWN")
    assert (200, []) == (known.status, known.json["tags"])


async def test_discovery_04_referrers(registry: Registry, name: str) -> None:
    """What has a manifest as its subject is listed with type, artifact type and annotations."""
    subject = await registry.push(name, "v1")
    attached = [await attach(registry, name, subject, kind) for kind in (SIGNATURE, LIST)]
    answer = await registry.ask("GET", f"/v2/{name}/referrers/{Digest.of(subject)}")

    assert (200, OCI_INDEX) == (answer.status, answer.headers["content-type"])
    assert {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": sorted_entries(attached),
    } == answer.json


async def test_discovery_05_the_artifact_type_of_others(registry: Registry) -> None:
    """Without artifactType an image is shown with its configuration's type, an index with none."""
    subject = descriptor(OCI_MANIFEST, b"missing")
    image = await registry.push("app", "", subject=subject)
    index = encode(index_of(subject=subject))
    await registry.put_manifest("app", Digest.of(index), index)
    answer = await registry.ask("GET", f"/v2/app/referrers/{subject['digest']}")

    config = "application/vnd.oci.image.config.v1+json"
    expected = [descriptor(OCI_MANIFEST, image, artifactType=config), descriptor(OCI_INDEX, index)]
    assert sorted_entries(expected) == answer.json["manifests"]


async def test_discovery_06_referrers_of_one_type(registry: Registry) -> None:
    """artifactType filters, and the answer says that it did."""
    subject = await registry.push("app", "v1")
    signature = await attach(registry, "app", subject, SIGNATURE)
    await attach(registry, "app", subject, LIST)
    path = f"/v2/app/referrers/{Digest.of(subject)}"
    answer = await registry.ask("GET", f"{path}?artifactType={SIGNATURE}")
    nothing = await registry.ask("GET", f"{path}?artifactType=application/none")

    assert [signature] == answer.json["manifests"]
    assert "artifactType" == answer.headers["oci-filters-applied"]
    assert [] == nothing.json["manifests"]
    assert "oci-filters-applied" not in (await registry.ask("GET", path)).headers


async def test_discovery_07_nothing_attached(registry: Registry) -> None:
    """A subject without referrers, one that is missing, and any of an unknown repository: 200."""
    subject = await registry.push("app", "v1")
    for path in ("app", "none"):
        for digest in (Digest.of(subject), Digest.of(b"missing")):
            answer = await registry.ask("GET", f"/v2/{path}/referrers/{digest}")

            assert (200, []) == (answer.status, answer.json["manifests"])
    bad = await registry.ask("GET", "/v2/app/referrers/sha256:bad")
    assert bad.refusal == (400, "DIGEST_INVALID")


async def test_discovery_08_referrers_in_pages(registry: Registry) -> None:
    """n bounds a page; Link leads on, and keeps the filter."""
    subject = await registry.push("app", "v1")
    signatures = [await attach(registry, "app", subject, SIGNATURE, n) for n in range(5)]
    await attach(registry, "app", subject, LIST)
    path = f"/v2/app/referrers/{Digest.of(subject)}?artifactType={SIGNATURE}&n=2"
    found = await pages(registry, path, "manifests")

    assert [2, 2, 1] == [len(page) for page in found]
    assert sorted_entries(signatures) == [entry for page in found for entry in page]


async def test_discovery_09_a_long_list_is_cut(registry: Registry) -> None:
    """No page is larger than a manifest may be, whatever annotations there are."""
    subject = descriptor(OCI_MANIFEST, b"missing")
    for number in range(4):
        notes = {f"org.example.{number}": 1_500_000 * "A"}
        await registry.push("app", "", subject=subject, annotations=notes)
    path, sizes, seen = f"/v2/app/referrers/{subject['digest']}", [], 0
    while path:
        answer = await registry.ask("GET", path)
        sizes.append(len(answer.body))
        seen += len(answer.json["manifests"])
        path = answer.next

    assert 4 == seen
    assert max(sizes) <= 4 << 20
    assert len(sizes) > 1


async def test_discovery_10_referrers_are_of_one_repository(registry: Registry) -> None:
    """What is attached in another repository does not show here."""
    subject = await registry.push("app", "v1")
    await attach(registry, "other", subject, SIGNATURE)
    answer = await registry.ask("GET", f"/v2/app/referrers/{Digest.of(subject)}")

    assert [] == answer.json["manifests"]


async def test_discovery_11_referrers_outlive_the_index(tmp_path: Path) -> None:
    """A node that finds its database gone lists referrers as before."""
    async with running_node(tmp_path, default_registry="localhost") as node:
        async with node.stranger() as session:
            subject = await Registry(session).push("app", "v1")
            await attach(Registry(session), "app", subject, SIGNATURE)
            path = f"/v2/app/referrers/{Digest.of(subject)}"
            before = await Registry(session).ask("GET", path)
        root = node.root
    for file in await asyncio.to_thread(lambda: list(root.glob("cache.db*"))):
        await asyncio.to_thread(file.unlink)
    async with (
        running_node(tmp_path, default_registry="localhost") as node,
        node.stranger() as session,
    ):
        after = await Registry(session).ask("GET", path)

    assert 1 == len(before.json["manifests"])
    assert before.json == after.json


async def test_discovery_12_the_catalog(registry: Registry) -> None:
    """The repositories that have manifests are listed in order and in pages."""
    for repository in ("c", "a/b", "localhost/b"):
        await registry.push(repository, "v1")

    assert [["a/b", "b"], ["c"]] == await pages(registry, "/v2/_catalog?n=2", "repositories")


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with Upstream().serve() as server:
        yield server


async def test_discovery_13_other_registries_lists(tmp_path: Path, upstream: FakeRegistry) -> None:
    """Beside a mirror the catalog has the node's own by their full names, and no cached image's;
    referrers of other registries' images are 404, so that clients look for the stand-in tag."""
    digest = upstream.add_image("team/app", "1")
    async with (
        running_node(tmp_path, registries=plain(upstream)) as node,
        node.stranger() as session,
    ):
        mirror = Registry(session)
        pulled = await mirror.ask("GET", f"/v2/{upstream.name}/team/app/manifests/1")
        await mirror.push("localhost/own", "v1")
        catalog = await mirror.ask("GET", "/v2/_catalog")
        elsewhere = await mirror.ask("GET", f"/v2/_catalog?ns={upstream.name}")
        referrers = await mirror.ask("GET", f"/v2/{upstream.name}/team/app/referrers/{digest}")

    assert (200, ["localhost/own"]) == (pulled.status, catalog.json["repositories"])
    assert elsewhere.refusal == (405, "UNSUPPORTED")
    assert referrers.refusal == (404, "NAME_UNKNOWN")
