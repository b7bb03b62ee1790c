"""How long a runtime waits for a registry, and what a dead one costs it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from registryd.oci.errors import Denied, ManifestUnknown, RateLimited, RegistryError
from registryd.oci.reference import Reference
from registryd.ports import TransportError
from registryd.server.budget import KEPT, SHORT, WINDOW, Budgets, OverBudget
from tests.fakes.clock import FakeClock
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import digest_of
from tests.server.test_stale import Moody, ask

REFERENCE = Reference("ghcr.io", "org/app", "1")
LAYERS = [f"layer {number} ".encode() * 100 for number in range(20)]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def budgets(clock: FakeClock) -> Budgets:
    return Budgets(lambda: clock.now)


def request(query: str = "?ns=ghcr.io") -> web.Request:
    return make_mocked_request("GET", f"/v2/org/app/manifests/1{query}")


# the rule


def test_a_failure_shortens_the_next(budgets: Budgets, clock: FakeClock) -> None:
    """After a failure a registry gets the short budget, for a while; others are not touched."""
    given = [budgets.seconds("ghcr.io", 3.0)]
    budgets.failed("ghcr.io")
    given.append(budgets.seconds("ghcr.io", 3.0))
    clock.now += WINDOW - 0.1
    given.append(budgets.seconds("ghcr.io", 5.0))
    other = budgets.seconds("quay.io", 3.0)
    clock.now += 0.1
    given.append(budgets.seconds("ghcr.io", 3.0))

    assert ([3.0, SHORT, SHORT, 3.0], 3.0) == (given, other)


def test_an_answer_restores_it(budgets: Budgets) -> None:
    """What comes from a registry ends its short budgets at once."""
    budgets.failed("ghcr.io")
    budgets.answered("ghcr.io")

    assert (3.0, False) == (budgets.seconds("ghcr.io", 3.0), budgets.failing("ghcr.io"))


@given(st.lists(st.integers(0, 3 * KEPT)))
def test_what_is_remembered_is_bounded(numbers: list[int]) -> None:
    """Clients choose the names: the oldest failures are forgotten."""
    budgets = Budgets(lambda: 0.0)
    for number in [*range(KEPT), *numbers]:
        budgets.failed(f"r{number}.example")
    failing = [n for n in range(3 * KEPT + 1) if budgets.failing(f"r{n}.example")]

    assert KEPT == len(failing)
    assert not numbers or numbers[-1] in failing


# one wait


async def test_a_wait_that_is_too_long(budgets: Budgets, clock: FakeClock) -> None:
    """Running out of the whole budget is a failure; running out of the short one is not, so that
    a registry that is merely slow gets a whole one again in time."""
    for _ in range(2):
        with pytest.raises(OverBudget, match=r"ghcr\.io did not answer for ghcr\.io/org/app:1 in"):
            async with budgets.wait(request(), REFERENCE, 0.01):
                await asyncio.Event().wait()
        clock.now += WINDOW / 2
    failing = budgets.failing("ghcr.io")
    clock.now += 0.1

    assert (False, False) == (failing, budgets.failing("ghcr.io"))


async def test_only_who_can_ask_elsewhere_is_hurried(budgets: Budgets) -> None:
    """Without ns a client waits for as long as it takes, also while a registry fails."""
    budgets.failed("ghcr.io")
    async with budgets.wait(request(""), REFERENCE, 0.0):
        await asyncio.sleep(0.01)

    assert budgets.failing("ghcr.io")


@pytest.mark.parametrize(
    ("error", "failing"),
    [
        (TransportError("x"), True),
        (RateLimited("x", status=429), True),
        (RegistryError("x", status=502), True),
        (ManifestUnknown("x", status=404), False),
        (Denied("a rule of our own"), False),
    ],
)
@pytest.mark.parametrize("query", ["", "?ns=ghcr.io"])
async def test_what_is_a_failure(
    budgets: Budgets, error: TransportError | RegistryError, failing: bool, query: str
) -> None:
    """What another try may change is a failure of the registry, whoever met it; a no is none."""
    with pytest.raises(type(error)):
        async with budgets.wait(request(query), REFERENCE, 3.0):
            raise error

    assert failing == budgets.failing("ghcr.io")


@pytest.mark.parametrize("answered", [False, True])
async def test_what_is_held_proves_nothing(budgets: Budgets, answered: bool) -> None:
    """Only what came from the registry says that it is back, not what the cache had."""
    budgets.failed("ghcr.io")
    async with budgets.wait(request(), REFERENCE, 3.0) as wait:
        wait.answered = answered

    assert answered != budgets.failing("ghcr.io")


# in the daemon


@pytest.fixture
async def upstream() -> AsyncIterator[Moody]:
    async with Moody().serve() as server:
        server.add_image("team/app", "1", *LAYERS)
        yield server


@pytest.fixture
async def node(upstream: Moody, tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path, registries=plain(upstream)) as running:
        yield running


@pytest.fixture
async def client(node: RunningNode) -> AsyncIterator[aiohttp.ClientSession]:
    async with node.stranger() as session:
        yield session


async def test_a_dead_registry_costs_a_pull_its_budget_once(
    client: aiohttp.ClientSession, upstream: Moody, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a registry that takes requests and never answers, a runtime that asks for an image of 20
    layers waits the whole budget once, for the manifest, and a quarter of a second for each
    layer."""
    path = f"/v2/team/app/manifests/1?ns={upstream.name}"
    assert 200 == (await ask(client, path)).status  # so that it knows which layers there are
    upstream.fall_silent()
    seen = [await ask(client, f"/v2/team/app/manifests/none?ns={upstream.name}")]
    paths = [f"/v2/team/app/blobs/{digest_of(layer)}?ns={upstream.name}" for layer in LAYERS]
    for at in range(0, len(paths), 4):
        seen += await asyncio.gather(*(ask(client, path) for path in paths[at : at + 4]))

    assert [503] * 21 == [each.status for each in seen]
    given = re.findall(r"did not answer for \S+ in (\S+) seconds", caplog.text)
    assert {"3": 1, "0.25": 20} == Counter(given)


async def test_a_registry_that_comes_back_is_noticed(
    client: aiohttp.ClientSession, upstream: Moody, node: RunningNode
) -> None:
    """The first layer that comes from it after a failure ends the short budgets."""
    manifest = f"/v2/team/app/manifests/1?ns={upstream.name}"
    assert 200 == (await ask(client, manifest)).status
    layers = [f"/v2/team/app/blobs/{digest_of(layer)}?ns={upstream.name}" for layer in LAYERS[:3]]
    upstream.drop("/v2/.", times=None)
    failed = await ask(client, layers[0])
    upstream.faults.clear()
    back = await ask(client, layers[1])
    upstream.fall_silent()
    waiting = asyncio.create_task(ask(client, layers[2]))
    await asyncio.wait([waiting], timeout=1.0)
    patient = not waiting.done()
    assert upstream.silence is not None
    upstream.silence.set()
    late = await waiting

    assert (503, 200, True, 200) == (failed.status, back.status, patient, late.status)


async def test_a_whole_image_is_believed_while_its_registry_fails(
    client: aiohttp.ClientSession, upstream: Moody
) -> None:
    """What is all here needs no registry within its time, be that failing or not."""
    config = b'{"os":"linux","architecture":"amd64"}'
    manifest = f"/v2/team/app/manifests/1?ns={upstream.name}"
    blobs = [f"/v2/team/app/blobs/{digest_of(b)}?ns={upstream.name}" for b in (config, *LAYERS)]
    before = [(await ask(client, path)).status for path in (manifest, *blobs)]
    upstream.drop("/v2/.", times=None)
    failed = await ask(client, f"/v2/team/app/manifests/2?ns={upstream.name}")
    asked = len(upstream.requests)
    seen = await ask(client, manifest)

    assert ({200}, 503) == (set(before), failed.status)
    assert (200, None, asked) == (seen.status, seen.warning, len(upstream.requests))


async def test_a_stale_answer_is_a_failure_too(
    upstream: Moody, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A registry that fails where something can be given all the same has failed."""
    config = b'{"os":"linux","architecture":"amd64"}'
    manifest = f"/v2/team/app/manifests/1?ns={upstream.name}"
    blobs = [f"/v2/team/app/blobs/{digest_of(b)}?ns={upstream.name}" for b in (config, *LAYERS)]
    async with (
        running_node(tmp_path, registries=plain(upstream, tag_ttl=0.0)) as node,
        node.stranger() as client,
    ):
        before = {(await ask(client, path)).status for path in (manifest, *blobs)}
        upstream.drop("/v2/.", times=None)
        stale = await ask(client, manifest)
        upstream.faults.clear()
        upstream.fall_silent()
        none = await ask(client, f"/v2/team/app/manifests/none?ns={upstream.name}")

    assert ({200}, 200, 503) == (before, stale.status, none.status)
    assert stale.warning is not None
    assert "none in 0.25 seconds" in caplog.text


async def test_half_an_image_is_not_begun_while_its_registry_fails(
    client: aiohttp.ClientSession, upstream: Moody
) -> None:
    """A tag that is still believed is asked for anew when not all of it is here and its registry
    has just failed: no is said before the image is begun, and yes as soon as it is back."""
    manifest = f"/v2/team/app/manifests/1?ns={upstream.name}"
    layer = f"/v2/team/app/blobs/{digest_of(LAYERS[0])}?ns={upstream.name}"
    before = [(await ask(client, manifest)).status for _ in range(2)]
    upstream.drop("/v2/.", times=None)
    during = [(await ask(client, path)).status for path in (manifest, layer, manifest)]
    upstream.faults.clear()
    asked = len(upstream.lines("/manifests/"))
    after = [(await ask(client, manifest)).status for _ in range(2)]

    assert ([200, 200], [200, 503, 503], [200, 200]) == (before, during, after)
    assert asked + 1 == len(upstream.lines("/manifests/"))


# images that were begun


async def test_what_broke_off_is_tried_before_it_is_begun_again(
    client: aiohttp.ClientSession, upstream: Moody
) -> None:
    """Without ns a client has nobody else for a blob: after one that could not be had it is told no
    at the manifest, until that blob can be had; a client that says ns goes on asking."""
    base, said = f"/v2/{upstream.name}/team/app", f"?ns={upstream.name}"
    bad, good = (f"{base}/blobs/{digest_of(layer)}" for layer in LAYERS[:2])
    manifest = f"{base}/manifests/1"
    first = (await ask(client, manifest)).status
    upstream.drop(f"/blobs/{digest_of(LAYERS[0])}", times=None)
    broken = [(await ask(client, path)).status for path in (bad, manifest, good, manifest)]
    elsewhere = (await ask(client, f"/v2/team/app/manifests/1{said}")).status
    upstream.faults.clear()
    mended = [(await ask(client, path)).status for path in (manifest, bad, manifest)]

    assert (200, [503, 503, 200, 503]) == (first, broken)
    assert (200, [200, 200, 200]) == (elsewhere, mended)


@pytest.mark.parametrize(("at", "told"), [(0, 503), (400, 200)], ids=["nothing", "half of it"])
async def test_a_blob_that_is_tried_need_not_come_whole(
    client: aiohttp.ClientSession, upstream: Moody, at: int, told: int
) -> None:
    """While the blob is tried, bytes of it are enough to begin its image; silence is a no."""
    base, blob = f"/v2/{upstream.name}/team/app", f"/blobs/{digest_of(LAYERS[0])}"
    upstream.drop(blob, times=None)
    first = (await ask(client, f"{base}{blob}")).status
    upstream.faults.clear()
    upstream.stall(blob, asyncio.Event(), at=at, times=None)

    assert (503, told) == (first, (await ask(client, f"{base}/manifests/1")).status)
