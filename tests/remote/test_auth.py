"""Challenges and replies: what is sent, to whom, how often, and what is said when it is refused."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from registryd.config import RegistryConfig
from registryd.oci.errors import Denied, NameUnknown, RateLimited, RegistryError, Unauthorized
from registryd.oci.reference import Reference
from registryd.remote.credentials import CredentialFiles, save
from registryd.secrets import Login, Secret
from tests.fakes.certificates import make_identity
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.remote.conftest import Connect, OpenRemotes

PASSWORD = "secret-word"
ANN = Login("ann", Secret(PASSWORD), origin="a test")
WRONG = Login("ann", Secret("wrong-word"), origin="a test")


@pytest.fixture
def image(guarded: FakeRegistry) -> Reference:
    guarded.add_image("team/app", "1.0", b"layer")
    return Reference(guarded.name, "team/app", "1.0")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# Basic.


async def test_basic(registry: FakeRegistry, connect: Connect) -> None:
    """Asked for Basic, the login is sent; from then on at once."""
    registry.users = {"ann": PASSWORD}
    digest = registry.add_image("team/app", "1.0")
    client = await connect(registry, ANN)
    image = Reference(registry.name, "team/app", "1.0")

    assert digest == str((await client.resolve(image)).digest)
    await client.resolve(image)
    sent = [seen.headers.get("Authorization", "") for seen in registry.requests]

    assert ["", basic("ann", PASSWORD), basic("ann", PASSWORD)] == sent


async def test_wrong_password(registry: FakeRegistry, connect: Connect) -> None:
    """The line says registry, user, where the login came from and what to do; asked once only."""
    registry.users = {"ann": PASSWORD}
    client = await connect(registry, WRONG)
    with pytest.raises(Unauthorized) as caught:
        await client.ping()
    text = str(caught.value)

    assert text.startswith(f"{registry.name} refused the credentials of user 'ann' from a test: ")
    assert text.endswith(f"run registryctl login {registry.name}")
    assert "wrong-word" not in text
    assert 3 == caught.value.exit_code
    assert 2 == len(registry.requests)


async def test_no_login_where_one_is_wanted(registry: FakeRegistry, connect: Connect) -> None:
    """Without a login, nothing is sent a second time."""
    registry.users = {"ann": PASSWORD}
    client = await connect(registry)
    with pytest.raises(Unauthorized, match=f"wants a login.*registryctl login {registry.name}"):
        await client.ping()

    assert 1 == len(registry.requests)


# Tokens.


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
async def test_other_way_once(
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
        while len(guarded.requests) < 8 or not tokens.requests:
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
async def test_short_or_missing_lifetime_is_sixty_seconds(
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


async def test_access_token_is_a_token(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """Both members are in use, and one may be empty (3)."""
    tokens.member, tokens.members = "access_token", {"token": ""}
    client = await connect(guarded)
    await client.resolve(image)

    assert {"anonymous": 1} == tokens.counts


async def test_revoked_token_is_renewed_once(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """401 to a token that we held: a fresh one, and once more (6)."""
    client = await connect(guarded)
    await client.resolve(image)
    tokens.revoke()
    await client.resolve(image)

    assert {"anonymous": 2} == tokens.counts


@pytest.mark.parametrize("status", [400, 403])
async def test_expired_token_by_another_status(
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


async def test_missing_repository_at_a_registry_that_hides_it(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """insufficient_scope to a fresh token means: not found, or no access; never a loop."""
    guarded.users = None
    guarded.challenge = (
        f'Bearer realm="{tokens.url}/token",service="fake",error="insufficient_scope"'
    )
    guarded.answer("team/secret", 401, times=None, WWW_Authenticate=guarded.challenge)
    client = await connect(guarded)
    hidden = Reference(guarded.name, "team/secret", "1")
    with pytest.raises(NameUnknown, match=f"cannot find {hidden}: not found or no access") as caught:
        await client.resolve(hidden)

    assert 2 == caught.value.exit_code
    assert 2 == len(guarded.lines("team/secret"))


async def test_challenge_with_several_schemes(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """Several challenges in one header, any case, no service, a relative realm (1)."""
    guarded.challenge = 'Negotiate, BASIC Realm="x, y", bEaReR REALM="/token", Scope="a:b:c"'
    guarded.answer("^GET /token", 200, '{"token":"t"}', times=None, Content_Type="text/plain")
    tokens.issued["t"] = {"repository:team/app:pull"}
    client = await connect(guarded)
    await client.resolve(image)
    asked = guarded.lines("/token")

    assert [
        "GET /token?scope=repository%3Ateam%2Fapp%3Apull&scope=a%3Ab%3Ac&client_id=registryd"
    ] == asked


async def test_scope_of_a_ping_is_not_used(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """A ping's challenge has placeholders; our own scope is what is asked for (2)."""
    guarded.challenge = f'Bearer realm="{tokens.url}/token",scope="repository:user/image:pull"'
    client = await connect(guarded)
    await client.ping()

    assert [()] == tokens.scopes


async def test_more_than_needed_is_never_asked_for(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """A challenge that wants pull,push gets a token for pull when we pull (2)."""
    guarded.challenge = f'Bearer realm="{tokens.url}/token",scope="repository:team/app:pull,push"'
    client = await connect(guarded)
    await client.resolve(image)

    assert [("repository:team/app:pull",)] == tokens.scopes


async def test_newest_realm_counts(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """Some registries name another token server once a token has expired."""
    guarded.challenge = f'Bearer realm="{tokens.url}/first"'
    client = await connect(guarded)
    await client.resolve(image)
    guarded.challenge = f'Bearer realm="{tokens.url}/second"'
    tokens.revoke()
    await client.resolve(image)
    await client.resolve(image)

    assert ["/first", "/second"] == [seen.path.partition("?")[0] for seen in tokens.requests]


async def test_refusal_without_challenge_asks_the_ping(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """Some registries send their challenge on the ping only."""
    guarded.answer("^HEAD", 401)
    client = await connect(guarded)
    await client.resolve(image)

    assert {"anonymous": 1} == tokens.counts
    assert 1 == len(guarded.lines("GET /v2/$"))


async def test_basic_challenge_to_a_token_on_the_ping(
    guarded: FakeRegistry, tokens: FakeTokenServer, connect: Connect
) -> None:
    """A registry that answers a token on the ping with a Basic challenge gets Basic."""
    guarded.answer("GET /v2/$", 401, WWW_Authenticate=f'Bearer realm="{tokens.url}/token"')
    guarded.users = {"ann": PASSWORD}
    client = await connect(guarded, ANN)
    await client.ping()

    assert basic("ann", PASSWORD) == guarded.requests[-1].headers["Authorization"]


async def test_password_is_not_sent_in_the_clear(
    tokens: FakeTokenServer, connect: Connect, tmp_path: Path
) -> None:
    """A registry that is reached by TLS cannot have our password sent over plain HTTP (5)."""
    identity = make_identity(tmp_path)
    async with FakeRegistry(tokens=tokens).serve(
        ssl_context=identity.server_context()
    ) as registry:
        client = await connect(registry, ANN, RegistryConfig(ca_file=identity.cert_file))
        with pytest.raises(Denied, match="in the clear"):
            await client.ping()

    assert [] == tokens.requests


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RateLimited), (500, RegistryError), (302, RegistryError)]
)
async def test_token_server_in_trouble(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    status: int,
    kind: type[RegistryError],
) -> None:
    """A token server that cannot answer is not a wrong password."""
    tokens.answer("", status, times=None)
    client = await connect(guarded, ANN)
    with pytest.raises(kind, match=f"token server {tokens.name}") as caught:
        await client.resolve(image)

    assert not isinstance(caught.value, Unauthorized)


async def test_identity_token_is_never_redirected(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """A POST that carries a login in its body stays where it was sent."""
    tokens.answer("^POST /token", 307, Location=f"{guarded.url}/elsewhere")
    client = await connect(guarded, Login(identity_token=Secret("refresh-word")))
    with pytest.raises(RegistryError):
        await client.resolve(image)

    assert [] == guarded.lines("elsewhere")


async def test_login_from_a_file_by_repository(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    open_remotes: OpenRemotes,
    tmp_path: Path,
) -> None:
    """A repository's own login is found, and others' are not used for it."""
    tokens.anonymous = False
    file = tmp_path / "auth.json"
    await asyncio.to_thread(save, file, f"{guarded.name}/team", ANN)
    await asyncio.to_thread(save, file, guarded.name, WRONG)
    remotes = await open_remotes(
        {guarded.name: RegistryConfig(plain_http=True)}, credentials=CredentialFiles([file])
    )
    await remotes.remote(guarded.name).resolve(image)
    guarded.add_image("else/app", "1.0")
    with pytest.raises(Unauthorized, match=f'from {file}, key "{guarded.name}"'):
        await remotes.remote(guarded.name).resolve(Reference(guarded.name, "else/app", "1.0"))

    assert 1 == tokens.counts["basic"]


async def test_no_access_for_a_user(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """A login that is right but not enough is not called wrong."""
    guarded.answer("^HEAD", 401, times=None, WWW_Authenticate=f'Bearer realm="{tokens.url}/token"')
    client = await connect(guarded, ANN)
    with pytest.raises(Denied, match="no access as user 'ann'"):
        await client.resolve(image)
