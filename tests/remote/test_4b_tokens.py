"""Challenges and tokens: rules 1 to 6 of what registries do (4b), against a scripted one."""

from __future__ import annotations

import pytest

from cache.content import Descriptor
from registryd.config import RegistryConfig
from registryd.oci.errors import BadAnswer, Denied, RegistryError, Unauthorized
from registryd.oci.reference import Reference
from registryd.remote.token_server import TOKEN_BODY_LIMIT
from registryd.secrets import Login, Secret
from tests.fakes.bodies import Opener
from tests.fakes.clock import FakeClock
from tests.fakes.http import Reply
from tests.fakes.registry import FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.fakes.traits import TokenTraits
from tests.remote.conftest import Connect

ANN = Login("ann", Secret("secret-word"), origin="a test")
OURS = "scope=repository%3Ateam%2Fapp%3Apull"
ASKED = f"{OURS}&client_id=registryd"
BLOB = Descriptor.of("application/octet-stream", b"content")


@pytest.fixture
def image(guarded: FakeRegistry) -> Reference:
    guarded.add_image("team/app", "1.0", b"layer")
    return Reference(guarded.name, "team/app", "1.0")


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        (['Negotiate', 'Bearer realm="{realm}"'], ASKED),
        (['Basic realm="x", Bearer realm="{realm}"'], ASKED),
        (['Digest qop="auth, auth-int", nonce="n=", Bearer realm="{realm}"'], ASKED),
        (['bEARER REALM="{realm}",Service="s"'], f"service=s&{ASKED}"),
        (['Bearer realm="{realm}",service="a, \\"b\\""'], f"service=a%2C%20%22b%22&{ASKED}"),
        (['Bearer realm={realm},service=s'], f"service=s&{ASKED}"),
        (['Bearer service="s" , realm = "{realm}"'], f"service=s&{ASKED}"),
        (['Bearer realm="{realm}?account=x"'], f"account=x&{ASKED}"),
    ],
)  # fmt: skip
async def test_4b_01_challenges_by_rfc_9110(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    headers: list[str],
    asked: str,
) -> None:
    """Several headers, or challenges in one; quotes, escapes, any case; no service, no scope."""

    def challenge(reply: Reply) -> None:
        if reply.status == 401:
            reply.headers.popall("WWW-Authenticate")
            for header in headers:
                filled = header.replace("{realm}", f"{tokens.url}/token")
                reply.headers.add("WWW-Authenticate", filled)

    guarded.change("", challenge)
    client = await connect(guarded)
    await client.resolve(image)

    assert [f"GET /token?{asked}"] == tokens.lines()


async def test_4b_01_relative_realm(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """A realm may be a path on the registry's own host."""
    guarded.challenge = 'Bearer realm="/auth/token"'
    guarded.answer("^GET /auth/token", 200, '{"token":"t"}')
    tokens.issued["t"] = {"repository:team/app:pull"}
    client = await connect(guarded)
    await client.resolve(image)

    assert [f"GET /auth/token?{ASKED}"] == guarded.lines("/auth/token")


@pytest.mark.parametrize(
    ("scope", "more"),
    [
        ("repository:team/app:pull repository:team/base:pull", "repository%3Ateam%2Fbase%3Apull"),
        ("repository(plugin):team/app:pull", "repository%28plugin%29%3Ateam%2Fapp%3Apull"),
        ("registry:catalog:*", "registry%3Acatalog%3A%2A"),
        ("repository:team/app:pull,push", ""),
        ("repository:team/app:delete", ""),
    ],
)
async def test_4b_02_one_parameter_a_scope_ours_first(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    scope: str,
    more: str,
) -> None:
    """Scopes are split, ours comes first, and no action is asked for that we do not need."""
    guarded.challenge = f'Bearer realm="{tokens.url}/token",scope="{scope}"'
    client = await connect(guarded)
    await client.resolve(image)
    scopes = f"{OURS}&scope={more}" if more else OURS

    assert [f"GET /token?{scopes}&client_id=registryd"] == tokens.lines()


async def test_4b_02_push_is_asked_for_when_pushing_only(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """Nobody gets a token from GHCR who asks for push without a login; Quay knows no delete."""
    tokens.traits = TokenTraits(anonymous_push=403, unknown_actions=frozenset({"delete"}))
    client = await connect(guarded)
    await client.fetch_manifest(image)
    with pytest.raises(RegistryError):
        await client.push_blob(image, BLOB, Opener(b"content"))
    client = await connect(guarded, ANN)
    guarded.answer("^PUT", 400)
    with pytest.raises(RegistryError):
        await client.push_blob(image, BLOB, Opener(b"content"))

    assert ["DELETE"] == [seen.method for seen in guarded.asked("^DELETE")]
    assert [("repository:team/app:pull",), ("repository:team/app:pull,push",)] == tokens.scopes


async def test_4b_02_catalog(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """The list of repositories has a scope of its own."""
    client = await connect(guarded, ANN)

    assert ["team/app"] == await client.catalog()
    assert [("registry:catalog:*",)] == tokens.scopes


@pytest.mark.parametrize("wanted", ["delete", "push", "*"])
async def test_4b_02_what_a_deletion_needs(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    wanted: str,
) -> None:
    """Some registries want the action delete, some push; one cannot parse delete."""
    if wanted != "delete":
        tokens.traits = TokenTraits(unknown_actions=frozenset({"delete"}))
    guarded.traits = guarded.traits.but("auth", delete=wanted)
    client = await connect(guarded, ANN)

    assert await client.delete_manifest(image)
    assert [] == guarded.repositories["team/app"].tags


@pytest.mark.parametrize(
    ("member", "members"),
    [
        ("token", {}),
        ("access_token", {}),
        ("token", {"access_token": ""}),
        ("access_token", {"token": ""}),
        ("access_token", {"token": None, "expires_in": None}),
        ("token", {"issued_at": "2001-01-01T00:00:00Z", "scope": ["x"], "more": "x" * 100_000}),
        ("token", {"issued_at": "nonsense", "expires_in": "300"}),
        ("token", {"expires_in": -1}),
        ("token", {"expires_in": 10**400}),
    ],
)
async def test_4b_03_any_shape_of_a_token(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    member: str,
    members: dict[str, object],
) -> None:
    """Token and access_token, either empty; lifetimes and dates of all kinds; long ones too."""
    tokens.member, tokens.members = member, members
    client = await connect(guarded)
    await client.resolve(image)
    await client.resolve(image)

    assert {"anonymous": 1} == tokens.counts


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"token":5}', b"<html>", b" " * (TOKEN_BODY_LIMIT + 1) + b"{}"]
)
async def test_4b_03_no_token_is_told(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect, body: bytes
) -> None:
    """200 without a token, or with more than 128 KiB, is the token server's fault, and says so."""
    tokens.answer("^GET", 200, body, times=None)
    client = await connect(guarded)
    with pytest.raises(BadAnswer, match=tokens.name):
        await client.resolve(image)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
@pytest.mark.parametrize("identity", [False, True])
async def test_4b_04_each_way_once(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    status: int,
    identity: bool,
) -> None:
    """GET first with a password, POST first with an identity token; each once, and no more."""
    tokens.answer("", status, times=None)
    login = Login(identity_token=Secret("refresh-word")) if identity else ANN
    client = await connect(guarded, login)
    with pytest.raises(RegistryError):
        await client.resolve(image)
    ways = ["POST", "GET"] if identity else ["GET", "POST"]

    assert ways == [seen.method for seen in tokens.requests]


async def test_4b_04_nobody_is_never_asked_by_post(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """Without a login there is one way only."""
    tokens.anonymous = False
    client = await connect(guarded)
    with pytest.raises(Unauthorized):
        await client.resolve(image)

    assert ["GET"] == [seen.method for seen in tokens.requests]


@pytest.mark.parametrize("realm", ["169.254.169.254", "10.1.2.3", "inside.example"])
async def test_4b_05_realm_in_the_private_network(
    registry: FakeRegistry, connect: Connect, realm: str
) -> None:
    """A registry on the internet cannot have us ask an address of the private network."""
    addresses = {"public.example": "8.8.8.8", "inside.example": "192.168.1.1"}

    async def lookup(host: str) -> list[str]:
        return [addresses.get(host, host)]

    registry.answer("", 401, times=None, WWW_Authenticate=f'Bearer realm="http://{realm}/token"')
    # The registry is its own way there: all is sent through it as a proxy.
    endpoint = RegistryConfig(endpoint="http://public.example")
    through = {"http": registry.url}
    client = await connect(registry, ANN, endpoint, lookup=lookup, proxies=through)
    with pytest.raises(Denied, match=f"sends us to {realm}"):
        await client.ping()

    assert ["GET http://public.example/v2/"] == registry.lines()


async def test_4b_06_second_401_is_final(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """One 401 is met with a fresh token, once; a second one is the answer."""
    client = await connect(guarded)
    await client.resolve(image)
    tokens.revoke()
    realm = f'Bearer realm="{tokens.url}/token"'
    guarded.answer("^HEAD", 401, times=None, WWW_Authenticate=realm)
    before = len(guarded.requests)
    with pytest.raises(RegistryError):
        await client.resolve(image)

    assert before + 2 == len(guarded.requests)
    assert {"anonymous": 2} == tokens.counts


@pytest.mark.parametrize(
    ("stale", "words"),
    [
        (401, ""),
        (403, "denied"),
        (400, "Your Authorization Token has expired. Please run 'aws ecr-public ...'"),
    ],
)
async def test_4b_06_token_that_ends_in_mid_transfer(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    stale: int,
    words: str,
) -> None:
    """A token that is good for three requests is renewed as often as needed, however it is told."""
    guarded.traits = guarded.traits.but("auth", stale=stale, stale_words=words)
    tokens.traits = TokenTraits(uses=3)
    contents = [f"layer {number}".encode() for number in range(5)]
    client = await connect(guarded, ANN)
    for content in contents:
        await client.push_blob(image, Descriptor.of("x", content), Opener(content))

    assert set(contents) < set(guarded.repositories["team/app"].blobs.values())
    assert {"basic": 4} == tokens.counts


async def test_4b_06_a_plain_403_is_not_repeated(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """403 to a token that was fetched for this very request says no, and nothing of expiry."""
    guarded.traits = guarded.traits.but("auth", short=403)
    client = await connect(guarded)
    with pytest.raises(Denied):
        await client.push_blob(image, BLOB, Opener(b"content"))

    assert {"anonymous": 1} == tokens.counts


async def test_4b_06_clock_of_the_server_is_not_ours(
    guarded: FakeRegistry,
    tokens: FakeTokenServer,
    image: Reference,
    connect: Connect,
    clock: FakeClock,
) -> None:
    """A token lasts from when it came, whatever its server takes the time to be (3)."""
    tokens.members = {"expires_in": 300, "issued_at": "2999-01-01T00:00:00Z"}
    client = await connect(guarded)
    await client.resolve(image)
    clock.now += 271
    await client.resolve(image)

    assert {"anonymous": 2} == tokens.counts
