"""Which token servers a registry may send us to (rule 5)."""

from __future__ import annotations

import pytest
from yarl import URL

from registryd.oci.errors import Denied
from registryd.remote.realm import check_realm, look_up

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
