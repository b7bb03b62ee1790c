"""The metrics of a node among others, after known traffic."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from cache.content import Digest
from registryd.cluster.alone import Alone
from registryd.cluster.geometry import Geometry
from registryd.cluster.peer_counts import PeerCounts
from registryd.server.metrics_cluster import of_cluster
from tests.fakes.node import RunningNode, plain
from tests.fakes.party import party
from tests.fakes.upstream import Upstream
from tests.server.test_metrics import OF_CLUSTER, scrape
from tests.server.wire import KIB, noise

CONTENT = noise(20_000 * KIB)
DIGEST = Digest.of(CONTENT)


async def fetch(guest: RunningNode, path: str) -> None:
    async with guest.owner() as client, client.get(path) as answer:
        assert await answer.read() == CONTENT


async def test_what_nodes_give_one_another(tmp_path: Path) -> None:
    """Bytes that one has sent are bytes that another has received, and none comes twice."""
    async with Upstream().serve() as upstream:
        upstream.add_blob("team/app", CONTENT)
        path = f"/v2/{upstream.name}/team/app/blobs/{DIGEST}"
        async with party(tmp_path, 2, registries=plain(upstream)) as guests:
            await asyncio.gather(*(fetch(guest, path) for guest in guests))
            seen = []
            for guest in guests:
                async with guest.owner() as client:
                    seen.append(await scrape(client))

    name = "cluster_received_bytes_total"
    received = [found.get(name, zone="near") or 0 for found in seen]
    assert [received[1], received[0]] == [f.get("cluster_sent_bytes_total") for f in seen]
    assert len(CONTENT) == sum(received)
    assert [0, 0] == [found.get(name, zone="far") for found in seen]
    assert Geometry(len(CONTENT)).count == sum(
        found.get("cluster_registry_chunks_total") or 0 for found in seen
    )
    assert [2, 2] == [found.get("cluster_nodes") for found in seen]
    assert [1, 1] == [found.get("cluster_connected") for found in seen]
    assert 0 == seen[0].get("cluster_double_fetches_total", reason="no_peer_left")
    assert 0 == seen[0].get("cluster_failures_total", kind="stalled")
    ours = [f for f in seen[0].families if f.name.startswith("registryd_cluster_")]
    labels = {f.name: tuple(sorted({key for s in f.samples for key in s.labels})) for f in ours}
    assert OF_CLUSTER == {(family.name, family.type, labels[family.name]) for family in ours}
    assert all(family.documentation.endswith(".") for family in ours)


async def test_a_node_alone_has_none_of_them(owner: aiohttp.ClientSession) -> None:
    """Where there is no cluster nothing is said of one."""
    seen = await scrape(owner)

    assert [] == [f.name for f in seen.families if f.name.startswith("registryd_cluster_")]


@dataclass
class Ledger:
    """What the metrics look at of an exchange."""

    counts: PeerCounts
    load: int = 5
    liars: frozenset[str] = frozenset({"n1", "n2"})


def test_counts_are_in_their_places() -> None:
    """Each count is in the family that is named after it, whatever else was counted."""
    counts = PeerCounts(
        received=10, far=4, sent=20, upstream=30, redirects=40, refusals=50, hedges=60
    )
    counts.double["stands in"] = 1
    counts.failures["wrong"] = 2
    counts.answers["redirect"] = 3
    counts.checks["wrong"] = 4
    values = {
        (sample.name.removeprefix("registryd_cluster_"), *sample.labels.values()): sample.value
        for family in of_cluster(Alone(), Ledger(counts))  # type: ignore[arg-type]
        for sample in family.samples
        if sample.value
    }

    assert {
        ("connected",): 1,
        ("uploads",): 5,
        ("received_bytes_total", "near"): 6,
        ("received_bytes_total", "far"): 4,
        ("sent_bytes_total",): 20,
        ("registry_chunks_total",): 30,
        ("redirects_total",): 40,
        ("refusals_total",): 50,
        ("hedges_total",): 60,
        ("double_fetches_total", "stands_in"): 1,
        ("failures_total", "wrong"): 2,
        ("answers_total", "redirect"): 3,
        ("checks_total", "wrong"): 4,
        ("liars",): 2,
    } == values


async def test_who_lied_is_named_to_people_alone(tmp_path: Path) -> None:
    """The status of a node names those that are left out; the metrics say how many they are."""
    async with party(tmp_path, 2, registries={}) as guests:
        liar = guests[1].name
        guests[0].exchange.company.peers.liars.add(liar)
        async with guests[0].owner() as client, client.get("/api/v1/status") as answer:
            status = (await answer.json())["cluster"]
            seen = await scrape(client)

    assert [liar] == status["liars"]
    assert 1 == seen.get("cluster_liars")
    assert liar not in seen.text
