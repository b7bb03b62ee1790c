"""Distribution specification 1.1, category "push"."""

import json

import pytest

from cache.content import Descriptor, Digest
from tests.conformance.registry import (
    FOREIGN_LAYER,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    Registry,
    descriptor,
    encode,
    index_of,
)
from tests.fakes.node import RunningNode
from tests.fakes.waiting import until

BLOB = bytes(range(256)) * 12
ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


async def begin(registry: Registry, query: str = "") -> str:
    """Where a new upload goes on."""
    answer = await registry.ask("POST", f"/v2/app/blobs/uploads/{query}")
    assert answer.status == 202
    return answer.headers["location"]


@ALGORITHMS
async def test_push_01_post_then_put(registry: Registry, algorithm: str) -> None:
    """A session, then the whole with its digest: 201 with a place where the blob can be pulled."""
    digest = Digest.of(BLOB, algorithm)
    place = await begin(registry, f"?digest-algorithm={algorithm}")
    answer = await registry.ask("PUT", f"{place}?digest={digest}", BLOB)
    pulled = await registry.ask("GET", answer.headers["location"])

    assert (201, str(digest)) == (answer.status, answer.headers["docker-content-digest"])
    assert (200, BLOB) == (pulled.status, pulled.body)


@ALGORITHMS
async def test_push_02_a_single_post(registry: Registry, name: str, algorithm: str) -> None:
    """A POST with digest and content is the whole upload."""
    digest = await registry.put_blob(name, BLOB, algorithm)

    assert BLOB == (await registry.ask("GET", f"/v2/{name}/blobs/{digest}")).body


async def test_push_03_an_unknown_algorithm(registry: Registry) -> None:
    """An upload by an algorithm that is not known is refused before it begins."""
    answer = await registry.ask("POST", "/v2/app/blobs/uploads/?digest-algorithm=md5")

    assert answer.refusal == (400, "BLOB_UPLOAD_INVALID")


@ALGORITHMS
@pytest.mark.parametrize("last", ["PATCH", "PUT"])
async def test_push_04_chunks(registry: Registry, algorithm: str, last: str) -> None:
    """Chunks in order are taken one by one, the last one with PATCH or with the closing PUT."""
    digest, place = Digest.of(BLOB, algorithm), await begin(registry)
    chunks = [(start, BLOB[start : start + 1024]) for start in range(0, len(BLOB), 1024)]
    for start, chunk in chunks if last == "PATCH" else chunks[:-1]:
        stated = f"{start}-{start + 1023}"
        answer = await registry.ask("PATCH", place, chunk, Content_Range=stated)
        place = answer.headers["location"]

        assert (202, f"0-{start + 1023}") == (answer.status, answer.headers["range"])
    body = None if last == "PATCH" else chunks[-1][1]
    ranged = {} if last == "PATCH" else {"Content_Range": "2048-3071"}
    answer = await registry.ask("PUT", f"{place}?digest={digest}", body, **ranged)

    assert answer.status == 201
    assert BLOB == (await registry.ask("GET", answer.headers["location"])).body


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_push_05_a_chunk_out_of_order(registry: Registry, method: str) -> None:
    """A chunk that does not go on is 416 and says where to; the upload can be ended from there."""
    digest, place = Digest.of(BLOB), await begin(registry)
    await registry.ask("PATCH", place, BLOB[:1024], Content_Range="0-1023")
    path = place if method == "PATCH" else f"{place}?digest={digest}"
    refused = await registry.ask(method, path, BLOB[2048:], Content_Range="2048-3071")
    status = await registry.ask("GET", place)
    ended = await registry.ask("PUT", f"{refused.headers['location']}?digest={digest}", BLOB[1024:])

    assert refused.refusal == (416, "RANGE_INVALID")
    assert "0-1023" == refused.headers["range"] == status.headers["range"]
    assert (204, 201) == (status.status, ended.status)


async def test_push_06_a_chunk_that_is_not_what_it_says(registry: Registry) -> None:
    """A chunk with another length than its range is refused, and nothing of it is kept."""
    place = await begin(registry)
    refused = await registry.ask("PATCH", place, BLOB[:100], Content_Range="0-1023")
    ended = await registry.ask("PUT", f"{place}?digest={Digest.of(BLOB)}", BLOB)

    assert refused.refusal == (400, "BLOB_UPLOAD_INVALID")
    assert ended.status == 201


async def test_push_07_a_stream(registry: Registry) -> None:
    """A PATCH without a range may carry everything."""
    place = await begin(registry)
    answer = await registry.ask("PATCH", place, BLOB)
    ended = await registry.ask("PUT", f"{answer.headers['location']}?digest={Digest.of(BLOB)}")

    assert (202, 201) == (answer.status, ended.status)


async def test_push_08_cancel(registry: Registry) -> None:
    """A cancelled upload is gone."""
    place = await begin(registry)
    cancelled = await registry.ask("DELETE", place)

    assert cancelled.status == 204
    assert (await registry.ask("GET", place)).refusal == (404, "BLOB_UPLOAD_UNKNOWN")


@ALGORITHMS
@pytest.mark.parametrize("way", ["post", "put", "chunk", "last chunk", "stream"])
async def test_push_09_a_wrong_digest(registry: Registry, algorithm: str, way: str) -> None:
    """A blob that is not what its digest says is 400 and is not there, however it came."""
    wrong = Digest.of(b"another", algorithm)
    if way == "post":
        answer = await registry.ask("POST", f"/v2/app/blobs/uploads/?digest={wrong}", BLOB)
    else:
        place = await begin(registry)
        if way == "chunk":
            await registry.ask("PATCH", place, BLOB, Content_Range=f"0-{len(BLOB) - 1}")
        if way == "last chunk":
            await registry.ask("PATCH", place, BLOB[:1024], Content_Range="0-1023")
        if way == "stream":
            await registry.ask("PATCH", place, BLOB)
        rest = {"put": BLOB, "last chunk": BLOB[1024:]}.get(way)
        answer = await registry.ask("PUT", f"{place}?digest={wrong}", rest)

    assert answer.refusal == (400, "DIGEST_INVALID")
    assert (await registry.ask("HEAD", f"/v2/app/blobs/{wrong}")).status == 404


@pytest.mark.parametrize("content", [b"", b"{}"])
async def test_push_10_small_blobs(registry: Registry, content: bytes) -> None:
    """The empty blob and the empty JSON object are blobs as any other."""
    digest = await registry.put_blob("app", content)
    answer = await registry.ask("GET", f"/v2/app/blobs/{digest}")

    assert (200, content, str(len(content))) == (
        answer.status,
        answer.body,
        answer.headers["content-length"],
    )


async def test_push_11_mount(registry: Registry) -> None:
    """A blob of another repository is taken over; one that is not there opens an upload."""
    digest = await registry.put_blob("other", BLOB)
    mounted = await registry.ask("POST", f"/v2/app/blobs/uploads/?mount={digest}&from=other")
    missing = await registry.ask(
        "POST", f"/v2/app/blobs/uploads/?mount={Digest.of(b'missing')}&from=other"
    )
    pulled = await registry.ask("GET", mounted.headers["location"])

    assert (201, str(digest), BLOB) == (
        mounted.status,
        mounted.headers["docker-content-digest"],
        pulled.body,
    )
    assert missing.status == 202
    assert "/blobs/uploads/" in missing.headers["location"]


async def test_push_11_mount_from_anywhere(registry: Registry, node: RunningNode) -> None:
    """Without from, a blob of any own repository is taken over, and none of a cached image."""
    own = await registry.put_blob("other", BLOB)
    cached = Descriptor.of("application/x", b"cached")
    await node.node.store.put(b"cached", cached, repository="docker.io/team/app")
    mounted = await registry.ask("POST", f"/v2/app/blobs/uploads/?mount={own}")
    private = await registry.ask("POST", f"/v2/app/blobs/uploads/?mount={cached.digest}")

    assert (201, 202) == (mounted.status, private.status)


async def test_push_12_a_manifest_by_tag_and_by_digest(registry: Registry, name: str) -> None:
    """A pushed manifest is 201 with its digest and a place where it can be pulled."""
    raw = encode(await registry.image(name, BLOB))
    for target in ("v1", str(Digest.of(raw)), str(Digest.of(raw, "sha512"))):
        answer = await registry.put_manifest(name, target, raw)
        digest = target if ":" in target else str(Digest.of(raw))
        pulled = await registry.ask("GET", answer.headers["location"])

        assert (201, digest) == (answer.status, answer.headers["docker-content-digest"])
        assert (200, raw, digest) == (
            pulled.status,
            pulled.body,
            pulled.headers["docker-content-digest"],
        )


@ALGORITHMS
async def test_push_13_tags_of_a_push_by_digest(registry: Registry, algorithm: str) -> None:
    """Each ?tag= of a push by digest is set, and is listed in OCI-Tag."""
    raw = encode(await registry.image("app", BLOB))
    tags = [f"v{number}" for number in range(10)]
    query = "&".join(f"tag={tag}" for tag in tags)
    digest = Digest.of(raw, algorithm)
    answer = await registry.put_manifest("app", f"{digest}?{query}", raw)
    listed = await registry.ask("GET", "/v2/app/tags/list")

    assert (201, ", ".join(tags)) == (answer.status, answer.headers["oci-tag"])
    assert tags == listed.json["tags"]
    for tag in tags:
        pulled = await registry.ask("GET", f"/v2/app/manifests/{tag}")
        assert (raw, str(digest)) == (pulled.body, pulled.headers["docker-content-digest"])


@pytest.mark.parametrize("target", ["{digest}?tag=good&tag=.bad", "good?tag=other"])
async def test_push_14_tags_that_cannot_be_set(registry: Registry, target: str) -> None:
    """A bad tag, or ?tag= with a push by tag, is 400, and no tag is set."""
    raw = encode(await registry.image("app", BLOB))
    answer = await registry.put_manifest("app", target.format(digest=Digest.of(raw)), raw)

    assert answer.status == 400
    assert [] == (await registry.ask("GET", "/v2/app/tags/list")).json["tags"]


@pytest.mark.parametrize("target", [str(Digest.of(b"another")), "sha256:baddigeststring"])
async def test_push_15_a_manifest_with_a_wrong_digest(registry: Registry, target: str) -> None:
    """A manifest that is not what its digest says, or with no digest at all, is 400."""
    answer = await registry.put_manifest("app", target, await registry.image("app", BLOB))

    assert answer.refusal == (400, "DIGEST_INVALID")


async def test_push_16_a_large_manifest(registry: Registry) -> None:
    """A manifest of nearly 4 MiB is taken and given back."""
    notes = {f"org.example.{number}": 10_000 * "A" for number in range(410)}
    raw = await registry.push("app", "large", annotations=notes)
    answer = await registry.ask("GET", "/v2/app/manifests/large")

    assert len(raw) > 4_100_000
    assert (200, raw) == (answer.status, answer.body)


async def test_push_17_missing_blobs(registry: Registry) -> None:
    """A manifest whose blobs are not in the repository is MANIFEST_BLOB_UNKNOWN."""
    manifest = await registry.image("other", BLOB)
    answer = await registry.put_manifest("app", "v1", manifest)

    assert answer.refusal == (404, "MANIFEST_BLOB_UNKNOWN")


async def test_push_18_indexes(registry: Registry) -> None:
    """An index may list manifests, other indexes, nothing, and what is not there."""
    image = await registry.push("app", "", BLOB)
    inner = encode(index_of(image))
    await registry.put_manifest("app", Digest.of(inner), inner)
    absent = encode({"mediaType": OCI_MANIFEST, "absent": True})
    for tag, index in {
        "plain": index_of(image),
        "nested": index_of(inner),
        "empty": index_of(),
        "sparse": index_of(image, absent),
    }.items():
        answer = await registry.put_manifest("app", tag, index)
        pulled = await registry.ask("GET", f"/v2/app/manifests/{tag}")

        assert (201, encode(index), OCI_INDEX) == (
            answer.status,
            pulled.body,
            pulled.headers["content-type"],
        )
    for raw in (image, inner):
        assert raw == (await registry.ask("GET", f"/v2/app/manifests/{Digest.of(raw)}")).body


@pytest.mark.parametrize(
    "more",
    [
        {"artifactType": "application/x-example"},
        {"layers": [descriptor(OCI_EMPTY, b"{}", data="e30=")]},
        {"layers": [descriptor(FOREIGN_LAYER, b"away", urls=["https://example.org/layer"])]},
    ],
    ids=["no layers", "data", "non-distributable"],
)
async def test_push_19_kinds_of_images(registry: Registry, more: dict[str, object]) -> None:
    """Artifacts without layers, content in data fields and layers that are elsewhere are taken."""
    raw = await registry.push("app", "v1", **more)

    assert raw == (await registry.ask("GET", "/v2/app/manifests/v1")).body


async def test_push_20_a_subject_is_confirmed(registry: Registry) -> None:
    """A manifest or index with a subject is answered with OCI-Subject, even if that is missing."""
    subject = descriptor(OCI_MANIFEST, b"missing")
    image = await registry.image("app", subject=subject)
    for manifest in (image, index_of(subject=subject)):
        answer = await registry.put_manifest("app", Digest.of(encode(manifest)), manifest)

        assert (201, subject["digest"]) == (answer.status, answer.headers["oci-subject"])


async def test_push_21_a_refused_push_leaves_nothing(registry: Registry, node: RunningNode) -> None:
    """What was refused is not kept on the disk either."""
    await registry.ask("POST", f"/v2/app/blobs/uploads/?digest={Digest.of(b'another')}", BLOB)
    await registry.put_manifest("app", "v1", json.dumps({"schemaVersion": 2}).encode())

    await until(lambda: not list((node.root / "ingest").iterdir()))
    assert 0 == len(node.node.store)
