"""The token realm on TCP: who is asked, what a token carries, and what it is good for."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from registryd.oci.challenge import Challenge, parse_challenges
from registryd.server.tokens import LIFETIME
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry, digest_of
from tests.fakes.tokens import FakeTokenServer
from tests.fakes.upstream import Upstream

LAYER = b"the secret layer " * 5000
WORD = "s\u00e9cret:word"


def basic(user: str, password: str) -> dict[str, str]:
    """The header of a login."""
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


ANN, WRONG = basic("ann", WORD), basic("ann", "a guess")


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    """A registry that wants ann's password."""
    async with Upstream(users={"ann": WORD}).serve() as server:
        server.add_image("team/secret", "1", LAYER)
        yield server


@pytest.fixture
def image(upstream: FakeRegistry) -> str:
    """Where the node has the private image."""
    return f"/v2/{upstream.name}/team/secret/manifests/1"


async def token(client: aiohttp.ClientSession, **headers: str) -> str:
    """A token by GET."""
    async with client.get("/token", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["token"])


async def asked(
    client: aiohttp.ClientSession, path: str, **headers: str
) -> tuple[int, Challenge | None]:
    """The status, and what we are asked for."""
    async with client.get(path, headers=headers) as answer:
        await answer.read()
        found = parse_challenges(answer.headers.getall("WWW-Authenticate", []))
        return answer.status, found[0] if found else None


def bearer(text: str) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {text}"}


# the ping


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
async def test_the_ping_asks_for_a_token(
    stranger: aiohttp.ClientSession, node: RunningNode, path: str
) -> None:
    """On TCP the ping names the realm: from it alone many clients learn that they may log in."""
    status, challenge = await asked(stranger, path)

    assert 401 == status
    assert challenge is not None and "bearer" == challenge.scheme
    assert {"realm": f"{node.url}/token", "service": "registryd"} == dict(challenge.parameters)


async def test_the_ping_takes_what_may_be_right(stranger: aiohttp.ClientSession) -> None:
    """A token of ours, nobody's too, and any login are good for the ping: it names no registry by
    which they could be tried."""
    shown = [bearer(await token(stranger)), bearer(await token(stranger, **ANN)), ANN, WRONG]

    assert [(200, None)] * 4 == [await asked(stranger, "/v2/", **each) for each in shown]


@pytest.mark.parametrize("shown", ["Bearer x", "Bearer", "Bearer \u00ff", "Basic x", "Other x"])
async def test_the_ping_refuses_what_is_none(stranger: aiohttp.ClientSession, shown: str) -> None:
    """What is neither a token of ours nor a login is asked for anew."""
    status, challenge = await asked(stranger, "/v2/", Authorization=shown)

    assert (401, True) == (status, challenge is not None)


async def test_the_ping_of_the_node_s_own_registry(tmp_path: Path) -> None:
    """A listener that stands for localhost has nobody to log in to."""
    async with (
        running_node(tmp_path, default_registry="localhost") as node,
        node.stranger() as client,
    ):
        assert (200, None) == await asked(client, "/v2/")


async def test_nothing_is_asked_on_the_socket(owner: aiohttp.ClientSession, image: str) -> None:
    """On the unix socket the kernel knows who it is: no challenge, whatever was shown."""
    assert [(200, None), (200, None), (401, None)] == [
        await asked(owner, "/v2/"),
        await asked(owner, "/v2/", **ANN),
        await asked(owner, "/v2/", Authorization="Bearer x"),
    ]


@pytest.mark.parametrize(
    ("host", "realm"),
    [
        ("localhost:7000", "localhost:7000"), ("127.0.0.2:7000", "127.0.0.2:7000"),
        ("[::1]:7", "[::1]:7"), ("localhost", "localhost"),
        ("evil.example:80", None), ("127.0.0.1.evil.example", None), ("localhost@evil", None),
        ('127.0.0.1"', None), ("10.0.0.1:5050", None), ("", None),
    ],
)  # fmt: skip
async def test_the_realm_is_this_listener(
    stranger: aiohttp.ClientSession, node: RunningNode, host: str, realm: str | None
) -> None:
    """Clients are sent to the listener's own address, or back to the name of this machine's
    loopback by which they came; never to another host."""
    _, challenge = await asked(stranger, "/v2/", Host=host)

    assert challenge is not None
    wanted = f"http://{realm or f'127.0.0.1:{node.port}'}/token"
    assert wanted == challenge.parameters["realm"]


# tokens


async def test_what_a_token_looks_like(stranger: aiohttp.ClientSession) -> None:
    """Both members that clients look for, how long it is good, and that nobody keeps it."""
    async with stranger.get("/token?service=registryd&scope=a&account=ann", headers=ANN) as answer:
        body = await answer.json()

    assert {"token", "access_token", "expires_in", "issued_at"} == body.keys()
    assert (body["token"], LIFETIME) == (body["access_token"], body["expires_in"])
    assert body["issued_at"].endswith("+00:00")
    assert "no-store" == answer.headers["Cache-Control"]


async def by_form(client: aiohttp.ClientSession, **form: str) -> tuple[int, Any]:
    """Status and JSON of a token by POST."""
    async with client.post("/token", data=form) as answer:
        return answer.status, json.loads(await answer.text())


async def test_a_token_carries_a_login(stranger: aiohttp.ClientSession, image: str) -> None:
    """By GET with Basic or by POST with a form, the login arrives at the registry."""
    form = {"grant_type": "password", "username": "ann", "password": WORD, "client_id": "x"}
    _, body = await by_form(stranger, service="registryd", scope="repository:a:pull", **form)
    got = await token(stranger, **ANN)
    wrong = await token(stranger, **WRONG)

    assert [200, 200, 403] == [
        (await asked(stranger, image, **bearer(each)))[0] for each in (body["token"], got, wrong)
    ]


async def test_one_login_is_proven_once(
    stranger: aiohttp.ClientSession, image: str, upstream: FakeRegistry
) -> None:
    """Another token of the same login, and the login itself, need no new proof; a wrong password
    after a right one does."""
    await asked(stranger, image, **bearer(await token(stranger, **ANN)))
    before = len(upstream.requests)
    again = [await asked(stranger, image, **bearer(await token(stranger, **ANN))),
             await asked(stranger, image, **ANN)]  # fmt: skip
    spared = len(upstream.requests) - before
    wrong = await asked(stranger, image, **bearer(await token(stranger, **WRONG)))

    assert ([(200, None)] * 2, 0, (403, None)) == (again, spared, wrong)


@pytest.mark.parametrize("way", ["refresh_token", "user", "form"])
async def test_an_identity_token(tmp_path: Path, way: str) -> None:
    """An identity token is carried as one: by its own grant, or as the user <token>."""
    async with FakeTokenServer(anonymous=False).serve() as server:
        server.refresh.add("refresh-word")
        async with (
            Upstream(tokens=server).serve() as upstream,
            running_node(tmp_path, registries=plain(upstream)) as node,
            node.stranger() as client,
        ):
            upstream.add_image("team/secret", "1", LAYER)
            if way == "refresh_token":
                body = (await by_form(client, grant_type=way, refresh_token="refresh-word"))[1]
                got = body["token"]
            elif way == "form":
                form = {"username": "<token>", "password": "refresh-word"}
                got = (await by_form(client, grant_type="password", **form))[1]["token"]
            else:
                got = await token(client, **basic("<token>", "refresh-word"))
            image = f"/v2/{upstream.name}/team/secret/manifests/1"
            status, _ = await asked(client, image, **bearer(got))

    assert (200, {"refresh"}) == (status, set(server.counts))


@pytest.mark.parametrize(
    "form",
    [
        {}, {"grant_type": "other"}, {"grant_type": "refresh_token"},
        {"grant_type": "refresh_token", "refresh_token": ""},
    ],
)  # fmt: skip
async def test_a_form_of_another_kind(
    stranger: aiohttp.ClientSession, form: dict[str, str]
) -> None:
    """What grants nothing is said so."""
    status, body = await by_form(stranger, **form)

    assert (400, True) == (status, "grant_type" in body["errors"][0]["message"])


@pytest.mark.parametrize("shown", ["Basic x", "Basic " + b64encode(b"a").decode(), "Other y", ""])
async def test_a_login_that_is_none_gets_no_token(
    stranger: aiohttp.ClientSession, shown: str
) -> None:
    """Whoever means to log in and does not is told, and not taken for nobody."""
    async with stranger.get("/token", headers={"Authorization": shown}) as answer:
        await answer.read()

    assert 400 == answer.status


async def test_a_body_that_is_no_form(stranger: aiohttp.ClientSession) -> None:
    """Bytes that are no text are refused."""
    async with stranger.post("/token", data=b"grant_type=password&password=%ff") as answer:
        await answer.read()

    assert 400 == answer.status


async def test_a_token_outlives_a_restart(tmp_path: Path, upstream: FakeRegistry) -> None:
    """A client goes on with its token, and with its proof, after the daemon was restarted."""
    image = f"/v2/{upstream.name}/team/secret/manifests/1"
    async with running_node(tmp_path, registries=plain(upstream)) as node, node.stranger() as one:
        shown = bearer(await token(one, **ANN))
        first = await asked(one, image, **shown)
    before = len(upstream.requests)
    async with running_node(tmp_path, registries=plain(upstream)) as node, node.stranger() as two:
        second = await asked(two, image, **shown)

    assert ((200, None), (200, None), before) == (first, second, len(upstream.requests))


async def test_a_long_password(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, image: str
) -> None:
    """A password of 4 kB goes through: as a login, in a form, and back in a token."""
    word = "p" * 4096
    upstream.users = {"AWS": word}
    _, body = await by_form(stranger, grant_type="password", username="AWS", password=word)
    shown = [basic("AWS", word), bearer(body["token"]),
             bearer(await token(stranger, **basic("AWS", word)))]  # fmt: skip

    assert [200] * 3 == [(await asked(stranger, image, **each))[0] for each in shown]


# what is asked for content


@pytest.mark.parametrize("what", ["manifests/1", "blobs/" + digest_of(LAYER), "tags/list"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_content_is_asked_for_by_its_name(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, what: str, method: str
) -> None:
    """Who has shown nothing is asked for a token for the name as it stands in the path; who has
    is told no, and asked nothing."""
    for prefix, query in (("", f"?ns={upstream.name}"), (f"{upstream.name}/", "")):
        path = f"/v2/{prefix}team/secret/{what}{query}"
        async with stranger.request(method, path) as answer:
            (challenge,) = parse_challenges(answer.headers.getall("WWW-Authenticate"))
        refused = [
            await asked(stranger, path, **shown)
            for shown in (bearer(await token(stranger)), bearer(await token(stranger, **WRONG)))
        ]

        assert 401 == answer.status
        assert f"repository:{prefix}team/secret:pull" == challenge.parameters["scope"]
        assert [(403, None)] * 2 == refused


async def test_a_no_that_is_upstream_s(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry
) -> None:
    """What its registry does not have is asked for as well, and then is not there."""
    path = f"/v2/{upstream.name}/team/none/manifests/1"

    assert [401, 404, 403] == [
        (await asked(stranger, path, **shown))[0]
        for shown in ({}, bearer(await token(stranger, **ANN)), bearer(await token(stranger)))
    ]


async def test_public_content_needs_no_token(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, image: str
) -> None:
    """What anybody may read is served without a question; and once it is known to be public, what
    is missing in it is just missing."""
    upstream.users = None
    found = await asked(stranger, image)
    missing = await asked(stranger, image[:-1] + "2")

    assert ((200, None), (404, None)) == (found, missing)


async def test_a_token_of_no_use_is_said_to_be_none(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry, image: str
) -> None:
    """An old or foreign token is asked for anew, also for what needs none: the client may have
    a better one."""
    upstream.users = None
    status, challenge = await asked(stranger, image, Authorization="Bearer old")
    api, _ = await asked(stranger, "/api/v1/images", Authorization="Bearer old")

    assert (401, 401) == (status, api)
    assert challenge is not None and "invalid_token" == challenge.parameters["error"]


async def test_the_control_api_takes_tokens(
    stranger: aiohttp.ClientSession, upstream: FakeRegistry
) -> None:
    """/api/v1 over TCP takes a token as it takes a login; it asks nobody for one."""
    path = f"/api/v1/digest?reference={upstream.name}/team/secret:1"
    shown = bearer(await token(stranger, **ANN))

    assert [(401, None), (200, None), (401, None)] == [
        await asked(stranger, path),
        await asked(stranger, path, **shown),
        await asked(stranger, path, **bearer(await token(stranger, **WRONG))),
    ]


async def test_the_log_does_not_name_anybody(
    stranger: aiohttp.ClientSession, image: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log tells callers apart by a short hash: no name, no password, no token."""
    with caplog.at_level("DEBUG"):
        shown = await token(stranger, **ANN)
        await asked(stranger, image, **bearer(shown))
        async with stranger.get("/token?account=ann", headers=ANN) as answer:
            await answer.read()
    said = caplog.text

    assert "user=login:" in said
    assert [] == [word for word in (WORD, shown, shown[10:40], "ann") if word in said]


@pytest.mark.parametrize("shown", ["nobody's token", "an empty login", "nothing"])
async def test_nobody_is_nobody_however_it_is_said(
    stranger: aiohttp.ClientSession, image: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A token for nobody, and a login without name and password, are worth what nothing is."""
    headers = {
        "nobody's token": bearer(await token(stranger)), "an empty login": basic("", ""),
    }.get(shown, {})  # fmt: skip
    with caplog.at_level("INFO"):
        await asked(stranger, image, **headers)

    assert "user=anonymous" in caplog.text
