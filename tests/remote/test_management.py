"""Lists of repositories, and deleting: as registries and token servers do it (rules 2, 10)."""

from __future__ import annotations

import json

import pytest

from cache.content import Digest
from registryd.oci.errors import Denied, Unsupported
from registryd.oci.reference import Reference
from registryd.secrets import Login, Secret
from tests.fakes.registry import FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.remote.conftest import Connect

ANN = Login("ann", Secret("secret-word"))
REPOSITORIES = json.dumps({"repositories": ["b/b", "a", "a", "NO", 5]})
NEXT = '</v2/_catalog?last=b%2Fb&n=1000>; rel="next"'


async def test_catalog(registry: FakeRegistry, connect: Connect) -> None:
    """Pages are followed; what is no repository's name is left out."""
    registry.answer("last=b", 200, json.dumps({"repositories": ["c"]}))
    registry.answer("_catalog.n=1000$", 200, REPOSITORIES, Link=NEXT)
    client = await connect(registry)

    assert ["a", "b/b", "c"] == await client.catalog()


async def test_a_part_is_asked_for_as_one(registry: FakeRegistry, connect: Connect) -> None:
    """No more pages than are needed; a registry that knows neither n nor last changes nothing."""
    registry.answer("_catalog", 200, REPOSITORIES, Link=NEXT)
    client = await connect(registry)

    assert ["b/b"] == await client.catalog(last="a", limit=1)
    assert ["GET /v2/_catalog?n=1&last=a"] == registry.lines()


@pytest.mark.parametrize(("status", "error"), [(404, Unsupported), (405, Unsupported)])
async def test_a_registry_without_a_catalog(
    registry: FakeRegistry, connect: Connect, status: int, error: type[Exception]
) -> None:
    """It is told in words about lists."""
    registry.answer("_catalog", status, times=None)
    client = await connect(registry)
    with pytest.raises(error, match="does not list its repositories"):
        await client.catalog()


async def test_a_catalog_that_is_not_for_us(guarded: FakeRegistry, connect: Connect) -> None:
    """The token is asked for with the scope of a catalog; a refusal is no access (Hub)."""
    client = await connect(guarded)
    assert guarded.tokens is not None
    short = f'Bearer realm="{guarded.tokens.url}/token",error="insufficient_scope"'
    guarded.answer("_catalog", 401, times=None, WWW_Authenticate=short)
    with pytest.raises(Denied, match="does not list its repositories") as caught:
        await client.catalog()

    assert caught.value.exit_code == 3
    assert ("registry:catalog:*",) in guarded.tokens.scopes


@pytest.mark.parametrize(("status", "gone"), [(202, True), (200, True), (204, True), (404, False)])
async def test_delete(registry: FakeRegistry, connect: Connect, status: int, gone: bool) -> None:
    """Each way to say yes is one, and what is gone already is a success."""
    registry.answer("DELETE", status, times=None)
    client, name = await connect(registry), Reference(registry.name, "a/b", "1")
    digest = Digest.of(b"")

    assert gone is await client.delete_manifest(name)
    assert gone is await client.delete_manifest(name.with_digest(digest))
    assert gone is await client.delete_blob(name, digest)
    assert [
        "DELETE /v2/a/b/manifests/1",
        f"DELETE /v2/a/b/manifests/{digest}",
        f"DELETE /v2/a/b/blobs/{digest}",
    ] == registry.lines()


@pytest.mark.parametrize(
    ("status", "code"),
    [(405, "UNSUPPORTED"), (400, "UNSUPPORTED"), (405, ""), (400, "DIGEST_INVALID")],
)
async def test_deletion_is_switched_off(
    registry: FakeRegistry, connect: Connect, status: int, code: str
) -> None:
    """Whatever the status, it is one clear line; and nothing else is tried."""
    registry.answer("DELETE", status, json.dumps({"errors": [{"code": code}]}), times=None)
    client = await connect(registry)
    with pytest.raises(Unsupported, match="does not delete this"):
        await client.delete_manifest(Reference(registry.name, "a/b", "1"))

    assert 1 == len(registry.requests)


async def test_token_servers_that_know_no_delete(
    registry: FakeRegistry, tokens: FakeTokenServer, connect: Connect
) -> None:
    """A token for ``delete`` that is refused is followed by one for everything, once."""
    registry.answer("^DELETE", 401, WWW_Authenticate=f'Bearer realm="{tokens.url}/token"')
    tokens.answer("delete", 400, '{"errors":[{"code":"DENIED"}]}', times=None)
    tokens.post = False
    client = await connect(registry, ANN)

    assert not await client.delete_manifest(Reference(registry.name, "a/b", "none"))
    assert [("repository:a/b:*",)] == tokens.scopes
