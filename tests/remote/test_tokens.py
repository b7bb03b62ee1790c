"""Bearer tokens: got in every way, kept, shared between tasks, renewed."""

from __future__ import annotations

import asyncio
import base64

import pytest

from registryd.oci.errors import Unauthorized
from registryd.oci.reference import Reference
from registryd.secrets import Login, Secret
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.remote.conftest import Connect

PASSWORD = "secret-word"
ANN = Login("ann", Secret(PASSWORD), origin="a test")
WRONG = Login("ann", Secret("wrong-word"), origin="a test")


@pytest.fixture
def image(guarded: FakeRegistry) -> Reference:
    guarded.add_image("team/app", "1.0", b"layer")
    return Reference(guarded.name, "team/app", "1.0")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_anonymous_token(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """A public image needs a token of nobody, for exactly the scope that is needed."""
    client = await connect(guarded)
    await client.resolve(image)
    await client.fetch_manifest(image)

    assert {"anonymous": 1} == tokens.counts
    assert [("repository:team/app:pull",)] == tokens.scopes
    assert "service=fake" in tokens.lines()[0]
    assert "Authorization" not in tokens.requests[0].headers


async def test_token_by_password(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """The password goes to the token server and never to the registry."""
    tokens.anonymous = False
    client = await connect(guarded, ANN)
    await client.resolve(image)

    assert {"basic": 1} == tokens.counts
    assert basic("ann", PASSWORD) == tokens.requests[0].headers["Authorization"]
    assert not [s for s in guarded.requests if "Basic" in s.headers.get("Authorization", "")]


async def test_token_by_identity_token(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """An identity token is exchanged by POST."""
    tokens.refresh.add("refresh-word")
    client = await connect(guarded, Login(identity_token=Secret("refresh-word")))
    await client.resolve(image)

    assert {"refresh": 1} == tokens.counts


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
async def test_4b_04_other_way_once(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    status: int,
) -> None:
    """Servers that know only GET, or only POST, are asked the other way once (4)."""
    tokens.answer("^GET", status)
    client = await connect(guarded, ANN)
    await client.resolve(image)

    assert {"password": 1} == tokens.counts

    tokens.revoke()
    tokens.users["<token>"] = "refresh-word"
    tokens.answer("^POST", status)
    client = await connect(guarded, Login(identity_token=Secret("refresh-word")))
    await client.resolve(image)

    assert {"password": 1, "basic": 1} == tokens.counts


async def test_token_server_refuses_the_password(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """The refusal says the same as with Basic, whichever way was refused last."""
    tokens.post = False
    client = await connect(guarded, WRONG)
    with pytest.raises(Unauthorized) as caught:
        await client.resolve(image)
    text = str(caught.value)

    assert text.startswith(f"{guarded.name} refused the credentials of user 'ann' from a test: ")
    assert "bad user or password" in text
    assert "wrong-word" not in text


async def test_wrong_password_is_tried_once_by_all(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """Many tasks that wait for one token share its refusal: accounts get locked otherwise."""
    gate = asyncio.Event()
    tokens.stall("^GET", gate, times=None)
    client = await connect(guarded, WRONG)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(refused(client.resolve(image))) for _ in range(8)]
        while len(guarded.requests) < 8 or not tokens.requests:  # noqa: ASYNC110 - no event there
            await asyncio.sleep(0)
        gate.set()

    assert all(task.result() for task in tasks)
    assert 2 == len(tokens.requests)


async def refused(act: object) -> bool:
    try:
        await act  # type: ignore[misc]
    except Unauthorized:
        return True
    return False


async def test_one_token_for_many_tasks(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """One fetch at a time, and its token serves all (4)."""
    client = await connect(guarded)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(client.resolve(image))

    assert {"anonymous": 1} == tokens.counts


async def test_token_is_renewed_before_it_expires(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    clock: FakeClock,
) -> None:
    """With a margin of 30 s, so that no request goes out with a token about to expire."""
    client = await connect(guarded)
    await client.resolve(image)
    clock.now += 269
    await client.resolve(image)

    assert {"anonymous": 1} == tokens.counts

    clock.now += 2
    await client.resolve(image)

    assert {"anonymous": 2} == tokens.counts


@pytest.mark.parametrize("members", [{}, {"expires_in": 5}, {"expires_in": "soon"}])
async def test_4b_03_short_or_missing_lifetime_is_sixty_seconds(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    clock: FakeClock,
    members: dict[str, object],
) -> None:
    """Missing or below 60 means 60 (3)."""
    tokens.members = members | {"issued_at": "2001-01-01T00:00:00Z"}
    client = await connect(guarded)
    await client.resolve(image)
    clock.now += 44
    await client.resolve(image)

    assert {"anonymous": 1} == tokens.counts

    clock.now += 2
    await client.resolve(image)

    assert {"anonymous": 2} == tokens.counts


async def test_4b_03_access_token_is_a_token(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """Both members are in use, and one may be empty (3)."""
    tokens.member, tokens.members = "access_token", {"token": ""}
    client = await connect(guarded)
    await client.resolve(image)

    assert {"anonymous": 1} == tokens.counts


async def test_4b_06_revoked_token_is_renewed_once(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """401 to a token that we held: a fresh one, and once more (6)."""
    client = await connect(guarded)
    await client.resolve(image)
    tokens.revoke()
    await client.resolve(image)

    assert {"anonymous": 2} == tokens.counts


@pytest.mark.parametrize("status", [400, 403])
async def test_4b_06_expired_token_by_another_status(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    status: int,
) -> None:
    """ "Your authorization token has expired" counts as 401, once (6)."""
    client = await connect(guarded)
    await client.resolve(image)
    body = '{"errors":[{"code":"DENIED","message":"Your Authorization Token has expired."}]}'
    guarded.answer("^GET", status, body, Content_Type="application/json")
    await client.fetch_manifest(image)

    assert {"anonymous": 2} == tokens.counts


async def test_a_renewed_refresh_token_is_used_from_then_on(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """A server may give a new refresh token; when that is not taken, ours is tried again."""
    tokens.refresh = {"ours", "newer"}
    tokens.members["refresh_token"] = "newer"
    client = await connect(guarded, Login(identity_token=Secret("ours")))
    sent: list[set[str]] = []
    for taken in ({"ours"}, {"newer"}, {"ours"}):
        tokens.refresh = taken
        tokens.revoke()
        await client.resolve(image)
        sent.append(taken)

    assert {"refresh": 3, "refused": 1} == tokens.counts


async def test_the_null_user_has_an_identity_token(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """Azure's tools keep an identity token as the password of a user of zeros."""
    tokens.refresh = {"ours"}
    user = "00000000-0000-0000-0000-000000000000"
    client = await connect(guarded, Login(user, Secret("ours")))
    await client.resolve(image)

    assert {"refused": 1, "refresh": 1} == tokens.counts
