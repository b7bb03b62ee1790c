"""A scripted registry, a node in front of it, and clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream
from tests.server.content import CONTENT, DIGEST
from tests.server.wire import Wire, connected


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with Upstream().serve() as server:
        yield server


@pytest.fixture
async def node(upstream: FakeRegistry, tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path, registries=plain(upstream)) as running:
        yield running


@pytest.fixture
async def owner(node: RunningNode) -> AsyncIterator[aiohttp.ClientSession]:
    async with node.owner() as client:
        yield client


@pytest.fixture
async def stranger(node: RunningNode) -> AsyncIterator[aiohttp.ClientSession]:
    async with node.stranger() as client:
        yield client


@pytest.fixture
async def nobody(node: RunningNode) -> AsyncIterator[aiohttp.ClientSession]:
    async with node.nobody() as client:
        yield client


@pytest.fixture
def path(upstream: FakeRegistry) -> str:
    """Where the node has the blob that these tests ask for."""
    upstream.add_blob("team/app", CONTENT)
    return f"/v2/{upstream.name}/team/app/blobs/{DIGEST}"


@pytest.fixture
async def wire(node: RunningNode) -> AsyncIterator[Wire]:
    async with connected(node.port) as opened:
        yield opened
