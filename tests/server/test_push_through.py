"""Pushing to another registry's name through a node: it is there and here, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from cache.content import Digest
from tests.fakes.node import RunningNode
from tests.fakes.registry import OCI_MANIFEST, FakeRegistry, make_image
from tests.server.pushing import (
    ANN,
    CONFIG,
    LAYER,
    LAYER_DIGEST,
    RAW,
    ROOT,
    images,
    place_of,
    push,
    put_blob,
    put_manifest,
)
from tests.server.test_uploads import ask, code, left
from tests.server.wire import Answer, connected, noise


@pytest.fixture
async def client(stranger: aiohttp.ClientSession) -> AsyncIterator[aiohttp.ClientSession]:
    yield stranger


@pytest.fixture
def app(upstream: FakeRegistry) -> str:
    """Where the node has the upstream's repository."""
    return place_of(upstream)


async def test_an_image_is_there_and_here(
    client: aiohttp.ClientSession, node: RunningNode, upstream: FakeRegistry, app: str
) -> None:
    """The pushed image is in its registry under its tag, and is served from the cache alone."""
    statuses = await push(client, app)
    there = upstream.repositories["team/app"]
    before = len(upstream.requests)
    manifest = await ask(client, "GET", f"{app}/manifests/1")
    layer = await ask(client, "GET", f"{app}/blobs/{LAYER_DIGEST}")

    assert [201] * 3 == statuses
    assert (RAW, LAYER) == (there.manifests["1"][1], there.blobs[str(LAYER_DIGEST)])
    assert (RAW, LAYER) == (manifest[2], layer[2])
    assert before == len(upstream.requests)
    assert ([ROOT], [], 0) == (images(node), left(node), upstream.open_uploads)


async def test_headers_of_the_answers(client: aiohttp.ClientSession, app: str) -> None:
    """Locations are those of this node, with the name that the client has used."""
    opened = await ask(client, "POST", f"{app}/blobs/uploads/")
    blob = await ask(client, "POST", f"{app}/blobs/uploads/?digest={LAYER_DIGEST}", LAYER)
    manifest = await put_manifest(client, app)

    assert opened[1]["location"].startswith(f"{app}/blobs/uploads/")
    assert (201, f"{app}/blobs/{LAYER_DIGEST}", str(LAYER_DIGEST)) == (
        blob[0], blob[1]["location"], blob[1]["docker-content-digest"],
    )  # fmt: skip
    assert (201, f"{app}/manifests/{ROOT}", ROOT) == (
        manifest[0], manifest[1]["location"], manifest[1]["docker-content-digest"],
    )  # fmt: skip


async def test_the_registry_is_named_by_ns(
    client: aiohttp.ClientSession, upstream: FakeRegistry
) -> None:
    """A client that says ``ns`` pushes to that registry."""
    ns = f"ns={upstream.name}"
    path = f"/v2/team/app/blobs/uploads/?{ns}&digest={LAYER_DIGEST}"
    status, _, _ = await ask(client, "POST", path, LAYER)

    assert (201, LAYER) == (status, upstream.repositories["team/app"].blobs[str(LAYER_DIGEST)])


async def early(node: RunningNode, method: str, path: str, size: int, **headers: str) -> Answer:
    """What is answered before the body has been sent; then it is sent all the same."""
    async with connected(node.port) as wire:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        wire.send(method, path, f"Content-Length: {size}", *lines)
        answer = await wire.answer()
        wire.writer.write(bytes(size))
        wire.send("GET", "/healthz")
        assert (await wire.answer()).status == 200
    return answer


async def test_rights_are_asked_for_first(
    node: RunningNode, upstream: FakeRegistry, app: str
) -> None:
    """Who may not push there is told so before they send a byte, and no session is opened."""
    upstream.answer("POST", 403, times=None)
    place = f"{app}/blobs/uploads/?digest={LAYER_DIGEST}"
    refused = await early(node, "POST", place, len(LAYER), **ANN)

    assert (403, "DENIED") == (refused.status, code(refused.body))
    assert ([], []) == (left(node), upstream.lines("PUT"))


async def test_rights_are_asked_for_once(
    client: aiohttp.ClientSession, upstream: FakeRegistry, app: str
) -> None:
    """Several layers cost one question, and the session that it took is given back."""
    await asyncio.gather(*(put_blob(client, app, noise(1000, n)) for n in range(5)))

    assert (6, 1) == (len(upstream.lines("POST")), len(upstream.lines("DELETE")))


@pytest.mark.parametrize(
    ("status", "wanted"),
    [(401, 401), (403, 401), (404, 401), (405, 405), (429, 503), (500, 503), (503, 503)],
)
@pytest.mark.parametrize("at", ["POST", "PUT .*/blobs/", "PUT .*/manifests/"])
async def test_what_upstream_refuses(
    client: aiohttp.ClientSession, node: RunningNode, upstream: FakeRegistry,
    app: str, at: str, status: int, wanted: int,
) -> None:  # fmt: skip
    """What its registry refuses is refused here, in the protocol's words; to one who has shown no
    login, a no is the question for one. Nothing is left of what was refused."""
    await put_blob(client, app, CONFIG)
    if at.startswith("PUT .*/m"):
        await put_blob(client, app, LAYER)
    # A registry that is busy is not waited for here: it says that it would take too long.
    later = {"Retry_After": "4000"} if status == 429 else {}
    upstream.answer(at, status, times=None, **later)
    headers = {}
    if (at, status) == ("PUT .*/blobs/", 404):
        wanted = 404  # its session is gone, and so is ours: no login would help
    if at.startswith("PUT .*/m"):
        refused, headers, _ = await put_manifest(client, app)
    elif at == "POST":
        other = app.replace("team/app", "team/other")
        refused, headers, _ = await ask(client, "POST", f"{other}/blobs/uploads/")
    else:
        refused, _ = await put_blob(client, app, LAYER)
    upstream.faults.clear()
    manifest = await ask(client, "GET", f"{app}/manifests/1", Authorization=ANN["Authorization"])

    assert (wanted, [], []) == (refused, left(node), images(node))
    assert manifest[0] == (503 if status == 429 else 404)
    if at == "PUT .*/blobs/":
        assert node.node.store.find(LAYER_DIGEST) is None
    elif wanted == 401:
        assert ":pull,push" in headers["www-authenticate"]


async def test_who_has_shown_a_login_is_told_no(
    client: aiohttp.ClientSession, upstream: FakeRegistry, app: str
) -> None:
    """A no is final for one whose login was tried: no question for another one."""
    upstream.answer("POST", 403, times=None)
    status, headers, body = await ask(client, "POST", f"{app}/blobs/uploads/", **ANN)

    assert (403, "DENIED") == (status, code(body))
    assert "www-authenticate" not in headers


async def test_a_push_that_was_refused_can_be_done_again(
    client: aiohttp.ClientSession, upstream: FakeRegistry, app: str
) -> None:
    """After a refusal in the middle the same push, done again, makes the image whole."""
    upstream.answer("PUT .*/blobs/", 503)
    first = await push(client, app)
    second = await push(client, app)

    assert ([503, 201, 201], [201] * 3) == (first, second)


async def test_a_refusal_at_the_end_ends_the_right(
    client: aiohttp.ClientSession, upstream: FakeRegistry, app: str
) -> None:
    """Who is refused when the bytes are sent is asked for anew before the next ones."""
    upstream.answer("PUT .*/blobs/", 403, times=None)
    first = await put_blob(client, app, CONFIG)
    upstream.answer("POST", 403, times=None)
    second, _, _ = await ask(client, "POST", f"{app}/blobs/uploads/")

    assert ((401, "UNAUTHORIZED"), 401) == (first, second)


async def test_a_missing_child_is_its_registry_s_to_say(
    client: aiohttp.ClientSession, upstream: FakeRegistry, app: str, node: RunningNode
) -> None:
    """What upstream has may be missing here, and what it misses it says itself."""
    taken = await put_manifest(client, app)
    body = json.dumps({"errors": [{"code": "MANIFEST_BLOB_UNKNOWN", "message": "blob unknown"}]})
    upstream.answer("PUT .*/manifests/2", 400, body, Content_Type="application/json")
    status, _, said = await put_manifest(client, app, "2")

    assert 201 == taken[0]
    assert (404, "MANIFEST_BLOB_UNKNOWN") == (status, code(said))


async def test_tags_of_a_push_by_digest(
    client: aiohttp.ClientSession, upstream: FakeRegistry, app: str
) -> None:
    """A manifest pushed by digest with tags gets them there and here; none of them is asked for
    again for a while."""
    status, headers, _ = await put_manifest(client, app, f"{ROOT}?tag=a&tag=b")
    before = len(upstream.requests)
    found = [
        (await ask(client, "GET", f"{app}/manifests/{tag}"))[1]["docker-content-digest"]
        for tag in ("a", "b")
    ]

    assert (201, "a, b", [ROOT] * 2) == (status, headers["oci-tag"], found)
    assert ["a", "b"] == upstream.repositories["team/app"].tags
    assert before == len(upstream.requests)


@pytest.mark.parametrize("listed", [True, False])
async def test_a_subject_is_its_registry_s_to_list(
    client: aiohttp.ClientSession, upstream: FakeRegistry, app: str, listed: bool
) -> None:
    """That a manifest is listed with its subject's referrers is said when its registry says so: a
    client that is not told sees to it itself."""
    subject = {"mediaType": OCI_MANIFEST, "digest": ROOT, "size": len(RAW)}
    raw = json.dumps({**json.loads(RAW), "subject": subject}).encode()
    upstream.header("PUT .*/manifests/", "OCI-Subject", ROOT if listed else None)
    status, headers, _ = await put_manifest(client, app, raw=raw)

    assert (201, ROOT if listed else None) == (status, headers.get("oci-subject"))


async def test_a_tag_that_is_pushed_anew(
    client: aiohttp.ClientSession, upstream: FakeRegistry, app: str
) -> None:
    """The tag means the new image at once, though what it meant before was just looked up."""
    await push(client, app)
    await ask(client, "GET", f"{app}/manifests/1")
    other = make_image(config=CONFIG)
    await put_manifest(client, app, raw=other)

    assert other == (await ask(client, "GET", f"{app}/manifests/1"))[2]


@pytest.mark.parametrize(
    ("raw", "target", "wanted"),
    [
        (b"{}", "1", "MANIFEST_INVALID"),
        (RAW, str(Digest.of(b"else")), "DIGEST_INVALID"),
        (RAW, "1?tag=x", "UNSUPPORTED"),
    ],
)
async def test_a_manifest_that_cannot_be_is_sent_nowhere(
    client: aiohttp.ClientSession, upstream: FakeRegistry, app: str,
    raw: bytes, target: str, wanted: str,
) -> None:  # fmt: skip
    """What is no manifest, or not what it is called, is refused before upstream hears of it."""
    status, _, body = await put_manifest(client, app, target, raw)

    assert (400, wanted, []) == (status, code(body), upstream.lines())


async def test_a_manifest_that_is_too_large(
    node: RunningNode, upstream: FakeRegistry, app: str
) -> None:
    """A manifest beyond 4 MiB is 413, before it is read."""
    refused = await early(node, "PUT", f"{app}/manifests/1", (4 << 20) + 1)

    assert (413, "MANIFEST_INVALID") == (refused.status, code(refused.body))
    assert [] == upstream.lines()


# mounts


async def test_a_mount_within_its_registry(
    client: aiohttp.ClientSession, node: RunningNode, upstream: FakeRegistry, app: str
) -> None:
    """A blob is mounted there from a repository of the same registry; that makes nothing here a
    member, for a registry's word is not bytes."""
    upstream.add_blob("team/base", LAYER)
    source = f"{upstream.name}/team/base"
    query = f"?mount={LAYER_DIGEST}&from={source}"
    status, headers, _ = await ask(client, "POST", f"{app}/blobs/uploads/{query}")

    assert (201, f"{app}/blobs/{LAYER_DIGEST}") == (status, headers["location"])
    assert LAYER == upstream.repositories["team/app"].blobs[str(LAYER_DIGEST)]
    assert not await node.node.store.is_member(f"{upstream.name}/team/app", LAYER_DIGEST)


@pytest.mark.parametrize("source", ["", "&from=localhost/app", "&from=other.test/app", "&from=%20"])
async def test_no_mount_from_elsewhere(
    client: aiohttp.ClientSession, upstream: FakeRegistry, app: str, source: str
) -> None:
    """A mount from nowhere, or from another registry, is an upload; upstream is not asked."""
    await ask(client, "POST", f"/v2/localhost/app/blobs/uploads/?digest={LAYER_DIGEST}", LAYER)
    query = f"?mount={LAYER_DIGEST}{source}"
    status, headers, _ = await ask(client, "POST", f"{app}/blobs/uploads/{query}")
    done, _, _ = await ask(client, "PUT", f"{headers['location']}?digest={LAYER_DIGEST}", LAYER)

    assert (202, 201, []) == (status, done, upstream.lines("mount="))


async def test_a_mount_that_upstream_does_not_do(
    client: aiohttp.ClientSession, upstream: FakeRegistry, app: str
) -> None:
    """Where the mount does not work there is a session, and the upload goes on in upstream's."""
    query = f"?mount={LAYER_DIGEST}&from={upstream.name}/team/base"
    status, headers, _ = await ask(client, "POST", f"{app}/blobs/uploads/{query}")
    done, _, _ = await ask(client, "PUT", f"{headers['location']}?digest={LAYER_DIGEST}", LAYER)

    assert (202, 201, 0) == (status, done, upstream.open_uploads)


async def test_nothing_goes_from_there_to_here(
    client: aiohttp.ClientSession, upstream: FakeRegistry
) -> None:
    """A blob of another registry is not mounted into the node's own."""
    upstream.add_blob("team/base", LAYER)
    query = f"?mount={LAYER_DIGEST}&from={upstream.name}/team/base"
    status, _, _ = await ask(client, "POST", f"/v2/localhost/app/blobs/uploads/{query}")

    assert (202, []) == (status, upstream.lines())
