"""Scripted registries, and clients for them whose waits cost no time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from registryd.config import MirrorConfig, RegistryConfig, TransferConfig
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.remote.remotes import RegistryRemotes
from registryd.secrets import Login
from tests.fakes.clock import FakeClock
from tests.fakes.http import FakeServer
from tests.fakes.registry import FakeCdn, FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.remote.reached import LAYER, Reached

OpenRemotes = Callable[..., Awaitable[RegistryRemotes]]
Connect = Callable[..., Awaitable[RegistryClient]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry().serve() as server:
        yield server


@pytest.fixture
async def cdn() -> AsyncIterator[FakeCdn]:
    async with FakeCdn().serve() as server:
        yield server


@pytest.fixture
async def tokens() -> AsyncIterator[FakeTokenServer]:
    async with FakeTokenServer(users={"ann": "secret-word"}).serve() as server:
        yield server


@pytest.fixture
async def guarded(tokens: FakeTokenServer) -> AsyncIterator[FakeRegistry]:
    """A registry that wants tokens."""
    async with FakeRegistry(tokens=tokens).serve() as server:
        yield server


@pytest.fixture
async def open_remotes(clock: FakeClock) -> AsyncIterator[OpenRemotes]:
    async with AsyncExitStack() as stack:

        async def open_(
            registries: Mapping[str, RegistryConfig] | None = None, **settings: Any
        ) -> RegistryRemotes:
            given = {
                "transfer": TransferConfig(),
                "allow": ("*",),
                "credentials": None,
                "proxies": {},
                "clock": clock.clock,
            } | settings
            opened = RegistryRemotes.open(registries=registries or {}, **given)
            return await stack.enter_async_context(opened)

        yield open_


@pytest.fixture
async def connect(open_remotes: OpenRemotes) -> Connect:
    """A client for a scripted registry, by plain HTTP unless the configuration says otherwise."""

    async def connect_(
        server: FakeServer,
        login: Login | None = None,
        config: RegistryConfig | None = None,
        **settings: Any,
    ) -> RegistryClient:
        config = config or RegistryConfig(plain_http=True)
        remotes = await open_remotes({server.name: config}, **settings)
        return remotes.remote(server.name, login)

    return connect_


@pytest.fixture
def image(registry: FakeRegistry) -> Reference:
    """An image in the open registry."""
    registry.add_image("team/app", "1.0", b"layer " * 1000)
    return Reference(registry.name, "team/app", "1.0")


@pytest.fixture
async def hosts() -> AsyncIterator[list[FakeRegistry]]:
    """Two mirrors and the registry, each with the same image."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(FakeRegistry().serve()) for _ in range(3)]
        for server in opened:
            server.add_image("team/app", "1", LAYER)
        yield opened


@pytest.fixture
async def reach(open_remotes: OpenRemotes, hosts: list[FakeRegistry]) -> Any:
    async def reach_(
        *mirrors: MirrorConfig,
        login: Login | None = None,
        fallback: str = "always",
        config: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Reached:
        entry = RegistryConfig(
            plain_http=True,
            mirrors=mirrors or tuple(MirrorConfig(server.url) for server in hosts[:-1]),
            fallback=fallback,
            **(config or {}),
        )
        remotes = await open_remotes({hosts[-1].name: entry}, **settings)
        return Reached(remotes, hosts, login)

    return reach_
