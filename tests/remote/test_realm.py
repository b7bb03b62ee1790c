"""Which token servers and other places a registry may send us to (rules 5, 7 and 8)."""

from __future__ import annotations

import pytest
from yarl import URL

from cache.content import Descriptor
from registryd.config import RegistryConfig
from registryd.oci.errors import Denied
from registryd.oci.reference import Reference
from registryd.remote.realm import check_realm, check_target, look_up
from tests.fakes.bodies import Opener
from tests.fakes.registry import FakeCdn, FakeRegistry
from tests.remote.conftest import OpenRemotes

ADDRESSES = {
    "public.example": ["93.184.216.34"],
    "auth.example": ["93.184.216.35"],
    "inner.example": ["10.1.2.3"],
    "auth.inner.example": ["10.1.2.4"],
    "both.example": ["93.184.216.34", "10.1.2.3"],
}


async def lookup(host: str) -> list[str]:
    return ADDRESSES.get(host, [])


@pytest.mark.parametrize("secret", [True, False])
@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        ("https://public.example", "https://public.example/token"),
        ("https://public.example", "https://auth.example/token"),
        ("https://inner.example", "https://auth.inner.example/token"),
        ("https://inner.example", "https://auth.example/token"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"),
        ("http://inner.example", "http://auth.inner.example/token"),
        ("https://unknown.example", "https://other.example/token"),
    ],
)
async def test_4b_05_allowed(registry: str, realm: str, secret: bool) -> None:
    """Public to public, private to private, private to public."""
    await check_realm(URL(registry), URL(realm), secret=secret, lookup=lookup)


@pytest.mark.parametrize("secret", [True, False])
@pytest.mark.parametrize(
    "realm",
    [
        "https://10.0.0.1/token",
        "https://169.254.169.254/latest",
        "https://[fe80::1]/token",
        "https://[::ffff:10.0.0.1]/token",
        "https://localhost/token",
        "https://inner.example/token",
        "https://both.example/token",
        "file:///etc/passwd",
    ],
)
async def test_4b_05_public_to_private_is_refused(realm: str, secret: bool) -> None:
    """A public registry cannot make us ask the private network, with a login or without."""
    with pytest.raises(Denied):
        await check_realm(URL("https://public.example"), URL(realm), secret=secret, lookup=lookup)


async def test_4b_05_no_password_in_the_clear() -> None:
    """TLS for the registry is TLS for the password; a token of nobody may come by plain HTTP."""
    registry = URL("https://public.example")
    for realm in (URL("http://auth.example/token"), URL("http://public.example/token")):
        await check_realm(registry, realm, secret=False, lookup=lookup)
        with pytest.raises(Denied, match="in the clear"):
            await check_realm(registry, realm, secret=True, lookup=lookup)


async def test_look_up() -> None:
    """Addresses by the system's resolver; none for what does not resolve."""
    assert "127.0.0.1" in await look_up("localhost")
    assert [] == await look_up("does-not-exist.invalid")


@pytest.mark.parametrize(
    ("asker", "target", "allowed"),
    [
        ("https://public.example/v2/", "https://cdn.example/x", True),
        ("https://public.example/v2/", "https://inner.example/x", True),
        ("https://public.example/v2/", "https://10.1.2.3/x", False),
        ("https://public.example/v2/", "http://169.254.169.254/latest", False),
        ("https://public.example/v2/", "https://[::1]/x", False),
        ("https://public.example/v2/", "https://metadata.google.internal/x", False),
        ("https://inner.example/v2/", "https://10.1.2.3/x", True),
        ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:9000/x", True),
    ],
)
async def test_where_a_redirect_may_lead(asker: str, target: str, allowed: bool) -> None:
    """By the target's looks: its name may mean a private address to whoever is inside a cloud."""
    try:
        await check_target(URL(asker), URL(target), lookup=lookup)
    except Denied as refused:
        said = str(refused)
    else:
        said = ""

    assert allowed == (said == "")


@pytest.mark.parametrize("header", ["Redirect", "Location"])
async def test_a_public_registry_leads_nobody_inside(
    registry: FakeRegistry, cdn: FakeCdn, open_remotes: OpenRemotes, header: str
) -> None:
    """Neither the redirect of a blob nor the place of an upload is asked that is inside."""
    content = b"layer"
    blob = Descriptor.of("application/octet-stream", content)
    registry.add_blob("team/app", content)
    registry.cdn = cdn
    where = cdn.location(str(blob.digest))
    registry.answer("POST .*/team/app/blobs/uploads", 202, Location=where, times=None)
    config = {"public.example": RegistryConfig(plain_http=True)}
    proxies = {"http": registry.url}
    client = (await open_remotes(config, proxies=proxies, lookup=lookup)).remote("public.example")
    place = Reference("public.example", "team/app")
    with pytest.raises(Denied, match="public, but sends us to 127"):
        if header == "Redirect":
            async with client.fetch_blob(place, blob.digest) as body:
                assert [] == [piece async for piece in body]
        else:
            await client.push_blob(place, blob, Opener(content))

    assert [] == cdn.requests
