"""Story: daemons that are killed, clients that go away, two of a kind on one root or socket."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry, digest_of
from tests.real.conftest import Start
from tests.real.runtimes import attempt, module, plain_environ
from tests.real.stories import UP, Ctl, Daemon, Sections, arriving, blobs_of, get, told

LAYER = random.Random(3).randbytes(6_000_000)
DIGEST = digest_of(LAYER)
NAME = f"{UP}/a:1"
#: Where the upstream stops until the gate is opened.
STOP = 4_000_000
#: Seconds in which what must happen has happened.
LIMIT = 15.0


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    """An upstream with one image of one layer."""
    async with FakeRegistry().serve() as server:
        server.add_image("a", "1", LAYER)
        yield server


@pytest.fixture
async def gate(fake: FakeRegistry) -> AsyncIterator[asyncio.Event]:
    """The first request for the layer stops in the middle until this is set."""
    opened = asyncio.Event()
    fake.stall(f"GET .*{DIGEST}", opened, at=STOP)
    yield opened
    opened.set()


def sections(fake: FakeRegistry) -> Sections:
    """A daemon in front of it that waits for what comes slowly."""
    return {"registries": {UP: {"endpoint": fake.url}}, "daemon": {"drain_timeout": "0s"}}


async def until(holds: Callable[[], bool]) -> None:
    """Look until something holds."""
    deadline = time.monotonic() + LIMIT
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline, "it did not come to hold"


def has_come(node: Daemon, at_least: int) -> Callable[[], bool]:
    """Whether so many bytes of the layer are in the file, and would survive the daemon."""
    journal = node.root / "ingest" / f"{DIGEST.replace(':', '-')}.ranges"

    def enough() -> bool:
        text = journal.read_text() if journal.exists() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        spans = [line.split() for line in whole if line[0].isdigit()]
        return any(int(stop) >= at_least for _, stop in spans)

    return enough


async def test_a_killed_daemon_resumes(
    fake: FakeRegistry, gate: asyncio.Event, start: Start
) -> None:
    """Killed in mid-pull and begun again, it asks for the rest by Range; the client is told."""
    node = start(sections(fake))
    pulling = asyncio.create_task(asyncio.to_thread(node.ctl, "pull", "-q", NAME))
    await until(has_come(node, 1_000_000))
    node.process.kill()
    ran = await pulling
    node.process.wait()
    assert 6 == ran.code, ran
    told(ran)
    assert DIGEST not in blobs_of(node.root)
    came = fake.sent[DIGEST]

    again = start(sections(fake), node.folder)
    done = await asyncio.to_thread(again.ctl.json, "pull", NAME)

    assert DIGEST in blobs_of(again.root)
    assert [] == arriving(again.root)
    asked = fake.asked(f"GET .*{DIGEST}")[1].headers["Range"]
    offset = int(asked.removeprefix("bytes=").partition("-")[0])
    assert 1_000_000 <= offset <= came
    assert came + len(LAYER) - offset == fake.sent[DIGEST]
    assert 1 == len(await asyncio.to_thread(lambda: again.ctl.json("images")["images"]))
    assert DIGEST not in done["digest"]


async def test_a_stopped_daemon_resumes(
    fake: FakeRegistry, gate: asyncio.Event, start: Start
) -> None:
    """SIGTERM ends it with exit code 0 though a pull is under way; nothing that came is lost."""
    node = start(sections(fake))
    pulling = asyncio.create_task(asyncio.to_thread(node.ctl, "pull", "-q", NAME))
    await until(has_come(node, 1_000_000))
    node.process.terminate()
    ran = await pulling
    assert 0 == await asyncio.to_thread(node.process.wait)
    assert ran.code in (1, 6), ran
    told(ran)
    assert not node.socket.exists()

    again = start(sections(fake), node.folder)
    await asyncio.to_thread(again.ctl.ok, "pull", "-q", NAME)

    assert len(LAYER) == fake.sent[DIGEST]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_a_client_that_leaves_stops_nothing(
    fake: FakeRegistry, gate: asyncio.Event, start: Start, number: signal.Signals
) -> None:
    """registryctl is ended in mid-pull: the fetch goes on, and the next pull finds it held."""
    node = start(sections(fake))
    client = node.ctl.begin("pull", "-q", NAME)
    await until(has_come(node, 1_000_000))
    client.send_signal(number)
    _, words = await asyncio.to_thread(client.communicate)
    if number == signal.SIGINT:
        assert (130, ["registryctl: interrupted"]) == (
            client.returncode, words.decode().splitlines(),
        )  # fmt: skip
    gate.set()

    await until(lambda: DIGEST in blobs_of(node.root))
    done = await asyncio.to_thread(node.ctl.json, "pull", NAME)

    assert len(LAYER) == fake.sent[DIGEST]
    assert 1 == len(fake.asked(f"GET .*{DIGEST}"))
    assert done["held_blobs"] >= 1


async def test_many_clients_cost_one_fetch(
    fake: FakeRegistry, gate: asyncio.Event, start: Start
) -> None:
    """Readers that come while a blob arrives, by both doors, share the one fetch of it."""
    node = start(sections(fake))
    pulls = [asyncio.create_task(asyncio.to_thread(node.ctl, "pull", "-q", NAME)) for _ in range(3)]
    await until(has_come(node, 1_000_000))
    path = f"/v2/{UP}/a/blobs/{DIGEST}"
    readers = [asyncio.create_task(asyncio.to_thread(get, node.address, path)) for _ in range(3)]
    gate.set()

    assert [0, 0, 0] == [ran.code for ran in await asyncio.gather(*pulls)]
    assert [(200, DIGEST)] * 3 == [
        (status, digest_of(body)) for status, body in await asyncio.gather(*readers)
    ]
    assert len(LAYER) == fake.sent[DIGEST]


def test_one_root_has_one_daemon(start: Start, tmp_path: Path) -> None:
    """A second one on the same root ends at once and says which process has it; so does --root."""
    node = start({})
    config = tmp_path / "second.toml"
    text = f'[daemon]\nsocket = "{tmp_path}/s"\nlisten = []\n[cache]\nroot = "{node.root}"\n'
    config.write_text(text)

    second = attempt(
        module("registryd.daemon", "--config", str(config)), plain_environ(tmp_path / "home")
    )
    alone = Ctl(tmp_path / "home")("--root", str(node.root), "images")

    for ran in (second, alone):
        assert 1 == ran.code, ran
        assert 1 == len(ran.err.splitlines()), ran.err
        assert str(node.process.pid) in ran.err
        assert str(node.root) in ran.err
    node.ctl.ok("images")


def test_a_socket_that_was_left_behind(start: Start) -> None:
    """What a killed daemon left is replaced; a socket on which one answers is not touched."""
    node = start({})
    node.process.kill()
    node.process.wait()
    assert node.socket.exists()

    again = start({}, node.folder)
    again.ctl.ok("status")
    config = node.folder / "config.toml"
    other = config.read_text().replace(str(node.root), f"{node.root}-other")
    config.write_text(other)
    second = attempt(
        module("registryd.daemon", "--config", str(config)), plain_environ(node.folder / "home")
    )

    assert second.code != 0
    assert 1 == len(second.err.splitlines()), second.err
    assert str(node.socket) in second.err
    again.ctl.ok("status")
