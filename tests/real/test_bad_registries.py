"""Story: a registry whose bytes end early, lie, or stop coming; nothing wrong is ever kept."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.http import Reply
from tests.fakes.registry import OCI_LAYER, FakeRegistry, digest_of, error, make_image
from tests.real.conftest import Start
from tests.real.runtimes import Ran
from tests.real.stories import UP, Daemon, arriving, blobs_of, told

LAYER = random.Random(2).randbytes(3_000_000)
DIGEST = digest_of(LAYER)
NAME = f"{UP}/a:1"
#: Short limits: what is told is the same, and no one waits for it.
TRANSFER = {"attempts": 2, "stall_timeout": "1s", "connect_timeout": "2s"}


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    """An upstream with one image of one layer."""
    async with FakeRegistry().serve() as server:
        server.add_image("a", "1", LAYER)
        yield server


@pytest.fixture
def node(fake: FakeRegistry, start: Start) -> Daemon:
    """A daemon in front of it."""
    return start({"registries": {UP: {"endpoint": fake.url}}, "transfer": TRANSFER})


async def pull(node: Daemon, *words: str) -> Ran:
    """Pull while the scripted registry answers."""
    return await asyncio.to_thread(node.ctl, "pull", "-q", *words, NAME)


async def test_a_body_that_is_cut_is_resumed(fake: FakeRegistry, node: Daemon) -> None:
    """After a cut the rest is asked for by Range, and no byte comes twice."""
    fake.cut(f"GET .*{DIGEST}", at=2_000_000)

    ran = await pull(node)

    assert 0 == ran.code, ran.err
    second = fake.asked(f"GET .*{DIGEST}")[1]
    assert second.headers["Range"].startswith("bytes=2000000-")
    assert len(LAYER) == fake.sent[DIGEST]
    assert DIGEST in blobs_of(node.root)


async def test_a_body_that_always_ends_early_is_6(fake: FakeRegistry, node: Daemon) -> None:
    """What never comes whole is a network failure; what came is kept to be resumed."""
    cuts = iter([2_000_000])
    fake.change(f"GET .*{DIGEST}", lambda answer: setattr(answer, "cut", next(cuts, 0)))

    ran = await pull(node)

    assert 6 == ran.code, ran
    assert DIGEST in told(ran) or UP in told(ran)
    assert DIGEST not in blobs_of(node.root)
    key = DIGEST.replace(":", "-")
    assert [f"{key}.data", f"{key}.ranges"] == arriving(node.root)

    fake.faults.clear()
    assert 0 == (await pull(node)).code
    assert len(LAYER) == fake.sent[DIGEST]
    assert [] == arriving(node.root)


def other_bytes(answer: Reply) -> None:
    """The same length, and another content at the very end."""
    answer.body = answer.body[:-1] + bytes([answer.body[-1] ^ 1])


async def test_wrong_bytes_are_5(fake: FakeRegistry, node: Daemon) -> None:
    """Content that does not hash to its digest is told as such, given to nobody, and not kept."""
    fake.change(f"GET .*{DIGEST}", other_bytes)

    ran = await pull(node)

    assert 5 == ran.code, ran
    assert DIGEST in told(ran)
    assert DIGEST not in blobs_of(node.root)
    assert [] == arriving(node.root)
    assert '"images": []' in await asyncio.to_thread(node.ctl.ok, "images", "--format", "json")

    fake.faults.clear()
    assert 0 == (await pull(node)).code


async def test_a_wrong_manifest_is_5(fake: FakeRegistry, node: Daemon) -> None:
    """A manifest that is not the one its digest names is refused before a layer is asked for."""
    fake.change("GET .*manifests", other_bytes)

    ran = await pull(node)

    assert 5 == ran.code, ran
    told(ran)
    assert [] == fake.lines("blobs")
    assert set() == blobs_of(node.root)


@pytest.mark.parametrize("more", [-1, 1])
async def test_a_wrong_size_is_5(fake: FakeRegistry, node: Daemon, more: int) -> None:
    """A layer that is longer or shorter than its manifest says is refused."""
    document = json.loads(make_image(LAYER))
    document["layers"] = [
        {"mediaType": OCI_LAYER, "digest": DIGEST, "size": len(LAYER) + more},
    ]
    fake.add_manifest("a", "1", json.dumps(document).encode())

    ran = await pull(node)

    assert 5 == ran.code, ran
    told(ran)
    assert [] == arriving(node.root)
    assert DIGEST not in blobs_of(node.root)


async def test_a_registry_that_stalls_is_6(fake: FakeRegistry, node: Daemon) -> None:
    """No byte for stall_timeout, on every try: the pull ends, and says who stopped sending."""
    gate = asyncio.Event()
    stops = iter([1_500_000])

    def stop(answer: Reply) -> None:
        answer.gate, answer.gate_at = gate, next(stops, 0)

    fake.change(f"GET .*{DIGEST}", stop)

    ran = await pull(node)

    gate.set()
    assert 6 == ran.code, ran
    assert "1 s" in told(ran) or "1s" in told(ran) or "1.0" in told(ran)
    assert DIGEST not in blobs_of(node.root)


async def test_a_stall_is_overcome(fake: FakeRegistry, node: Daemon) -> None:
    """One connection that stops is left for another that begins where it stopped."""
    gate = asyncio.Event()
    fake.stall(f"GET .*{DIGEST}", gate, at=1_500_000)

    ran = await pull(node)

    gate.set()
    assert 0 == ran.code, ran.err
    assert "Range" in fake.asked(f"GET .*{DIGEST}")[1].headers
    assert len(LAYER) == fake.sent[DIGEST]


async def test_too_many_requests_are_4(fake: FakeRegistry, node: Daemon) -> None:
    """A registry that wants to hear no more is told as such, not as a failure of ours."""
    refused = error(429, "TOOMANYREQUESTS", "you have reached your pull rate limit")
    fake.answer("manifests", 429, refused.body, times=None, Retry_After="3600")

    ran = await pull(node)

    assert 4 == ran.code, ran
    assert UP in told(ran)


@pytest.mark.parametrize("status", [500, 503])
async def test_a_registry_in_trouble(fake: FakeRegistry, node: Daemon, status: int) -> None:
    """Errors of the server are tried again, and then told with their status."""
    fake.answer("manifests", status, times=None)

    ran = await pull(node)

    assert ran.code in (1, 6), ran
    assert str(status) in told(ran)
    assert set() == blobs_of(node.root)


async def test_clients_of_a_liar_get_no_whole_blob(
    fake: FakeRegistry, node: Daemon, tmp_path: Path
) -> None:
    """A runtime that reads along with a wrong blob is cut off before the end of it."""
    fake.change(f"GET .*{DIGEST}", other_bytes, times=None)
    target = tmp_path / "blob"

    command = ["curl", "-s", "-o", str(target), f"http://{node.address}/v2/{UP}/a/blobs/{DIGEST}"]
    process = await asyncio.create_subprocess_exec(*command)
    code = await process.wait()

    assert 0 != code
    assert target.stat().st_size < len(LAYER)
    assert DIGEST not in blobs_of(node.root)
