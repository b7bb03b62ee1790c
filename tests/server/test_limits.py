"""/api/v1/limits: seen by everybody, changed by the owner, all that is named or nothing."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tests.fakes.node import RunningNode

NONE = {"up": 0, "down": 0, "registries": {}}


async def ask(client: aiohttp.ClientSession, **changes: Any) -> tuple[int, dict[str, Any]]:
    """Show the limits, or change them; the status and the answer."""
    asking = (
        client.post("/api/v1/limits", json=changes) if changes else client.get("/api/v1/limits")
    )
    async with asking as answer:
        return answer.status, await answer.json()


async def test_limits_are_shown_and_changed(
    node: RunningNode, owner: aiohttp.ClientSession
) -> None:
    """What is changed holds from now on; what is not named stays."""
    assert (200, NONE) == await ask(owner)
    after = {"up": 0, "down": 125_000_000, "registries": {"a.io": 1 << 20, "docker.io": 1000}}
    changes = ["a.io=1MiB/s", "docker.io=1000"]
    assert (200, after) == await ask(owner, down="1Gbit/s", registries=changes)
    after = {"up": 1000, "down": 125_000_000, "registries": {"docker.io": 1000}}
    assert (200, after) == await ask(owner, up="1kB", registries=["a.io=0"])

    assert (200, after) == await ask(owner)
    assert (1000, 125_000_000) == (node.node.rates.up.limit, node.node.rates.down.limit)


async def test_only_the_owner_changes_them(
    owner: aiohttp.ClientSession, stranger: aiohttp.ClientSession
) -> None:
    """Others see them."""
    status, said = await ask(stranger, up="1")

    assert (403, 3) == (status, said["exit_code"])
    assert (200, NONE) == await ask(stranger)
    assert (200, NONE) == await ask(owner)


@pytest.mark.parametrize(
    "wrong",
    [
        {"up": "fast"},
        {"down": "2TiB/s"},
        {"registries": ["a.io"]},
        {"registries": ["a.io=x"]},
        {"registries": ["=1"]},
        {"registries": ["index.docker.io=1"]},
        {"registries": "a.io=1"},
        {"up": 5},
        {"colour": "red"},
    ],
    ids=repr,
)
async def test_what_is_wrong_changes_nothing(
    owner: aiohttp.ClientSession, wrong: dict[str, Any]
) -> None:
    """One mistake, and what was right beside it is not done either."""
    status, said = await ask(owner, **{"up": "1MB", "down": "1MB", **wrong})

    assert (400, 64) == (status, said["exit_code"])
    assert (200, NONE) == await ask(owner)


async def test_nothing_named(owner: aiohttp.ClientSession) -> None:
    """Who names no limit to change has forgotten something; a GET takes no arguments."""
    async with owner.post("/api/v1/limits", json={}) as answer:
        assert 400 == answer.status
    async with owner.get("/api/v1/limits?up=1") as answer:
        assert 400 == answer.status
