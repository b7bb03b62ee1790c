"""A node's own registry, over HTTP on TCP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conformance.registry import Registry
from tests.fakes.node import RunningNode, running_node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path, default_registry="localhost") as running:
        yield running


@pytest.fixture
async def registry(node: RunningNode) -> AsyncIterator[Registry]:
    async with node.stranger() as session:
        yield Registry(session)


@pytest.fixture(params=["app", "localhost/app"])
def name(request: pytest.FixtureRequest) -> str:
    """A repository of the node's own, by the listener's default and by its path."""
    return str(request.param)
