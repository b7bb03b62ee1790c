"""Pushing to the node's own registry: blobs whole, in chunks and by mount; manifests; deletion."""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest

from cache.content import Digest
from tests.fakes.node import RunningNode
from tests.fakes.registry import OCI_MANIFEST, FakeRegistry, make_image
from tests.fakes.waiting import until
from tests.server.wire import connected, noise

CONTENT = noise(300_000)
DIGEST = Digest.of(CONTENT)
UPLOADS = "/v2/localhost/app/blobs/uploads/"


@pytest.fixture
async def client(stranger: aiohttp.ClientSession) -> AsyncIterator[aiohttp.ClientSession]:
    yield stranger


async def ask(
    client: aiohttp.ClientSession, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case), body; underscores in names become dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = io.BytesIO(body) if body else None
    async with client.request(method, path, data=data, headers=named) as answer:
        lower = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, lower, await answer.read()


def code(body: bytes) -> str:
    """The code of an error body."""
    return str(json.loads(body)["errors"][0]["code"])


def left(node: RunningNode) -> list[str]:
    """What lies in the cache that is not committed."""
    return [path.name for path in (node.root / "ingest").iterdir()]


async def held(
    client: aiohttp.ClientSession, digest: object, repository: str = "app"
) -> bytes | None:
    """The blob as the repository gives it, None when it has none."""
    status, _, body = await ask(client, "GET", f"/v2/localhost/{repository}/blobs/{digest}")
    return body if status == 200 else None


async def begin(client: aiohttp.ClientSession) -> str:
    """A new session's place."""
    status, headers, _ = await ask(client, "POST", UPLOADS)
    assert status == 202
    return headers["location"]


async def test_post_then_put(client: aiohttp.ClientSession) -> None:
    """The usual way: a session, then everything with the digest."""
    place = await begin(client)
    status, headers, _ = await ask(client, "PUT", f"{place}?digest={DIGEST}", CONTENT)

    assert (201, f"/v2/localhost/app/blobs/{DIGEST}", str(DIGEST)) == (
        status,
        headers["location"],
        headers["docker-content-digest"],
    )
    assert CONTENT == await held(client, DIGEST)


async def test_one_request(client: aiohttp.ClientSession) -> None:
    """A POST with digest and content is the whole upload."""
    status, _, _ = await ask(client, "POST", f"{UPLOADS}?digest={DIGEST}", CONTENT)

    assert (201, CONTENT) == (status, await held(client, DIGEST))


async def test_chunks(client: aiohttp.ClientSession, node: RunningNode) -> None:
    """Chunks in order, with status in between; what was pushed is counted once."""
    place, ranges = await begin(client), []
    for start in range(0, 300_000, 100_000):
        stated = f"{start}-{start + 99_999}"
        piece = CONTENT[start : start + 100_000]
        status, headers, _ = await ask(client, "PATCH", place, piece, Content_Range=stated)
        ranges.append((status, headers["range"]))
        status, headers, _ = await ask(client, "GET", place)
        ranges.append((status, headers["range"]))
    status, _, _ = await ask(client, "PUT", f"{place}?digest={DIGEST}")
    metrics = (await ask(client, "GET", "/metrics"))[2].decode()

    steps = ["0-99999", "0-199999", "0-299999"]
    assert [(s, r) for r in steps for s in (202, 204)] == ranges
    assert (201, CONTENT) == (status, await held(client, DIGEST))
    pushed = re.search(r"^registryd_pushed_bytes_total (\S+)$", metrics, re.MULTILINE)
    assert pushed is not None and float(pushed[1]) == len(CONTENT)


async def test_a_stream_without_range(client: aiohttp.ClientSession) -> None:
    """A PATCH that does not say its range continues; the last chunk may come with the PUT."""
    place = await begin(client)
    await ask(client, "PATCH", place, CONTENT[:1000])
    status, _, _ = await ask(client, "PUT", f"{place}?digest={DIGEST}", CONTENT[1000:])

    assert (201, CONTENT) == (status, await held(client, DIGEST))


async def test_a_chunk_out_of_order(client: aiohttp.ClientSession) -> None:
    """A chunk that does not continue is 416, nothing of it is kept, and the session goes on."""
    place = await begin(client)
    await ask(client, "PATCH", place, CONTENT[:1000], Content_Range="0-999")
    refused = []
    for stated in ("2000-2999", "0-999", "x"):
        status, _, body = await ask(client, "PATCH", place, bytes(1000), Content_Range=stated)
        refused.append((status, code(body)))
    _, headers, _ = await ask(client, "GET", place)
    status, _, _ = await ask(client, "PUT", f"{place}?digest={DIGEST}", CONTENT[1000:])

    assert ([(416, "RANGE_INVALID")] * 3, "0-999") == (refused, headers["range"])
    assert (201, CONTENT) == (status, await held(client, DIGEST))


async def test_cancel(client: aiohttp.ClientSession, node: RunningNode) -> None:
    """A cancelled session is gone, and what came with it."""
    place = await begin(client)
    await ask(client, "PATCH", place, CONTENT)
    status, _, _ = await ask(client, "DELETE", place)
    after, _, body = await ask(client, "GET", place)

    assert (204, 404, "BLOB_UPLOAD_UNKNOWN", []) == (status, after, code(body), left(node))


async def test_a_wrong_digest(client: aiohttp.ClientSession, node: RunningNode) -> None:
    """Content that does not hash to the digest it is pushed as is 400, and leaves nothing."""
    place = await begin(client)
    wrong = Digest.of(b"else")
    status, _, body = await ask(client, "PUT", f"{place}?digest={wrong}", CONTENT)

    assert (400, "DIGEST_INVALID", []) == (status, code(body), left(node))
    assert (None, None) == (await held(client, wrong), await held(client, DIGEST))


@pytest.mark.parametrize("text", ["sha256:xyz", "md5:" + "0" * 32, "nothing"])
async def test_what_is_not_a_digest(
    client: aiohttp.ClientSession, node: RunningNode, text: str
) -> None:
    """A text that is no digest is 400, and opens no session."""
    status, _, body = await ask(client, "POST", f"{UPLOADS}?digest={text}", CONTENT)

    assert (400, "DIGEST_INVALID", []) == (status, code(body), left(node))


async def test_a_put_without_digest(client: aiohttp.ClientSession) -> None:
    """The last request must say the digest."""
    status, _, body = await ask(client, "PUT", await begin(client), CONTENT)

    assert (400, "BLOB_UPLOAD_INVALID") == (status, code(body))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("content", [b"", b"x", CONTENT], ids=len)
async def test_contents_and_algorithms(
    client: aiohttp.ClientSession, content: bytes, algorithm: str
) -> None:
    """Nothing is too small, and both algorithms are taken."""
    digest = Digest.of(content, algorithm)
    status, _, _ = await ask(client, "POST", f"{UPLOADS}?digest={digest}", content)

    assert (201, content) == (status, await held(client, digest))


async def test_mount(client: aiohttp.ClientSession) -> None:
    """A blob of another own repository is taken over without its bytes; one that is not there
    opens a session."""
    await ask(client, "POST", f"{UPLOADS}?digest={DIGEST}", CONTENT)
    other = "/v2/localhost/other/blobs/uploads/"
    queries = [
        f"?mount={DIGEST}&from=localhost/nowhere",
        f"?mount={Digest.of(b'not there')}&from=localhost/app",
        f"?mount={Digest.of(b'not there')}",
    ]
    opened = [(await ask(client, "POST", other + query))[0] for query in queries]
    before = await held(client, DIGEST, "other")
    status, headers, _ = await ask(client, "POST", f"{other}?mount={DIGEST}&from=localhost/app")

    assert ([202] * 3, None, 201) == (opened, before, status)
    assert f"/v2/localhost/other/blobs/{DIGEST}" == headers["location"]
    assert CONTENT == await held(client, DIGEST, "other")


async def test_no_mount_out_of_a_cached_repository(
    client: aiohttp.ClientSession, owner: aiohttp.ClientSession, upstream: FakeRegistry
) -> None:
    """What was cached for another registry is not given away by a mount."""
    digest = upstream.add_blob("team/private", b"secret " * 100)
    await ask(owner, "GET", f"/v2/{upstream.name}/team/private/blobs/{digest}")
    query = f"?mount={digest}&from={upstream.name}/team/private"
    status, _, _ = await ask(client, "POST", UPLOADS + query)

    assert (202, None) == (status, await held(client, digest))


async def test_a_session_is_its_opener_s(
    client: aiohttp.ClientSession, owner: aiohttp.ClientSession
) -> None:
    """Another user, or another repository, does not know the session."""
    place = await begin(owner)
    elsewhere = place.replace("/app/", "/other/")
    answers = [
        (await ask(client, "GET", place))[0],
        (await ask(client, "PUT", f"{place}?digest={DIGEST}", CONTENT))[0],
        (await ask(owner, "GET", elsewhere))[0],
        (await ask(owner, "GET", place))[0],
    ]

    assert [404, 404, 404, 204] == answers


async def test_two_writers_of_one_session(client: aiohttp.ClientSession, node: RunningNode) -> None:
    """While one request writes to a session, another is refused; a writer that vanishes gives
    the session back with what it sent."""
    place = await begin(client)
    async with connected(node.port) as first:
        first.send("PATCH", place, "Content-Length: 2000", body=CONTENT[:1000])
        await until(lambda: any(i.held.total or True for i in node.node.store.arriving()))
        status = 204
        async with asyncio.timeout(10):
            while status == 204:
                status, _, _ = await ask(client, "GET", place)
    async with asyncio.timeout(10):
        while status != 204:
            status, headers, _ = await ask(client, "GET", place)
    reach = int(headers["range"].partition("-")[2])
    begun = reach + 1 if reach else 0
    done, _, _ = await ask(client, "PUT", f"{place}?digest={DIGEST}", CONTENT[begun:])

    assert (201, CONTENT) == (done, await held(client, DIGEST))


# manifests


async def push(client: aiohttp.ClientSession, *layers: bytes, tag: str = "1") -> tuple[int, bytes]:
    """Push an image whose layers are there already; status and body of the PUT."""
    config = b'{"os":"linux","architecture":"amd64"}'
    await ask(client, "POST", f"{UPLOADS}?digest={Digest.of(config)}", config)
    raw = make_image(*layers)
    status, _, body = await ask(
        client, "PUT", f"/v2/localhost/app/manifests/{tag}", raw, Content_Type=OCI_MANIFEST
    )
    return status, body


async def put_blob(client: aiohttp.ClientSession, content: bytes) -> None:
    await ask(client, "POST", f"{UPLOADS}?digest={Digest.of(content)}", content)


async def test_push_and_pull(client: aiohttp.ClientSession, node: RunningNode) -> None:
    """A pushed image is there by tag and digest, in the tag list, and in index.json."""
    await put_blob(client, CONTENT)
    status, _ = await push(client, CONTENT)
    raw = make_image(CONTENT)
    digest = Digest.of(raw)
    bodies = [
        (await ask(client, "GET", f"/v2/localhost/app/manifests/{target}"))[2]
        for target in ("1", digest)
    ]
    tags = json.loads((await ask(client, "GET", "/v2/localhost/app/tags/list"))[2])
    listed = json.loads((node.root / "index.json").read_text())["manifests"]

    assert (201, [raw, raw], ["1"], [str(digest)]) == (
        status,
        bodies,
        tags["tags"],
        [entry["digest"] for entry in listed],
    )


async def test_a_manifest_whose_blobs_are_missing(client: aiohttp.ClientSession) -> None:
    """A manifest that points to what the repository lacks is 404, and no tag is set."""
    status, body = await push(client, CONTENT)
    after, _, _ = await ask(client, "GET", "/v2/localhost/app/manifests/1")

    assert (404, "MANIFEST_BLOB_UNKNOWN", 404) == (status, code(body), after)
    assert str(DIGEST) in body.decode()


async def test_a_blob_of_another_repository_is_missing(
    client: aiohttp.ClientSession, owner: aiohttp.ClientSession, upstream: FakeRegistry
) -> None:
    """That the cache holds a layer for another repository does not make it pushed."""
    digest = upstream.add_blob("team/private", CONTENT)
    await ask(owner, "GET", f"/v2/{upstream.name}/team/private/blobs/{digest}")
    status, body = await push(client, CONTENT)

    assert (404, "MANIFEST_BLOB_UNKNOWN") == (status, code(body))


@pytest.mark.parametrize(
    ("raw", "target", "wanted"),
    [
        (b"{}", "1", "MANIFEST_INVALID"),
        (b"not json", "1", "MANIFEST_INVALID"),
        (make_image(), str(Digest.of(b"else")), "DIGEST_INVALID"),
    ],
    ids=["empty", "words", "digest"],
)
async def test_a_manifest_that_cannot_be(
    client: aiohttp.ClientSession, raw: bytes, target: str, wanted: str
) -> None:
    """What is no manifest, or not what its digest says, is 400."""
    path = f"/v2/localhost/app/manifests/{target}"
    status, _, body = await ask(client, "PUT", path, raw, Content_Type=OCI_MANIFEST)

    assert (400, wanted) == (status, code(body))


async def test_a_manifest_that_is_too_large(node: RunningNode) -> None:
    """A manifest beyond the limit is refused before it is read."""
    async with connected(node.port) as wire:
        wire.send("PUT", "/v2/localhost/app/manifests/1", f"Content-Length: {(4 << 20) + 1}")
        answer = await wire.answer()
        wire.writer.write(bytes((4 << 20) + 1))
        wire.send("GET", "/healthz")
        healthy = await wire.answer()

    assert healthy.status == 200
    assert (413, "MANIFEST_INVALID") == (answer.status, code(answer.body))
    assert "too large" in answer.body.decode()


async def test_a_manifest_whose_length_is_not_said(client: aiohttp.ClientSession) -> None:
    """A manifest that comes in pieces is refused when it has become too long."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield bytes(1 << 20)

    async with client.put("/v2/localhost/app/manifests/1", data=pieces()) as answer:
        body = await answer.read()

    assert (413, "MANIFEST_INVALID") == (answer.status, code(body))


@pytest.mark.parametrize("ns", ["", "?ns=ghcr.io"])
async def test_nothing_of_others_is_deleted(client: aiohttp.ClientSession, ns: str) -> None:
    """What belongs to another registry is not deleted through us; the answer says whom to ask."""
    for path in (f"/v2/ghcr.io/app/manifests/1{ns}", f"/v2/ghcr.io/app/blobs/{DIGEST}{ns}"):
        status, _, body = await ask(client, "DELETE", path)

        assert (405, "UNSUPPORTED") == (status, code(body))
        assert "ask ghcr.io itself" in body.decode()


async def test_delete(client: aiohttp.ClientSession, node: RunningNode) -> None:
    """A deleted tag is gone with what only it needed; twice is 404."""
    await put_blob(client, CONTENT)
    await put_blob(client, b"shared")
    await push(client, CONTENT, b"shared")
    await push(client, b"shared", tag="2")
    path = "/v2/localhost/app/manifests/1"
    statuses = [(await ask(client, "DELETE", path))[0] for _ in range(2)]
    listed = json.loads((await ask(client, "GET", "/v2/localhost/app/tags/list"))[2])

    assert ([202, 404], ["2"]) == (statuses, listed["tags"])
    assert (None, b"shared") == (
        await held(client, DIGEST),
        await held(client, Digest.of(b"shared")),
    )
    assert node.node.store.find(DIGEST) is None


async def test_delete_by_digest(client: aiohttp.ClientSession) -> None:
    """A deleted manifest takes all its tags with it."""
    await put_blob(client, CONTENT)
    await push(client, CONTENT)
    await push(client, CONTENT, tag="2")
    digest = Digest.of(make_image(CONTENT))
    status, _, _ = await ask(client, "DELETE", f"/v2/localhost/app/manifests/{digest}")
    after = [
        (await ask(client, "GET", f"/v2/localhost/app/manifests/{target}"))[0]
        for target in ("1", "2", digest)
    ]

    assert (202, [404] * 3) == (status, after)


async def test_delete_a_blob(client: aiohttp.ClientSession) -> None:
    """A deleted blob is gone from its repository; twice is 404."""
    await put_blob(client, CONTENT)
    path = f"/v2/localhost/app/blobs/{DIGEST}"
    statuses = [(await ask(client, "DELETE", path))[0] for _ in range(2)]

    assert ([202, 404], None) == (statuses, await held(client, DIGEST))
