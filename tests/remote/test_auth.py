"""Challenges and replies: what is sent, to whom, how often, and what is said when it is refused."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from registryd.config import RegistryConfig
from registryd.oci.errors import Denied, NameUnknown, RateLimited, RegistryError, Unauthorized
from registryd.oci.reference import Reference
from registryd.remote.credential_files import save
from registryd.remote.credentials import CredentialFiles
from registryd.secrets import Login, Secret
from tests.fakes.certificates import make_identity
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


# What is asked for, and what is said when it is refused.


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
    with pytest.raises(
        NameUnknown, match=f"cannot find {hidden}: not found or no access"
    ) as caught:
        await client.resolve(hidden)

    assert 2 == caught.value.exit_code
    assert 2 == len(guarded.lines("team/secret"))


async def test_4b_01_challenge_with_several_schemes(
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


async def test_4b_02_scope_of_a_ping_is_not_used(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """A ping's challenge has placeholders; our own scope is what is asked for (2)."""
    guarded.challenge = f'Bearer realm="{tokens.url}/token",scope="repository:user/image:pull"'
    client = await connect(guarded)
    await client.ping()

    assert [()] == tokens.scopes


async def test_4b_02_more_than_needed_is_never_asked_for(
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


async def test_4b_05_password_is_not_sent_in_the_clear(
    tokens: FakeTokenServer, connect: Connect, tmp_path: Path
) -> None:
    """A registry that is reached by TLS cannot have our password sent over plain HTTP (5)."""
    identity = make_identity(tmp_path)
    async with FakeRegistry(tokens=tokens).serve(ssl_context=identity.server_context()) as registry:
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


@pytest.mark.parametrize("by_token", [True, False])
async def test_new_login_counts_at_once(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    open_remotes: OpenRemotes,
    tmp_path: Path,
    by_token: bool,
) -> None:
    """After a refusal, the login that was made anew is used without waiting."""
    guarded.tokens, guarded.users = (tokens, None) if by_token else (None, {"ann": PASSWORD})
    file = tmp_path / "auth.json"
    await asyncio.to_thread(save, file, guarded.name, WRONG)
    config = {guarded.name: RegistryConfig(plain_http=True)}
    client = (await open_remotes(config, credentials=CredentialFiles([file]))).remote(guarded.name)
    with pytest.raises(Unauthorized):
        await client.ping()
    await asyncio.to_thread(save, file, guarded.name, ANN)
    await client.ping()


async def test_no_access_for_a_user(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """A login that is right but not enough is not called wrong."""
    guarded.answer("^HEAD", 401, times=None, WWW_Authenticate=f'Bearer realm="{tokens.url}/token"')
    client = await connect(guarded, ANN)
    with pytest.raises(Denied, match="no access as user 'ann'"):
        await client.resolve(image)
