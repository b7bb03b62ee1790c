"""A node whose registry is reached by way of mirrors, as its clients see it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from registryd.config import MirrorConfig
from tests.fakes.node import plain, running_node
from tests.fakes.registry import FakeRegistry

LAYER = b"layer " * 1000


@pytest.fixture
async def servers() -> AsyncIterator[list[FakeRegistry]]:
    """Two mirrors and the registry, with one image."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(FakeRegistry().serve()) for _ in range(3)]
        for server in opened:
            server.add_image("team/app", "1", LAYER)
        yield opened


async def test_who_sent_it_and_who_is_left_alone(
    servers: list[FakeRegistry], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The request's log line names the mirror, status the one that failed; the registry is away.

    An open mirror's answer is enough for who has no login.
    """
    caplog.set_level(logging.INFO)
    broken, mirror, registry = servers
    broken.answer(".", 502, times=None)
    registry.drop(".", None)
    digest = mirror.add_blob("team/app", LAYER)
    mirrors = (MirrorConfig(broken.url), MirrorConfig(mirror.url))
    name = f"{registry.name}/team/app"
    async with (
        running_node(tmp_path, registries=plain(registry, mirrors=mirrors)) as node,
        node.nobody() as nobody,
        node.owner() as owner,
    ):
        async with nobody.get(f"/v2/{name}/manifests/1") as answer:
            manifest = answer.status
        async with nobody.get(f"/v2/{name}/blobs/{digest}") as answer:
            content = await answer.read()
        async with owner.get("/api/v1/status") as answer:
            alone = (await answer.json())["mirrors_left_alone"]
    lines = [each.getMessage() for each in caplog.records if f"blobs/{digest}" in each.getMessage()]

    assert (200, True) == (manifest, LAYER == content)
    assert [broken.name] == [each["host"] for each in alone]
    assert "status 502" in alone[0]["cause"]
    assert any(f"source=upstream host={mirror.name}" in line for line in lines), lines
