"""Story: a site limits what its nodes take, and changes that while they run."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import aiohttp

from tests.fakes.registry import FakeRegistry, digest_of
from tests.fakes.upstream import Upstream
from tests.real.daemon import DaemonProcess, started
from tests.test_daemon import plain_http, write_config
from tests.test_reload import reload

MIB = 1 << 20
LAYER = random.Random(3).randbytes(8 * MIB)
SLOW = '[cluster]\ndown = "256KiB/s"\n'


async def pull(client: aiohttp.ClientSession, reference: str) -> dict[str, Any]:
    """Pull; the last event."""
    async with client.post("/api/v1/pull", json={"reference": reference}) as answer:
        last = (await answer.read()).splitlines()[-1]
    return dict(json.loads(last))


async def limits(client: aiohttp.ClientSession) -> dict[str, Any]:
    """The limits that hold."""
    async with client.get("/api/v1/limits") as answer:
        return dict(await answer.json())


async def under_way(client: aiohttp.ClientSession, upstream: FakeRegistry) -> int:
    """How many bytes of the layer are here; waits for the first."""
    while True:
        async with client.get("/api/v1/cache/active") as answer:
            flights = (await answer.json())["flights"]
        here = [f["offset"] for f in flights if f["digest"] == digest_of(LAYER) and f["offset"]]
        if here:
            return int(here[0])


async def test_a_limit_holds_and_ends(tmp_path: Path) -> None:
    """A large image on its way leaves room for a small one, and flies when the limit is lifted."""
    async with Upstream().serve() as upstream:
        upstream.add_image("team/large", "1", LAYER)
        upstream.add_image("team/small", "1", b"a few bytes", b"some more")
        config = write_config(tmp_path, more=plain_http(upstream) + SLOW)
        async with started(config) as daemon, daemon.client() as client:
            large = asyncio.create_task(pull(client, f"{upstream.name}/team/large:1"))
            await under_way(client, upstream)
            assert "done" == (await pull(client, f"{upstream.name}/team/small:1"))["event"]
            assert not large.done()
            changed = {"registries": [f"{upstream.name}=1TB"], "down": "0"}
            async with client.post("/api/v1/limits", json=changed) as answer:
                assert 200 == answer.status
            assert "done" == (await large)["event"]

    assert len(LAYER) == upstream.sent[digest_of(LAYER)]


async def test_a_reload_takes_limits_over(tmp_path: Path) -> None:
    """What the file says holds after a SIGHUP, and what was changed by hand holds no more."""
    async with Upstream().serve() as upstream:
        upstream.add_image("team/large", "1", LAYER)
        head, entry = write_config(tmp_path).read_text(), plain_http(upstream)
        config = tmp_path / "d.toml"
        config.write_text(head + entry + SLOW)
        async with started(config) as daemon, daemon.client() as client:
            await by_hand(client)
            large = asyncio.create_task(pull(client, f"{upstream.name}/team/large:1"))
            await under_way(client, upstream)
            await reload(daemon, config, head + entry + 'rate = "1TB"\n[cluster]\nup = "1MB/s"\n')
            assert "done" == (await large)["event"]
            found = await limits(client)

    assert {"up": 10**6, "down": 0, "registries": {upstream.name: 10**12}} == found
    assert not said_of_a_restart(daemon)


async def by_hand(client: aiohttp.ClientSession) -> None:
    async with client.post("/api/v1/limits", json={"registries": ["other.io=1"]}) as answer:
        assert 200 == answer.status


def said_of_a_restart(daemon: DaemonProcess) -> bool:
    return any("restart to apply" in line for line in daemon.lines)
