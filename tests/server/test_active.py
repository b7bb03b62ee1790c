"""/api/v1/cache/active: the fetches under way, for those who may know of them."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.fakes.node import RunningNode
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.server.content import BLOBS, CONTENT, DIGEST, SIZE, arrived, fetch


async def active(client: aiohttp.ClientSession, path: str = "cache/active") -> list[dict[str, Any]]:
    """What a client is told to be on its way."""
    async with client.get(f"/api/v1/{path}") as answer:
        assert answer.status == 200
        flights: list[dict[str, Any]] = (await answer.json())["flights"]
        return flights


@pytest.mark.parametrize("shown", ["cache/active", "status"])
async def test_a_fetch_and_who_sees_it(
    owner: aiohttp.ClientSession,
    stranger: aiohttp.ClientSession,
    node: RunningNode,
    upstream: FakeRegistry,
    path: str,
    shown: str,
) -> None:
    """The owner sees how far it is and who reads it; one who was let in nowhere sees nothing."""
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=500_000)
    reading = asyncio.create_task(fetch(owner, path))
    await until(lambda: arrived(node) == 500_000)
    (ingest,), (flight,) = node.node.store.arriving(), node.node.flights.under_way()
    await until(lambda: ingest.followers and flight.received == 500_000)
    (seen,), hidden = await active(owner, shown), await active(stranger, shown)
    gate.set()

    assert (200, CONTENT) == await reading
    assert seen.pop("seconds") > 0
    assert {
        "digest": str(DIGEST), "repository": f"{upstream.name}/team/app", "source": upstream.name,
        "offset": 500_000, "total": SIZE, "received": 500_000, "waiters": 1,
    } == seen  # fmt: skip
    assert [] == hidden
    await until(lambda: not node.node.flights.under_way())
    assert [] == await active(owner, shown)


async def test_what_was_here_already_counts_as_here(
    owner: aiohttp.ClientSession, node: RunningNode, upstream: FakeRegistry, path: str
) -> None:
    """A fetch that goes on where an earlier one broke off has come as far as its bytes have."""
    upstream.cut(BLOBS, at=500_000)
    with pytest.raises(aiohttp.ClientPayloadError):
        await fetch(owner, path)
    await until(lambda: not node.node.flights.under_way())
    gate = asyncio.Event()
    upstream.stall(BLOBS, gate, at=100_000)
    reading = asyncio.create_task(fetch(owner, path))
    await until(lambda: [f.received for f in node.node.flights.under_way()] == [100_000])
    (seen,) = await active(owner)
    gate.set()
    await reading

    assert 100_000 == seen["received"]
    assert seen["received"] < seen["offset"] <= 600_000
