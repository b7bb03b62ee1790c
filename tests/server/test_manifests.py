"""Manifests and tags as clients ask for them, and what they are told when there is trouble."""

import asyncio
import hashlib
import json
from pathlib import Path

import aiohttp
import pytest

from registryd.config import AccessConfig
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import OCI_MANIFEST, FakeRegistry, make_image

LAYER = b"layer " * 1000
MANIFESTS = "/manifests/"


@pytest.fixture
def digest(upstream: FakeRegistry) -> str:
    return upstream.add_image("team/app", "1", LAYER)


async def seen(
    client: aiohttp.ClientSession, path: str, method: str = "GET"
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers (names in lower case)."""
    async with client.request(method, path) as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, await answer.read(), headers


@pytest.mark.parametrize("target", ["1", "digest"])
async def test_a_manifest_is_given_as_it_came(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, digest: str, target: str
) -> None:
    """By tag and by digest: the same bytes, the true media type, the digest, the length."""
    path = f"/v2/{upstream.name}/team/app/manifests/{digest if target == 'digest' else target}"
    raw = make_image(LAYER)
    wanted = (200, OCI_MANIFEST, digest, str(len(raw)))
    for method, body in (("HEAD", b""), ("GET", raw), ("GET", raw)):
        status, came, headers = await seen(stranger, path, method)

        assert body == came
        assert wanted == (
            status,
            headers["content-type"],
            headers["docker-content-digest"],
            headers["content-length"],
        )


async def test_the_three_forms_of_a_name(
    tmp_path: Path, upstream: FakeRegistry, digest: str
) -> None:
    """?ns=, the registry as the first part of the path, and the listener's default mean one
    repository."""
    async with (
        running_node(tmp_path, registries=plain(upstream), default_registry=upstream.name) as node,
        node.stranger() as client,
    ):
        answers = [
            await seen(client, path)
            for path in (
                f"/v2/team/app/manifests/1?ns={upstream.name}",
                f"/v2/{upstream.name}/team/app/manifests/1",
                f"/v2/{upstream.name}/team/app/manifests/1?ns={upstream.name}",
                "/v2/team/app/manifests/1",
            )
        ]
        names = [name.name for name in await node.node.store.names()]

    assert [(200, digest)] * 4 == [(a[0], a[2]["docker-content-digest"]) for a in answers]
    assert [f"{upstream.name}/team/app:1"] == names


@pytest.mark.parametrize("what", ["manifests/1", "blobs/sha256:" + "0" * 64])
@pytest.mark.parametrize(
    ("upstream_says", "we_say"),
    [(401, 403), (403, 403), (404, 404), (429, 503), (500, 503), (502, 503), (503, 503),
     ("drop", 503), ("html", 503)],
)  # fmt: skip
async def test_what_a_runtime_is_told_in_trouble(
    nobody: aiohttp.ClientSession, upstream: FakeRegistry, what: str,
    upstream_says: int | str, we_say: int,
) -> None:  # fmt: skip
    """Whatever upstream says, a runtime with a token gets what makes it ask elsewhere without harm:
    403, 404 or 503; never 401, 408, 429 or 3xx. The body is the protocol's."""
    match upstream_says:
        case "drop":
            upstream.drop("/v2/.", times=None)
        case "html":
            upstream.answer("/v2/.", 200, "<html>", times=None, Content_Type="text/html")
        case int():
            upstream.answer("/v2/.", upstream_says, times=None, Retry_After="999999")
    path = f"/v2/team/app/{what}?ns={upstream.name}"
    status, body, headers = await seen(nobody, path)
    error = json.loads(body)["errors"][0]
    if upstream_says != "html":  # a web page has no head that gives it away
        head_status, nothing, _ = await seen(nobody, path, "HEAD")
        assert (we_say, b"") == (head_status, nothing)

    assert we_say == status
    assert headers["content-type"].startswith("application/json")
    assert {"code", "message"} <= error.keys() and error["message"]
    assert "retry-after" not in headers


async def test_an_upstream_that_nobody_listens_on(
    stranger: aiohttp.ClientSession,
) -> None:
    """A registry that refuses connections is 503."""
    status, body, _ = await seen(stranger, "/v2/team/app/manifests/1?ns=127.0.0.1:1")

    assert (503, "UNAVAILABLE") == (status, json.loads(body)["errors"][0]["code"])


async def test_a_stalled_upstream_is_declined_in_time(
    node: RunningNode, stranger: aiohttp.ClientSession, upstream: FakeRegistry, digest: str
) -> None:
    """A runtime that can ask elsewhere gets a no within three seconds."""
    upstream.stall("GET .*/manifests/", asyncio.Event(), times=None)
    clock = asyncio.get_running_loop().time
    began = clock()
    status, _, _ = await seen(stranger, f"/v2/team/app/manifests/1?ns={upstream.name}")

    assert (503, True) == (status, clock() - began < 6)


async def test_only_allowed_registries_are_dialled(tmp_path: Path, upstream: FakeRegistry) -> None:
    """A registry that the configuration does not name is refused, without a single request."""
    async with (
        running_node(
            tmp_path, registries=plain(upstream), access=AccessConfig(allow=("docker.io",))
        ) as node,
        node.nobody() as client,
    ):
        answers = [
            (await seen(client, f"/v2/team/app/{what}?ns={upstream.name}"))[0]
            for what in ("manifests/1", "blobs/sha256:" + "0" * 64, "tags/list")
        ]

    assert ([403] * 3, []) == (answers, upstream.requests)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/UPPER/app/manifests/1", 400, "NAME_INVALID"),
        ("/v2/localhost/app/blobs/sha256:xyz", 400, "DIGEST_INVALID"),
        ("/v2/localhost/app/manifests/1", 404, "MANIFEST_UNKNOWN"),
        ("/v2/localhost/app/manifests/-bad", 404, "MANIFEST_UNKNOWN"),
        ("/v2/localhost/app/blobs/sha256:" + "0" * 64, 404, "BLOB_UNKNOWN"),
        ("/v2/localhost/app/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/nothing", 404, "NAME_UNKNOWN"),
        ("/v2/app/manifests/1?ns=bad%20host", 400, "NAME_INVALID"),
    ],
)
async def test_errors_have_their_status_and_code(
    stranger: aiohttp.ClientSession, path: str, status: int, code: str
) -> None:
    """What is wrong with a request is said in the protocol's words."""
    got, body, _ = await seen(stranger, path)

    assert (status, code) == (got, json.loads(body)["errors"][0]["code"])


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
async def test_ping(owner: aiohttp.ClientSession, path: str) -> None:
    """The ping says that this is a registry (what it says on TCP: test_realm.py)."""
    status, body, headers = await seen(owner, path)

    assert (200, "registry/2.0") == (status, headers["docker-distribution-api-version"])
    assert json.loads(body) == {}


async def test_a_method_that_is_not_offered(stranger: aiohttp.ClientSession) -> None:
    """A method that a route does not have is 405 UNSUPPORTED."""
    status, body, _ = await seen(stranger, "/v2/localhost/app/tags/list", "POST")

    assert (405, "UNSUPPORTED") == (status, json.loads(body)["errors"][0]["code"])


async def test_tags_are_paged(stranger: aiohttp.ClientSession, upstream: FakeRegistry) -> None:
    """Tags come sorted, in pages whose links lead to all of them."""
    upstream.page = 2
    for tag in ("b", "a", "d", "c", "e"):
        upstream.add_image("team/app", tag, LAYER)
    path, pages = f"/v2/team/app/tags/list?n=2&ns={upstream.name}", []
    while path and len(pages) < 9:
        async with stranger.get(path) as answer:
            page = await answer.json()
            pages.append(page["tags"])
            path = str(answer.links.get("next", {}).get("url", ""))

    assert [["a", "b"], ["c", "d"], ["e"]] == pages
    assert page["name"] == "team/app"


@pytest.mark.parametrize(
    ("query", "tags", "status"),
    [("", ["a", "b"], 200), ("?last=a", ["b"], 200), ("?n=0", [], 200), ("?n=x", None, 400),
     ("?n=" + "9" * 5000, None, 400)],
)  # fmt: skip
async def test_tag_lists_take_their_arguments(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, query: str,
    tags: list[str] | None, status: int,
) -> None:  # fmt: skip
    """n and last do what the specification says; what is no number is refused."""
    for tag in "ab":
        upstream.add_image("team/app", tag, LAYER)
    got, body, _ = await seen(stranger, f"/v2/{upstream.name}/team/app/tags/list{query}")

    assert (status, tags) == (got, json.loads(body).get("tags"))


async def test_a_manifest_that_is_wrong_upstream_is_declined(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, digest: str
) -> None:
    """A manifest that does not hash to its digest is nobody's fault here: 503."""
    upstream.change("GET .*/manifests/", lambda answer: setattr(answer, "body", make_image(b"x")))
    status, body, _ = await seen(stranger, f"/v2/{upstream.name}/team/app/manifests/{digest}")

    assert (503, "DIGEST_INVALID") == (status, json.loads(body)["errors"][0]["code"])


async def test_a_cached_image_survives_its_registry(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, digest: str
) -> None:
    """What was pulled is given when the registry is gone: tag, manifest, blobs."""
    base = f"/v2/{upstream.name}/team/app"
    layer = f"sha256:{hashlib.sha256(LAYER).hexdigest()}"
    paths = [f"{base}/manifests/1", f"{base}/manifests/{digest}", f"{base}/blobs/{layer}"]
    before = [await seen(stranger, path) for path in paths]
    upstream.drop("/v2/", times=None)
    after = [await seen(stranger, path) for path in paths]

    assert [200] * 3 == [answer[0] for answer in after]
    assert [answer[1] for answer in before] == [answer[1] for answer in after]
