"""Proxies: which one is used, and that nobody learns its password."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from typing_extensions import override

from registryd.config import RegistryConfig, TransferConfig
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.remote.course import proxies_for
from tests.fakes.clock import FakeClock
from tests.fakes.http import FakeServer
from tests.fakes.registry import FakeRegistry
from tests.remote.conftest import OpenRemotes

FAR = "registry.invalid"
#: A proxy that is not there, with a login that nobody must see.
SECRET = "http://ann:s3cret-word@127.0.0.1:1"


@pytest.mark.parametrize(
    ("environment", "common", "exceptions", "own", "expected"),
    [
        ({"https": "a", "no": "n"}, "environment", (), "inherit", {"https": "a", "no": "n"}),
        ({"https": "a", "no": "n"}, "http://b", (), "inherit", {"all": "http://b", "no": "n"}),
        ({"https": "a"}, "http://b", ("x", ".y"), "http://c", {"all": "http://c", "no": "x,.y"}),
        ({"https": "a"}, "http://b", (), "", {}),
        ({"https": "a"}, "", (), "inherit", {}),
        ({}, "environment", ("x",), "inherit", {}),
    ],
)
def test_which_proxy(
    environment: dict[str, str],
    common: str,
    exceptions: tuple[str, ...],
    own: str,
    expected: dict[str, str],
) -> None:
    """The registry's own setting, else that of [transfer], else the environment's."""
    assert expected == proxies_for(environment, common, exceptions, own)


class Proxy(FakeRegistry):
    """A proxy for plain HTTP: it takes whole URLs, and answers for all hosts."""

    wanted: list[Any]

    @override
    async def respond(self, request: Any) -> Any:
        self.wanted = [*getattr(self, "wanted", []), request.url]
        return await super().respond(request)


@pytest.mark.parametrize("by", ["environment", "transfer", "registry"])
async def test_requests_go_through_it(open_remotes: OpenRemotes, by: str) -> None:
    """By the environment's setting or ours; a login in the environment's URL goes to the proxy."""
    async with Proxy().serve() as proxy:
        proxy.add_image("team/app", "1", b"layer")
        plain = proxy.url
        registry = RegistryConfig(plain_http=True, proxy=plain if by == "registry" else "inherit")
        remotes = await open_remotes(
            {FAR: registry},
            transfer=TransferConfig(proxy=plain if by == "transfer" else "environment"),
            proxies={"http": plain.replace("://", "://ann:s3cret-word@")}
            if by == "environment"
            else {},
        )
        await remotes.remote(FAR).resolve(Reference(FAR, "team/app", "1"))
        sent = [seen.headers.get("Proxy-Authorization", "") for seen in proxy.requests]

    assert {FAR} == {url.host for url in proxy.wanted}
    assert (by == "environment") == all(value.startswith("Basic ") for value in sent)
    assert {"Authorization"}.isdisjoint(*(seen.headers for seen in proxy.requests))


async def test_a_proxy_that_is_away(
    open_remotes: OpenRemotes, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The line says so; neither it nor the log has the password."""
    caplog.set_level(logging.DEBUG)
    remotes = await open_remotes({FAR: RegistryConfig(plain_http=True)}, proxies={"all": SECRET})
    with pytest.raises(TransportError, match="the proxy is not there") as caught:
        await remotes.remote(FAR).resolve(Reference(FAR, "team/app", "1"))
    told = "".join(str(each) for each in (caught.value, caught.value.__cause__, caplog.text))

    assert "s3cret-word" not in told


async def test_exceptions(open_remotes: OpenRemotes, registry: FakeRegistry) -> None:
    """A host of no_proxy, and this machine itself, are reached without it."""
    async with FakeServer().serve() as proxy:
        transfer = TransferConfig(proxy=proxy.url, no_proxy=(FAR,), attempts=1)
        plain = RegistryConfig(plain_http=True)
        remotes = await open_remotes({FAR: plain, registry.name: plain}, transfer=transfer)
        await remotes.remote(registry.name).ping()
        with pytest.raises(TransportError, match="does not resolve"):
            await remotes.remote(FAR).ping()

        assert [] == proxy.requests
