"""Collection as the API has it: whose it is, what it tells, and that a bound ends a pull early."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cache.bounds import Bounds
from cache.errors import DiskFull
from registryd.oci.errors import Denied, UsageError
from registryd.operations import Operations
from tests.fakes.endpoints import image
from tests.fakes.node import RunningNode, plain, running_node
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream
from tests.test_operations import images, offer

ONE, TWO = b"one " * 5000, b"two " * 5000


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with Upstream().serve() as server:
        yield server


@pytest.fixture
async def node(upstream: FakeRegistry, tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path, registries=plain(upstream)) as running:
        yield running


@pytest.fixture
def verbs(node: RunningNode) -> Operations:
    return Operations(node.node)


async def test_the_owner_alone_collects(verbs: Operations, upstream: FakeRegistry) -> None:
    """A user is refused, and sees nothing of what would go; a wrong size is said to be one. Nor has
    a user the whole disk read, or repaired."""
    for dry_run in (True, False):
        with pytest.raises(Denied):
            await verbs.gc(dry_run=dry_run, free="1GB", principal="uid:7")
    with pytest.raises(Denied):
        await verbs.verify(principal="uid:7")
    with pytest.raises(Denied):
        await verbs.repair(dry_run=True, principal="uid:7")
    with pytest.raises(UsageError, match="is not a size"):
        await verbs.gc(free="much")


async def test_what_goes_and_what_stays(verbs: Operations, upstream: FakeRegistry) -> None:
    """A dry run says what the real one does: an image goes by all names that can be had again; one
    of the node's own keeps it. Without a bound or a size no image goes."""
    one = offer(upstream, image(ONE), "team/one")
    two = offer(upstream, image(TWO), "team/two")
    for name in (one, two):
        await verbs.pull(name)
    await verbs.tag(one, "localhost/mine:1")
    idle: Any = await verbs.gc()
    planned: Any = await verbs.gc(dry_run=True, free="1GB")
    before = set(await images(verbs))
    done: Any = await verbs.gc(free="1GB")
    (gone,) = done["going"]
    (stays,) = done["staying"]

    assert [] == idle["going"]
    assert {"there is room"} <= {each["why"] for each in idle["staying"]}
    assert planned == done | {"dry_run": True, "size": planned["size"]}
    assert {one, two, "localhost/mine:1"} == before
    assert {one, "localhost/mine:1"} == set(await images(verbs))
    assert ([two], done["freed"]) == (gone["references"], gone["size"])
    assert ({"localhost/mine:1", one}, "nowhere else to be had") == (
        set(stays["references"]),
        stays["why"],
    )


async def test_a_pull_without_room_fetches_no_layer(
    verbs: Operations, node: RunningNode, upstream: FakeRegistry
) -> None:
    """What cannot fit is known from the manifest: nothing of it is fetched, and nothing goes."""
    held = offer(upstream, image(ONE), "team/one")
    await verbs.pull(held)
    await verbs.tag(held, "localhost/mine:1")
    node.node.store.room.bound(Bounds(len(ONE) + 5000), ("localhost/",))
    large = offer(upstream, image(TWO), "team/two")
    before = [each for each in upstream.requests if "/blobs/" in each.path]
    with pytest.raises(DiskFull):
        await verbs.pull(large)

    assert before == [each for each in upstream.requests if "/blobs/" in each.path]
    assert {held, "localhost/mine:1"} == set(await images(verbs))
