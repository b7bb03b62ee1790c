"""``POST /peer/v1/jobs``: a job that another node tells, and what this one says of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from cache.content import Digest
from registryd.jobs.fan_out import PATH
from registryd.jobs.record import RECORD_LIMIT, Image, Job
from registryd.jobs.standing import Standing
from registryd.oci.reference import Reference
from tests.fakes.node import plain
from tests.fakes.party import Guest, party
from tests.fakes.registry import FakeRegistry, digest_of
from tests.jobs.samples import job as sample
from tests.server.wire import noise

LAYER = noise(100_000)


@pytest.fixture
async def guests(tmp_path: Path, upstream: FakeRegistry) -> AsyncIterator[list[Guest]]:
    """Two nodes of one cluster."""
    async with party(tmp_path, 2, registries=plain(upstream)) as running:
        yield running


@pytest.fixture
def wanted(upstream: FakeRegistry) -> Job:
    """A job for all nodes, of an image of the scripted registry."""
    digest = Digest.parse(upstream.add_image("team/app", "1", LAYER))
    reference = Reference(upstream.name, "team/app", "1")
    now = round(time.time(), 3)
    return sample(images=(Image(reference, digest),), created=now, until=now + 3600)


async def told(client: aiohttp.ClientSession, body: bytes) -> tuple[int, list[Standing]]:
    """Status, and the words of an answer."""
    async with client.post(PATH, data=body) as answer:
        lines = (await answer.read()).splitlines()
        if answer.status != 200:
            return answer.status, []
        return 200, [Standing.decode(line) for line in lines if line]


async def test_a_job_is_done(guests: list[Guest], wanted: Job) -> None:
    """The node brings the image, and tells how far it is until it has it."""
    async with guests[0].peer(guests[1]) as client:
        status, words = await told(client, wanted.encode())

    assert (200, "done", len(LAYER) + 37) == (status, words[-1].stage, words[-1].here)
    assert {guests[0].name} == {word.node for word in words}
    assert guests[0].node.store.find(Digest.parse(digest_of(LAYER)))


async def test_told_twice(guests: list[Guest], wanted: Job) -> None:
    """A job that is told again is answered from what is known of it."""
    async with guests[0].peer(guests[1]) as client:
        await told(client, wanted.encode())
        status, words = await told(client, wanted.encode())

    assert (200, ["done"]) == (status, [word.stage for word in words])


async def test_a_cancelled_job(guests: list[Guest], wanted: Job, upstream: FakeRegistry) -> None:
    """A job ends with its cancelled revision, for who follows it too."""
    gate = asyncio.Event()
    upstream.stall(f"GET .*/{digest_of(LAYER)}", gate, times=None)
    async with (
        guests[0].peer(guests[1]) as client,
        client.post(PATH, data=wanted.encode()) as first,
    ):
        while b'"fetching"' not in await first.content.readline():
            pass
        _, words = await told(client, wanted.cancelled().encode())
        last = Standing.decode((await first.read()).splitlines()[-1])
        gate.set()

    assert (["cancelled"], 2) == ([word.stage for word in words], words[0].revision)
    assert ("cancelled", 2) == (last.stage, last.revision)


async def test_who_hangs_up_leaves_the_job(
    guests: list[Guest], wanted: Job, upstream: FakeRegistry
) -> None:
    """A job goes on when the node that told it is gone."""
    gate = asyncio.Event()
    upstream.stall(f"GET .*/{digest_of(LAYER)}", gate, times=None)
    async with guests[0].peer(guests[1]) as client:
        async with client.post(PATH, data=wanted.encode()) as answer:
            while b'"fetching"' not in await answer.content.readline():
                pass
            answer.close()
        gate.set()
        _, words = await told(client, wanted.encode())

    assert "done" == words[-1].stage


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"\xff" * 100, b"[" * 5000, b" " * (RECORD_LIMIT + 1)],
)
async def test_what_is_no_job(guests: list[Guest], body: bytes) -> None:
    """What is no record of a job is refused, and changes nothing."""
    async with guests[0].peer(guests[1]) as client:
        status, _ = await told(client, body)
    prefetches = guests[0].node.prefetches

    assert 400 == status
    assert prefetches is not None
    assert [] == await prefetches.board.jobs()


async def test_a_job_for_others(guests: list[Guest], wanted: Job) -> None:
    """A job that is not for this node is refused."""
    async with guests[0].peer(guests[1]) as client:
        status, _ = await told(client, replace(wanted, targets=("n7",)).encode())

    assert 400 == status


async def test_only_members(guests: list[Guest], wanted: Job) -> None:
    """Who is no node of the cluster tells nothing: the route is not among those for people."""
    async with guests[0].owner() as owner, owner.post(PATH, data=wanted.encode()) as answer:
        assert 404 == answer.status
    async with guests[0].peer(guests[1]) as client:
        headers = {"Registryd-Node": "127.0.0.1:1"}
        async with client.post(PATH, data=wanted.encode(), headers=headers) as answer:
            body = json.loads(await answer.read())

    assert (403, "DENIED") == (answer.status, body["errors"][0]["code"])
