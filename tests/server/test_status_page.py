"""/ui and what it asks: who sees what, and what a browser may not do here."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registryd.oci.errors import Denied
from registryd.server.browsers import check
from registryd.server.status_page import FOLDER, POLICY, files
from tests.fakes.node import RunningNode, plain, running_node, session
from tests.fakes.registry import FakeRegistry, digest_of
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import until
from tests.server.content import arrived
from tests.server.wire import noise

ANN = "Basic " + b64encode(b"ann:secret-word").decode()
LAYER, LATER = noise(300_000), noise(400_000)
ROUTES = ("/ui", "/api/v1/overview", "/api/v1/sharing")


async def get(client: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str]:
    """Status and text."""
    async with client.get(path, headers=headers) as answer:
        return answer.status, await answer.text()


async def seen(client: aiohttp.ClientSession) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """All that a caller is given, as one text; the overview and the picture."""
    texts = [(await get(client, path))[1] for path in ROUTES]
    return "".join(texts), json.loads(texts[1]), json.loads(texts[2])


async def test_each_sees_what_they_may(tmp_path: Path) -> None:
    """A private image, at rest and on its way, has a name for its owner alone; sums are for all."""
    gate = asyncio.Event()
    async with Upstream(users={"ann": "secret-word"}).serve() as upstream:
        upstream.add_image("team/secret", "1", LAYER)
        upstream.add_image("team/hidden", "2", LATER)
        upstream.stall(f"GET .*/{digest_of(LATER)}", gate, at=100_000)
        async with (
            running_node(tmp_path, registries=plain(upstream)) as node,
            node.owner() as owner, node.stranger() as stranger, node.stranger(ANN) as ann,
        ):  # fmt: skip
            login = {"Authorization": ANN}
            body = {"reference": f"{upstream.name}/team/secret:1"}
            async with ann.post("/api/v1/pull", json=body) as pulled:
                await pulled.read()
            body = {"reference": f"{upstream.name}/team/hidden:2"}
            pulling = asyncio.create_task(owner.post("/api/v1/pull", json=body, headers=login))
            await until(lambda: arrived(node) == 100_000)
            (anybody, look, picture), (_, mine, my_picture) = await seen(stranger), await seen(ann)
            whole, full, _ = await seen(owner)
            gate.set()
            await (await pulling).read()

    assert not re.search(r"secret|team/", anybody)
    assert digest_of(LAYER) not in anybody and digest_of(LATER) not in anybody
    assert ("anybody", [], 1, [], 0) == (
        look["viewer"], look["flights"], look["more_flights"], picture["images"], picture["more"],
    )  # fmt: skip
    assert ("user", [], 1) == (mine["viewer"], mine["flights"], len(my_picture["images"]))
    assert "team/secret" in whole and "team/hidden" in whole
    assert ("owner", [100_000], 0) == (
        full["viewer"], [flight["offset"] for flight in full["flights"]], full["more_flights"],
    )  # fmt: skip
    assert full["cache"] == look["cache"]


async def test_made_up_logins_look_as_one(node: RunningNode) -> None:
    """A login that has opened nothing sees what anybody does, and has no look made for it."""
    before = len(node.node.looks)
    for number in range(3):
        login = "Basic " + b64encode(f"made:up{number}".encode()).decode()
        async with node.stranger(login) as client:
            _, look, _ = await seen(client)

        assert "anybody" == look["viewer"]
    assert 4 == len(node.node.looks) - before  # overview, sharing, and two parts that all share


async def test_the_picture(owner: aiohttp.ClientSession, upstream: FakeRegistry) -> None:
    """A layer of two images is one of both, and is counted once; samples are those asked for."""
    for name, layers in (("a", (LAYER,)), ("b", (LAYER, LATER)), ("c", (noise(5000),))):
        upstream.add_image(f"team/{name}", "1", *layers)
        body = {"reference": f"{upstream.name}/team/{name}:1"}
        async with owner.post("/api/v1/pull", json=body) as answer:
            await answer.read()
    _, look, picture = await seen(owner)
    layers = {layer["digest"]: layer["images"] for layer in picture["layers"]}
    _, later = await get(owner, f"/api/v1/overview?since={look['now'][0] + 60}")
    shared = [each["layers"][0] for each in picture["images"]]

    assert [f"{upstream.name}/team/{name}:1" for name in "bac"] == [
        each["reference"] for each in picture["images"]
    ]
    assert (2, 1) == (layers[digest_of(LAYER)], layers[digest_of(LATER)])
    assert digest_of(LAYER) == picture["layers"][shared[0]]["digest"]
    assert shared[0] == shared[1] != shared[2]
    assert len(LAYER) <= picture["apart"] - picture["together"] < len(LAYER) + 100
    assert [] == json.loads(later)["history"]["samples"]
    assert 400 == (await get(owner, "/api/v1/overview?since=yesterday"))[0]


async def test_the_page(owner: aiohttp.ClientSession, stranger: aiohttp.ClientSession) -> None:
    """It is whole without a script, names only its own files, and forbids all else."""
    async with stranger.get("/ui") as answer:
        text, headers = await answer.text(), answer.headers
    named = re.findall(r'(?:src|href)="([^"#]+)"', text)
    found = [(await get(owner, path))[0] for path in named]
    async with stranger.get("/ui/main.js") as answer:
        tag = answer.headers["ETag"]

    assert "0 blobs" in text and "$" not in text
    assert POLICY == headers["Content-Security-Policy"]
    assert ("same-origin", "DENY", "nosniff", "no-store") == tuple(
        headers[name] for name in (
            "Cross-Origin-Resource-Policy", "X-Frame-Options", "X-Content-Type-Options",
            "Cache-Control",
        )
    )  # fmt: skip
    assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?! type=\"module\" src)", text)
    assert named and set(found) == {200}
    assert 304 == (await get(stranger, "/ui/main.js", **{"If-None-Match": tag}))[0]
    for path in ("/ui/page.html", "/ui/..%2fopenapi.json", "/ui/none.js"):
        assert 404 == (await get(stranger, path))[0]


async def test_without_the_page(tmp_path: Path) -> None:
    """``ui = false`` takes the page away, and not what ``registryctl top`` asks."""
    async with running_node(tmp_path, ui=False) as node, node.owner() as owner:
        got = [(await get(owner, path))[0] for path in (*ROUTES, "/ui/main.js")]

    assert [404, 200, 200, 404] == got


def test_the_script_sets_texts_only() -> None:
    """No file of the page makes elements of a text, runs one, or asks another host."""
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\("
    )
    for name, file in files().items():
        text = file.content.decode()

        assert not forbidden.search(text), name
        assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {
            "http://www.w3.org/2000/svg", "http://localhost:8080/ui",
        }, name  # fmt: skip
        assert len(text.splitlines()) <= 400, name
    assert {path.name for path in FOLDER.iterdir()} == set(files())


@pytest.mark.parametrize(
    "host",
    ["localhost:5050", "127.0.0.1", "[::1]:5050", "node", "a.localhost", "n1.hpc.test:80", ""],
)
def test_names_that_are_ours(host: str) -> None:
    """Names that nobody else's domain can have, and this machine's own."""
    check(host, f"http://{host}", False, machine="n1.hpc.test")


@pytest.mark.parametrize(
    ("host", "origin", "secure"),
    [
        ("evil.example:5050", None, False),
        ("localhost.evil.example", None, False),
        ("127.0.0.1.evil.example", None, False),
        ("localhost:5050", "http://evil.example", False),
        ("localhost:5050", "http://localhost:8080", False),
        ("localhost:5050", "null", False),
        ("registry.hpc.test", "https://evil.example", True),
    ],
)
def test_pages_from_elsewhere(host: str, origin: str | None, secure: bool) -> None:
    """A name that others may point here, and other origins, are refused."""
    with pytest.raises(Denied):
        check(host, origin, secure)


async def test_a_page_from_elsewhere_is_refused(node: RunningNode) -> None:
    """On both listeners, for the page and all of the API; runtimes are not asked for a name."""
    connector = aiohttp.UnixConnector(str(node.socket))
    async with session(connector, "http://evil.example") as owner, node.stranger() as stranger:
        got = [(await get(owner, path))[0] for path in (*ROUTES, "/api/v1/status", "/ui/main.js")]
        evil = {"Host": "evil.example:5050"}
        got += [(await get(stranger, path, **evil))[0] for path in ROUTES]
        body = {"repository": "a", "whose": "b"}
        async with stranger.post(
            "/api/v1/access/revoke", json=body, headers={"Origin": "http://evil.example"}
        ) as answer:
            got.append(answer.status)
        evil["Origin"] = "http://evil.example:5050"
        async with stranger.post("/v2/localhost/a/blobs/uploads/", headers=evil) as answer:
            got.append(answer.status)

        assert {403} == set(got)
        assert 200 == (await get(owner, "/v2/"))[0]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v2/", {"Host": "evil.example:5050", "User-Agent": "Mozilla/5.0 (X11)"}, 403),
        ("/v2/_catalog", {"Host": "evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        ("/v2/_catalog", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("/api/v1/images", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ("/ui", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("/ui", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("/v2/_catalog", {"Sec-Fetch-Site": "none", "User-Agent": "Mozilla/5.0 (X11)"}, 200),
        ("/v2/_catalog", {"Host": "evil.example", "User-Agent": "containers/5.24"}, 200),
    ],
)
async def test_what_a_browser_may_read(
    stranger: aiohttp.ClientSession, path: str, headers: dict[str, str], status: int
) -> None:
    """No content under a name that others may point here, and none for another site's page; a link
    to the page may be followed, and a runtime is asked for nothing."""
    assert status == (await get(stranger, path, **headers))[0]
