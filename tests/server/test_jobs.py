"""/api/v1: prefetch and jobs, on a node that has no cluster."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import aiohttp
import pytest

from cache.content import Digest
from registryd.oci.reference import Reference
from tests.fakes.node import RunningNode
from tests.fakes.registry import FakeRegistry, digest_of
from tests.server.test_control import get, post, stream
from tests.server.wire import noise

LAYER = noise(100_000)


@pytest.fixture
def name(upstream: FakeRegistry) -> str:
    """An image of the scripted registry."""
    upstream.add_image("team/app", "1", LAYER)
    return f"{upstream.name}/team/app:1"


def pinned(node: RunningNode, name: str) -> str:
    """What a tag means on the node, without a question."""
    return str(node.node.library.tags.digest(Reference.parse(name)) or "")


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The kinds of events, each run of them once."""
    found: list[str] = []
    for event in events:
        if found[-1:] != [event["event"]]:
            found.append(event["event"])
    return found


async def test_a_job_from_begin_to_end(
    owner: aiohttp.ClientSession, node: RunningNode, name: str, upstream: FakeRegistry
) -> None:
    """A job that is waited for tells what the name means, the job, the nodes, and how it ended."""
    events = await stream(owner, "prefetch", references=[name], wait=True)
    id = events[-1]["job"]
    _, listed = await get(owner, "jobs")
    _, shown = await get(owner, "job", id=id)
    digest = upstream.repositories["team/app"].manifests["1"][1]
    (node_name,) = events[-1]["done"]

    assert ["resolved", "job"] == kinds(events)[:2]
    assert {"node", "cluster"} == set(kinds(events)[2:-1])
    assert ("done", [], []) == tuple(events[-1][key] for key in ("event", "failed", "missing"))
    assert [{"reference": name, "digest": digest_of(digest), "platforms": [],
             "all_platforms": False}] == shown["images"]  # fmt: skip
    assert [id] == [job["id"] for job in listed["jobs"]]
    assert {"all": 1, "done": 1, "bytes": len(LAYER) + 37}.items() <= shown["nodes"].items()
    assert [(node_name, "done", "")] == [
        (word["node"], word["state"], word["error"]) for word in shown["standings"]
    ]
    assert ([], "active", "all") == (shown["silent"], shown["state"], shown["on"])
    assert pinned(node, name) == digest_of(digest)


async def test_without_waiting(owner: aiohttp.ClientSession, name: str) -> None:
    """A job that is not waited for is told at once; it can be ended, and ended again."""
    events = await stream(owner, "prefetch", references=[name])
    id = events[-1]["job"]
    ended = [await post(owner, "jobs/cancel", id=id) for _ in range(2)]
    _, shown = await get(owner, "job", id=id)

    assert (["resolved", "job", "done"], False) == (kinds(events), events[-1]["waited"])
    assert [(200, {"id": id, "state": "cancelled"})] * 2 == ended
    assert ("cancelled", 2) == (shown["state"], shown["revision"])


async def test_only_the_owner(stranger: aiohttp.ClientSession, name: str) -> None:
    """Nobody but the owner puts up, sees or ends jobs, and that is said."""
    (failed,) = await stream(stranger, "prefetch", references=[name])
    answers = [
        await get(stranger, "jobs"),
        await get(stranger, "job", id="0123456789ab"),
        await post(stranger, "jobs/cancel", id="0123456789ab"),
    ]

    assert ("failed", 3) == (failed["event"], failed["exit_code"])
    assert "only root and the daemon's own user" in failed["message"]
    assert [403] * 3 == [status for status, _ in answers]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ({}, 64, "takes images, or a list of wishes"),
        ({"references": ["a"], "wishes": "images: {a: x}"}, 64, "takes images, or a list"),
        ({"references": ["A b"]}, 64, "not an image reference"),
        ({"references": ["{name}"], "everywhere": True}, 6, "this node has no cluster"),
        ({"references": ["{name}"], "nodes": "n[1-3]"}, 6, "so that n.1-3. cannot be told"),
        ({"references": ["{name}"], "lasting": "31d"}, 64, "1m to 30d"),
        ({"references": ["{name}"], "timeout": "soon"}, 64, "is not a time"),
        ({"references": ["{name}"], "platforms": ["a b"]}, 64, "a b"),
        ({"wishes": "images:\n  a: x\n  b: y", "platforms": ["linux/amd64"]}, 64, "in their file"),
        ({"wishes": "images:\n  a: x\nb: y"}, 64, "line 3: 'b' is not known"),
        ({"references": ["{name}9"]}, 2, "team/app:19"),
        ({"references": ["evil.test/a:1"]}, 6, "evil.test"),
    ],
)
async def test_what_is_refused(
    owner: aiohttp.ClientSession, name: str, arguments: dict[str, Any], code: int, said: str
) -> None:
    """What cannot be done is refused before there is a job."""
    references = [each.format(name=name) for each in arguments.get("references", [])]
    given = {**arguments, "references": references} if references else arguments
    events = await stream(owner, "prefetch", **given)
    _, listed = await get(owner, "jobs")

    assert ("failed", code) == (events[-1]["event"], events[-1]["exit_code"]), events
    assert re.search(said, events[-1]["message"]), events[-1]["message"]
    assert [] == listed["jobs"]


async def test_an_unknown_job(owner: aiohttp.ClientSession) -> None:
    """A job that is not there is 404 wherever it is named."""
    for status, body in (await get(owner, "job", id="x"), await post(owner, "jobs/cancel", id="x")):
        assert (404, True) == (status, "there is no job x" in body["errors"][0]["message"])


async def test_wishes(
    owner: aiohttp.ClientSession, name: str, upstream: FakeRegistry, node: RunningNode
) -> None:
    """A list of wishes is a job of the tags that fit, with the wishes in it."""
    upstream.add_image("team/app", "2", b"other")
    wishes = f"images:\n  {upstream.name}/team/app: ['*']\n"
    events = await stream(owner, "prefetch", wishes=wishes, wait=True)
    (job,) = [event for event in events if event["event"] == "job"]
    _, images = await get(owner, "images")

    assert ("wishes", [["*"]]) == (job["kind"], [wish["tags"] for wish in job["wishes"]])
    assert {"1", "2"} == {image["tag"] for image in images["images"]}


async def test_who_hangs_up_leaves_the_job(
    owner: aiohttp.ClientSession, name: str, node: RunningNode, upstream: FakeRegistry
) -> None:
    """A client that goes in the middle of waiting ends its waiting, not the job."""
    gate = asyncio.Event()
    upstream.stall(f"GET .*/{digest_of(LAYER)}", gate)
    async with owner.post("/api/v1/prefetch", json={"references": [name], "wait": True}) as answer:
        while b'"state": "fetching"' not in await answer.content.readline():
            pass
    gate.set()
    id = (await get(owner, "jobs"))[1]["jobs"][0]["id"]
    word: dict[str, Any] = {}
    async with asyncio.timeout(20):
        while word.get("state") != "done":
            word = (await get(owner, "job", id=id))[1]["standings"][0]

    metric = 'registryd_requests_total{method="POST",route="api_v1_prefetch",status="499"} 1.0'
    text = ""
    async with asyncio.timeout(20):
        while metric not in text:
            async with owner.get("/metrics") as answer:
                text = await answer.text()

    assert node.node.store.find(Digest.parse(digest_of(LAYER)))
