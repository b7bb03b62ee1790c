"""Distribution specification 1.1, category "content management": deletion."""

from cache.content import Digest
from tests.conformance.registry import OCI_MANIFEST, Registry, descriptor, encode, index_of
from tests.fakes.node import RunningNode


async def test_management_01_delete_a_tag(registry: Registry, name: str) -> None:
    """A deleted tag is 202, then gone; another tag of the same manifest stays."""
    raw = await registry.push(name, "v1")
    await registry.put_manifest(name, "v2", raw)
    deleted = await registry.ask("DELETE", f"/v2/{name}/manifests/v1")

    assert deleted.status == 202
    gone = await registry.ask("GET", f"/v2/{name}/manifests/v1")
    assert gone.refusal == (404, "MANIFEST_UNKNOWN")
    assert raw == (await registry.ask("GET", f"/v2/{name}/manifests/v2")).body
    assert ["v2"] == (await registry.ask("GET", f"/v2/{name}/tags/list")).json["tags"]


async def test_management_02_delete_a_manifest(registry: Registry, name: str) -> None:
    """A manifest deleted by digest is gone with all its tags."""
    raw = await registry.push(name, "v1")
    await registry.put_manifest(name, "v2", raw)
    path = f"/v2/{name}/manifests/{Digest.of(raw)}"

    assert 202 == (await registry.ask("DELETE", path)).status
    for target in (str(Digest.of(raw)), "v1", "v2"):
        answer = await registry.ask("GET", f"/v2/{name}/manifests/{target}")
        assert answer.refusal == (404, "MANIFEST_UNKNOWN")
    assert (await registry.ask("DELETE", path)).refusal == (404, "MANIFEST_UNKNOWN")


async def test_management_03_delete_a_blob(registry: Registry, name: str) -> None:
    """A deleted blob is 202, then gone, and deleting it again is 404."""
    digest = await registry.put_blob(name, b"content")
    path = f"/v2/{name}/blobs/{digest}"

    assert 202 == (await registry.ask("DELETE", path)).status
    assert (await registry.ask("GET", path)).refusal == (404, "BLOB_UNKNOWN")
    assert (await registry.ask("DELETE", path)).refusal == (404, "BLOB_UNKNOWN")


async def test_management_04_a_repository_without_tags(registry: Registry) -> None:
    """A repository whose tags are gone, but which has manifests, lists none."""
    raw = await registry.push("app", "v1")
    await registry.put_manifest("app", Digest.of(raw), raw)
    await registry.ask("DELETE", "/v2/app/manifests/v1")
    answer = await registry.ask("GET", "/v2/app/tags/list")

    assert (200, []) == (answer.status, answer.json["tags"])


async def test_management_05_a_deleted_referrer_is_not_listed(registry: Registry) -> None:
    """A list of referrers has no manifest that was deleted, by digest or with its only tag."""
    subject = descriptor(OCI_MANIFEST, b"missing")
    by_digest = await registry.push("app", "", b"1", subject=subject)
    await registry.push("app", "tagged", b"2", subject=subject)
    path = f"/v2/app/referrers/{subject['digest']}"
    counts = [len((await registry.ask("GET", path)).json["manifests"])]
    for target in (Digest.of(by_digest), "tagged"):
        await registry.ask("DELETE", f"/v2/app/manifests/{target}")
        counts.append(len((await registry.ask("GET", path)).json["manifests"]))

    assert [2, 1, 0] == counts


async def test_management_06_a_deleted_subject_keeps_its_referrers(registry: Registry) -> None:
    """What is attached to a manifest is still listed when that one is deleted."""
    subject = await registry.push("app", "v1")
    await registry.push("app", "", b"1", subject=descriptor(OCI_MANIFEST, subject))
    await registry.ask("DELETE", f"/v2/app/manifests/{Digest.of(subject)}")
    answer = await registry.ask("GET", f"/v2/app/referrers/{Digest.of(subject)}")

    assert 1 == len(answer.json["manifests"])


async def test_management_07_deletion_frees_the_disk(registry: Registry, node: RunningNode) -> None:
    """Nothing stays on the disk of a manifest that no tag meant any more when it was deleted."""
    old = await registry.push("app", "v1", b"old")
    new = await registry.push("app", "v1", b"new")
    for raw in (old, new):
        await registry.ask("DELETE", f"/v2/app/manifests/{Digest.of(raw)}")

    assert 0 == len(node.node.store)


async def test_management_08_a_child_stays_with_its_index(registry: Registry) -> None:
    """An image that is still in an index leaves the repository when deleted, and nothing else."""
    image = await registry.push("app", "", b"layer")
    index = encode(index_of(image))
    await registry.put_manifest("app", "all", index)

    assert 202 == (await registry.ask("DELETE", f"/v2/app/manifests/{Digest.of(image)}")).status
    assert 404 == (await registry.ask("GET", f"/v2/app/manifests/{Digest.of(image)}")).status
    assert index == (await registry.ask("GET", "/v2/app/manifests/all")).body
    assert 200 == (await registry.ask("GET", f"/v2/app/blobs/{Digest.of(b'layer')}")).status
