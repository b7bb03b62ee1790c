"""Tokens that are lent: how one node reads for another, without its password."""

from __future__ import annotations

import pytest

from registryd.config import MirrorConfig, RegistryConfig
from registryd.oci.errors import Denied, Unauthorized
from registryd.oci.reference import Reference
from registryd.secrets import Login, Secret
from tests.fakes.registry import FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.remote.conftest import Connect

ANN = Login("ann", Secret("secret-word"), origin="a test")


@pytest.fixture
def image(guarded: FakeRegistry) -> Reference:
    guarded.add_image("team/app", "1.0", b"layer")
    return Reference(guarded.name, "team/app", "1.0")


async def test_another_reads_with_a_lent_token(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """The token alone opens the repository: the other side asks no token server for anything."""
    tokens.anonymous = False
    lender = await connect(guarded, ANN)
    token = await lender.pull_token(image)
    assert token is not None
    asked = tokens.counts.total()
    borrower = await connect(guarded, Login(registry_token=token, origin="a node"))

    assert (await lender.resolve(image)).digest == (await borrower.resolve(image)).digest
    assert asked == tokens.counts.total()
    assert "secret-word" not in repr(token)


async def test_a_token_of_a_registry_with_mirrors(
    registry: FakeRegistry, guarded: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """The registry itself gives it, whoever gives the content; and says what it wants to see."""
    registry.add_image("team/app", "1.0", b"layer")
    config = RegistryConfig(plain_http=True, mirrors=(MirrorConfig(registry.url),))
    lender = await connect(guarded, ANN, config)
    await lender.resolve(image)
    token = await lender.pull_token(image)
    borrower = await connect(guarded, Login(registry_token=token or Secret(""), origin="a node"))

    assert await borrower.resolve(image)
    assert "bearer" == lender.asks(image).scheme


async def test_a_token_that_is_no_good_is_shown_once(
    guarded: FakeRegistry, tokens: FakeTokenServer, image: Reference, connect: Connect
) -> None:
    """Refused is refused: no other one is asked for, and the token is in no word of the error."""
    borrower = await connect(guarded, Login(registry_token=Secret("lent-words"), origin="a node"))
    with pytest.raises(Denied, match="no access with the token of a node") as caught:
        await borrower.resolve(image)
    shown = [seen.headers.get("Authorization", "") for seen in guarded.requests]

    assert ["", "Bearer lent-words"] == shown
    assert 0 == tokens.counts.total()
    assert "lent-words" not in str(caught.value)


async def test_a_password_is_not_lent(
    registry: FakeRegistry, guarded: FakeRegistry, image: Reference, connect: Connect
) -> None:
    """Where there is no token there is nothing to lend; without a login nothing needs to be."""
    registry.users = {"ann": "secret-word"}
    by_password = await connect(registry, ANN)
    nobody = await connect(guarded)

    assert await by_password.pull_token(Reference(registry.name, "team/app", "1.0")) is None
    assert await nobody.pull_token(image) is None


async def test_a_lent_token_is_not_sent_as_a_password(
    registry: FakeRegistry, connect: Connect
) -> None:
    """A registry that wants a password gets none, and not the token either."""
    registry.users = {"ann": "secret-word"}
    registry.add_image("team/app", "1.0")
    borrower = await connect(registry, Login(registry_token=Secret("lent-words"), origin="a node"))
    with pytest.raises(Unauthorized):
        await borrower.resolve(Reference(registry.name, "team/app", "1.0"))

    assert [""] == [seen.headers.get("Authorization", "") for seen in registry.requests]
