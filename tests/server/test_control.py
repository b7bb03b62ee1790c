"""/api/v1: every route, what it refuses, and its description."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import registryd.server
from registryd import __version__
from registryd.server.control import BODY_LIMIT
from tests.fakes.node import RunningNode
from tests.fakes.registry import OCI_CONFIG, OCI_MANIFEST, FakeRegistry, digest_of, make_image
from tests.fakes.waiting import until
from tests.server.content import arrived
from tests.server.wire import connected, noise

LAYER = noise(300_000)
READY = "disk ok\nindex ok\nlisteners ok\n"
DESCRIBING = ("Content-Type", "Docker-Content-Digest", "X-Registryd-Manifest-Digest")
CONFIG = b'{"os":"linux","architecture":"amd64"}'


@pytest.fixture
def name(upstream: FakeRegistry) -> str:
    """An image of the scripted registry."""
    upstream.add_image("team/app", "1", LAYER)
    return f"{upstream.name}/team/app:1"


async def get(client: aiohttp.ClientSession, path: str, **query: str) -> tuple[int, Any]:
    """Status and JSON of a GET."""
    async with client.get(f"/api/v1/{path}", params=query) as answer:
        return answer.status, await answer.json(content_type=None)


async def post(client: aiohttp.ClientSession, path: str, **body: Any) -> tuple[int, Any]:
    """Status and JSON of a POST."""
    async with client.post(f"/api/v1/{path}", json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def stream(client: aiohttp.ClientSession, path: str, **body: Any) -> list[dict[str, Any]]:
    """The events of a POST."""
    async with client.post(f"/api/v1/{path}", json=body) as answer:
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
        return [json.loads(line) for line in (await answer.text()).splitlines()]


async def test_pull_and_look(
    owner: aiohttp.ClientSession, node: RunningNode, name: str, upstream: FakeRegistry
) -> None:
    """A pull tells events up to its result; the image is then in the list and in the account."""
    events = await stream(owner, "pull", reference=name)
    (_, images), (_, df), (_, status) = [
        await get(owner, path) for path in ("images", "cache/df", "status")
    ]
    (shown,) = images["images"]
    raw = make_image(LAYER)
    size = len(raw) + len(CONFIG) + len(LAYER)

    assert ("resolved", "done") == (events[0]["event"], events[-1]["event"])
    assert {
        "name": f"{upstream.name}/team/app", "tag": "1", "reference": name,
        "digest": digest_of(raw), "media_type": OCI_MANIFEST, "platforms": ["linux/amd64"],
        "size": size, "own_size": size, "pinned": False,
    }.items() <= shown.items()  # fmt: skip
    own = {"size": size, "own_size": size, "shared_size": 0}
    assert [{"reference": name, "digest": digest_of(raw), **own}] == df["images"]
    assert (3, size, 0, 0) == (df["blobs"], df["size"], df["shared_size"], df["unreferenced"])
    assert (__version__, str(node.root), 3, size, 1, []) == tuple(
        status[key] for key in ("version", "root", "blobs", "size", "images", "flights")
    )
    assert [f"unix:{node.socket}", f"127.0.0.1:{node.port}"] == status["listeners"]


async def test_a_failed_pull(owner: aiohttp.ClientSession, upstream: FakeRegistry) -> None:
    """A stream whose work fails ends with one event that says why."""
    events = await stream(owner, "pull", reference=f"{upstream.name}/team/none:1")

    assert [("failed", 2)] == [(event["event"], event["exit_code"]) for event in events]
    assert events[0]["code"] and "team/none:1" in events[0]["message"]


async def test_status_shows_flights(
    owner: aiohttp.ClientSession, name: str, upstream: FakeRegistry
) -> None:
    """What is on its way is in the status, with how far it is."""
    gate = asyncio.Event()
    upstream.stall(f"GET .*/{digest_of(LAYER)}", gate, at=100_000)
    pulling = asyncio.create_task(stream(owner, "pull", reference=name))
    flights: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while [flight["offset"] for flight in flights] != [100_000]:
            flights = (await get(owner, "status"))[1]["flights"]
    gate.set()
    await pulling

    assert [{"digest": digest_of(LAYER), "offset": 100_000, "total": len(LAYER),
             "source": upstream.name, "repository": f"{upstream.name}/team/app",
             "received": 100_000, "waiters": 0}] == [
        {key: value for key, value in flight.items() if key != "seconds"} for flight in flights
    ]  # fmt: skip


async def test_a_client_that_hangs_up(
    owner: aiohttp.ClientSession, node: RunningNode, name: str, upstream: FakeRegistry
) -> None:
    """Hanging up ends the pull, also while it has nothing to tell; what it began goes on."""
    gate = asyncio.Event()
    upstream.stall(f"GET .*/{digest_of(LAYER)}", gate, at=100_000)
    body = json.dumps({"reference": name}).encode()
    async with connected(node.port) as wire:
        wire.send("POST", "/api/v1/pull", f"Content-Length: {len(body)}", body=body)
        await wire.head()
        # Until only the stalled layer is left, and there is nothing more to tell of it.
        flights = node.node.flights
        await until(lambda: len(flights.under_way()) == 1 and arrived(node) == 100_000)
        for _ in range(50):
            await asyncio.sleep(0)
    metric = 'registryd_requests_total{method="POST",route="api_v1_pull",status="499"} 1.0'
    text = ""
    async with asyncio.timeout(20):
        while metric not in text:
            async with owner.get("/metrics") as answer:
                text = await answer.text()
    under_way = len(node.node.flights.under_way())
    gate.set()
    await until(lambda: not node.node.flights.under_way())

    assert (1, []) == (under_way, (await get(owner, "images"))[1]["images"])


async def test_look_at_an_image(
    owner: aiohttp.ClientSession, name: str, upstream: FakeRegistry
) -> None:
    """Digest, manifest, configuration and tags, without a pull before."""
    raw = make_image(LAYER)
    _, digest = await get(owner, "digest", reference=name)
    _, tags = await get(owner, "tags", repository=f"{upstream.name}/team/app")
    seen = {}
    for what, query in (("manifest", {}), ("manifest", {"platform": "linux/amd64"}),
                        ("config", {"platform": "linux/amd64"})):  # fmt: skip
        async with owner.get(f"/api/v1/{what}", params={"reference": name, **query}) as answer:
            seen[what] = (await answer.read(), *(answer.headers[name] for name in DESCRIBING))

    assert {"reference": name, "digest": digest_of(raw), "media_type": OCI_MANIFEST,
            "size": len(raw)} == digest  # fmt: skip
    assert {"name": f"{upstream.name}/team/app", "tags": ["1"]} == tags
    assert {
        "manifest": (raw, OCI_MANIFEST, digest_of(raw), digest_of(raw)),
        "config": (CONFIG, OCI_CONFIG, digest_of(CONFIG), digest_of(raw)),
    } == seen


async def test_name_push_and_remove(
    owner: aiohttp.ClientSession, name: str, upstream: FakeRegistry
) -> None:
    """A held image gets a name of the node's own, goes to a registry, and is removed with what
    only it needed."""
    await stream(owner, "pull", reference=name)
    tagged = await post(owner, "tag", source=name, target="localhost/mine:2")
    pushed = await stream(owner, "push", source="localhost/mine:2",
                          destination=f"{upstream.name}/copy/app:3")  # fmt: skip
    first = await post(owner, "rmi", reference=name)
    second = await post(owner, "rmi", reference="localhost/mine:2")
    third = await post(owner, "rmi", reference="localhost/mine:2")
    digest = digest_of(make_image(LAYER))

    assert (200, {"reference": "localhost/mine:2", "digest": digest}) == tagged
    assert ("done", digest) == (pushed[-1]["event"], pushed[-1]["digest"])
    assert digest in upstream.repositories["copy/app"].manifests
    assert (200, {"untagged": [name], "deleted": [], "freed": 0}) == first
    assert (["localhost/mine:2"], 3) == (second[1]["untagged"], len(second[1]["deleted"]))
    assert (404, 2) == (third[0], third[1]["exit_code"])


async def test_only_the_owner_removes(
    stranger: aiohttp.ClientSession, owner: aiohttp.ClientSession, name: str
) -> None:
    """What others may be using is not removed by just anybody."""
    await stream(owner, "pull", reference=name)
    status, body = await post(stranger, "rmi", reference=name)

    assert (403, 3, 1) == (
        status,
        body["exit_code"],
        len((await get(owner, "images"))[1]["images"]),
    )


@pytest.mark.parametrize(
    ("method", "path", "given", "said"),
    [
        ("POST", "pull", {}, "needs 'reference'"),
        ("POST", "pull", {"reference": 5}, "needs 'reference'"),
        ("POST", "convert", {"reference": "a", "form": ["squashfs"]}, "'form' must be a text"),
        ("POST", "pull", {"reference": "a", "colour": 1}, "does not know colour"),
        ("POST", "pull", {"reference": "a", "platforms": "linux/amd64"}, "a list of texts"),
        ("POST", "pull", {"reference": "a", "platforms": [1]}, "a list of texts"),
        ("POST", "pull", {"reference": "a", "all_platforms": "no"}, "true or false"),
        ("POST", "push", {"source": "a"}, "needs 'destination'"),
        ("POST", "tag", {"source": "a", "target": "ghcr.io/a:1"}, "only localhost/NAME:TAG"),
        ("POST", "tag", {"source": "a", "target": "localhost/b:1", "x": 1}, "does not know x"),
        ("GET", "digest", {}, "needs 'reference'"),
        ("GET", "digest", {"reference": "a", "x": "1"}, "does not know x"),
        ("GET", "digest", {"reference": "UPPER"}, "UPPER"),
        ("GET", "manifest", {"reference": "a", "platform": "what"}, ""),
        ("GET", "status", {"verbose": "1"}, "does not know verbose"),
    ],
)
async def test_wrong_arguments(
    owner: aiohttp.ClientSession, upstream: FakeRegistry, method: str, path: str,
    given: dict[str, Any], said: str,
) -> None:  # fmt: skip
    """A request that is wrong is 400 and exit code 64, in a line that says what is wrong."""
    if path == "manifest":
        upstream.add_image("team/app", "1", LAYER)
        given = {**given, "reference": f"{upstream.name}/team/app:1"}
    asked = {"params": given} if method == "GET" else {"json": given}
    async with owner.request(method, f"/api/v1/{path}", **asked) as answer:  # type: ignore[arg-type]
        body = await answer.json(content_type=None)

    if path == "manifest":  # a manifest without index is for every platform
        return
    assert (400, 64) == (answer.status, body["exit_code"])
    assert said in body["errors"][0]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"[" * 5000, b" " * (BODY_LIMIT + 1)], ids=range(6)
)
async def test_a_body_that_is_no_object(owner: aiohttp.ClientSession, body: bytes) -> None:
    """What is not a JSON object, or too large for one, is 400."""
    async with owner.post("/api/v1/pull", data=body) as answer:
        said = await answer.json(content_type=None)

    assert (400, 64) == (answer.status, said["exit_code"])


async def test_a_body_that_comes_in_pieces(node: RunningNode, name: str) -> None:
    """A body is read to its end, however many packets it takes."""
    body = json.dumps({"reference": name}).encode()
    async with connected(node.port) as wire:
        wire.send("POST", "/api/v1/pull", f"Content-Length: {len(body)}", "Connection: close",
                  body=body[:10])  # fmt: skip
        await wire.writer.drain()
        for _ in range(20):
            await asyncio.sleep(0.001)
        wire.writer.write(body[10:])
        head = await wire.head()
        rest = await wire.rest()

    assert (200, True) == (head.status, b'"event": "done"' in rest)


@pytest.mark.parametrize(("path", "said"), [("/healthz", "ok\n"), ("/readyz", READY)])
async def test_health(stranger: aiohttp.ClientSession, path: str, said: str) -> None:
    """Who watches the daemon is told that it is well."""
    async with stranger.get(path) as answer:
        assert (200, said) == (answer.status, await answer.text())


async def test_metrics(owner: aiohttp.ClientSession, name: str, upstream: FakeRegistry) -> None:
    """What was fetched, served and asked is counted."""
    await stream(owner, "pull", reference=name)
    for _ in range(2):
        async with owner.get(f"/v2/{upstream.name}/team/app/blobs/{digest_of(LAYER)}") as answer:
            await answer.read()
    async with owner.get("/metrics") as answer:
        text = await answer.text()
    values = dict(re.findall(r"^(registryd_\S+) (\S+)$", text, re.MULTILINE))
    size = len(LAYER) + len(CONFIG)

    assert answer.content_type == "text/plain"
    assert {
        "registryd_cache_blobs": 3.0,
        "registryd_flights": 0.0,
        f'registryd_upstream_bytes_total{{registry="{upstream.name}"}}': size,
        'registryd_served_bytes_total{source="cache"}': 2 * len(LAYER),
        'registryd_requests_total{method="GET",route="blob",status="200"}': 2.0,
        'registryd_requests_total{method="POST",route="api_v1_pull",status="200"}': 1.0,
    }.items() <= {key: float(value) for key, value in values.items()}.items()


async def test_clients_do_not_make_up_metrics(stranger: aiohttp.ClientSession) -> None:
    """Requests for what is not there do not each become a metric of their own."""
    for path in ("/v2/UPPER/manifests/1", "/what", "/v2/UPPER2/manifests/1", "/api/v1/what"):
        async with stranger.get(path) as answer:
            await answer.read()
    async with stranger.get("/metrics") as answer:
        text = await answer.text()
    routes = set(re.findall(r'registryd_requests_total\{method="GET",route="([^"]*)"', text))

    assert {"other"} == routes


# the description

DESCRIPTION = Path(registryd.server.__file__).parent / "openapi.json"


async def test_the_description_is_the_routes(node: RunningNode) -> None:
    """openapi.json names the routes of /api/v1 and their methods, and no other."""
    from registryd.server.control import add_routes

    app = aiohttp.web.Application()
    add_routes(app)
    routes = {
        (resource.canonical, route.method.lower())
        for resource in app.router.resources()
        for route in resource
        if route.method != "HEAD"
    }
    described = json.loads(DESCRIPTION.read_text())
    paths = {(path, method) for path, item in described["paths"].items() for method in item}

    assert routes == paths
    assert described["openapi"].startswith("3.1.")


async def test_the_description_s_arguments_are_true(owner: aiohttp.ClientSession) -> None:
    """Every argument that is described is known, and every one that is required is required."""
    described = json.loads(DESCRIPTION.read_text())
    for path, item in described["paths"].items():
        for method, act in item.items():
            required, known = _arguments(act)
            for left_out in required:
                given = {key: "x" for key in required if key != left_out}
                asked = _asked(act, given)
                async with owner.request(method, path, **asked) as answer:
                    said = (await answer.json(content_type=None))["errors"][0]["message"]
                assert f"needs {left_out!r}" in said
            given = dict.fromkeys({*known, "colour"}, "x")
            asked = _asked(act, given)
            async with owner.request(method, path, **asked) as answer:
                said = (await answer.json(content_type=None))["errors"][0]["message"]
            assert f"{path} does not know colour" == said


def _asked(act: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
    """How an operation is given its arguments."""
    return {"json": given} if _takes_json(act) else {"params": given}


def _takes_json(act: dict[str, Any]) -> bool:
    return "application/json" in act.get("requestBody", {}).get("content", {})


def _arguments(act: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The required and all arguments of an operation."""
    if _takes_json(act):
        schema = act["requestBody"]["content"]["application/json"]["schema"]
        return schema.get("required", []), list(schema["properties"])
    parameters = act.get("parameters", [])
    return [p["name"] for p in parameters if p.get("required")], [p["name"] for p in parameters]
