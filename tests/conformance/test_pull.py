"""Distribution specification 1.1, category "pull"."""

import pytest

from cache.content import Digest
from tests.conformance.registry import OCI_MANIFEST, Registry, encode

LAYER = bytes(range(256)) * 8


async def test_pull_01_the_registry_says_that_it_speaks_version_2(registry: Registry) -> None:
    """GET /v2/ is answered by 200."""
    assert (await registry.ask("GET", "/v2/")).status == 200


async def test_pull_02_a_manifest_by_tag(registry: Registry, name: str) -> None:
    """A tag gives the bytes that were pushed, their media type, length and digest."""
    raw = await registry.push(name, "v1", LAYER)
    answer = await registry.ask("GET", f"/v2/{name}/manifests/v1", Accept=OCI_MANIFEST)

    assert (200, raw) == (answer.status, answer.body)
    assert (OCI_MANIFEST, str(len(raw)), str(Digest.of(raw))) == (
        answer.headers["content-type"],
        answer.headers["content-length"],
        answer.headers["docker-content-digest"],
    )


async def test_pull_03_a_manifest_by_digest(registry: Registry, name: str) -> None:
    """A digest gives the same as the tag."""
    raw = await registry.push(name, "v1", LAYER)
    answer = await registry.ask("GET", f"/v2/{name}/manifests/{Digest.of(raw)}")

    assert (200, raw, str(Digest.of(raw))) == (
        answer.status,
        answer.body,
        answer.headers["docker-content-digest"],
    )


@pytest.mark.parametrize("target", ["missing", str(Digest.of(b"missing"))])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_pull_04_a_manifest_that_is_not_there(
    registry: Registry, method: str, target: str
) -> None:
    """A manifest that is not there is 404, in a repository that is and in one that is not."""
    await registry.push("app", "v1", LAYER)
    for repository in ("app", "none"):
        answer = await registry.ask(method, f"/v2/{repository}/manifests/{target}")

        assert answer.status == 404
        if method == "GET":
            assert answer.refusal == (404, "MANIFEST_UNKNOWN")


async def test_pull_05_head_says_what_get_would(registry: Registry) -> None:
    """HEAD of a manifest, a blob, the tags, the referrers and the catalog has GET's headers."""
    raw = await registry.push("app", "v1", LAYER)
    paths = ["app/manifests/v1", f"app/manifests/{Digest.of(raw)}", f"app/blobs/{Digest.of(LAYER)}",
             "app/tags/list", f"app/referrers/{Digest.of(raw)}", "_catalog"]  # fmt: skip
    for path in paths:
        got = await registry.ask("GET", f"/v2/{path}")
        headed = await registry.ask("HEAD", f"/v2/{path}")
        same = ("content-type", "content-length", "docker-content-digest")

        assert (200, 200, b"") == (got.status, headed.status, headed.body)
        assert [got.headers.get(key) for key in same] == [headed.headers.get(key) for key in same]


async def test_pull_06_a_blob(registry: Registry, name: str) -> None:
    """A blob's digest gives its bytes, with its length and its digest."""
    digest = await registry.put_blob(name, LAYER)
    answer = await registry.ask("GET", f"/v2/{name}/blobs/{digest}")

    assert (200, LAYER) == (answer.status, answer.body)
    assert (str(len(LAYER)), str(digest)) == (
        answer.headers["content-length"],
        answer.headers["docker-content-digest"],
    )


async def test_pull_07_a_blob_that_is_not_there(registry: Registry) -> None:
    """A blob that is not there is 404 BLOB_UNKNOWN."""
    answer = await registry.ask("GET", f"/v2/app/blobs/{Digest.of(b'missing')}")

    assert answer.refusal == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=500-1499", 206, 500, 1500),
        ("bytes=500-", 206, 500, 2048),
        ("bytes=-500", 206, 1548, 2048),
        ("bytes=2000-5000", 206, 2000, 2048),
        ("bytes=500-0", 416, 0, 0),
        ("bytes=5000-10000", 416, 0, 0),
    ],
)
async def test_pull_08_ranges_of_a_blob(
    registry: Registry, asked: str, status: int, start: int, stop: int
) -> None:
    """A range is given as such and clipped to the blob; one that has no byte is 416."""
    digest = await registry.put_blob("app", LAYER)
    answer = await registry.ask("GET", f"/v2/app/blobs/{digest}", Range=asked)

    assert answer.status == status
    if status == 206:
        assert (LAYER[start:stop], f"bytes {start}-{stop - 1}/2048") == (
            answer.body,
            answer.headers["content-range"],
        )


@pytest.mark.parametrize("kind", ["manifests", "blobs"])
@pytest.mark.parametrize("digest", ["sha256:baddigeststring", "md5:" + 32 * "0"])
async def test_pull_09_what_is_no_digest(registry: Registry, kind: str, digest: str) -> None:
    """A malformed digest, or one of an unknown algorithm, is 400 DIGEST_INVALID."""
    answer = await registry.ask("GET", f"/v2/app/{kind}/{digest}")

    assert answer.refusal == (400, "DIGEST_INVALID")


async def test_pull_10_unknown_fields_stay(registry: Registry) -> None:
    """What the registry does not know in a manifest, and its spaces, come back as they were."""
    image = await registry.image("app", LAYER, **{"org.example.own": {"deep": [1, None, "é"]}})
    raw = b" " + encode(image) + b"\n"
    await registry.put_manifest("app", "own", raw)

    assert raw == (await registry.ask("GET", "/v2/app/manifests/own")).body
