"""Wishes kept fresh: who does it, when, and what comes of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cache.content import Digest
from registryd.cluster.beside import beside
from registryd.jobs.board import MemoryBoard
from registryd.jobs.lookup import Lookup
from registryd.jobs.record import Image, Job
from registryd.jobs.refresh import Refresher, due, keeper
from registryd.jobs.wishes import Wish
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference
from tests.fakes.node import plain, running_node
from tests.fakes.registry import FakeRegistry
from tests.fakes.waiting import until
from tests.jobs.samples import NOW, job

NODES = [f"n{number}" for number in range(1, 9)]


def test_one_node_keeps_a_job() -> None:
    """All nodes name the same keeper, one of those that are meant and there; jobs spread."""
    jobs = [job(id=f"{number:012x}") for number in range(400)]
    kept = Counter(keeper(each, NODES) for each in jobs)

    assert [keeper(each, NODES) for each in jobs] == [keeper(each, NODES[::-1]) for each in jobs]
    assert set(NODES) == set(kept)
    assert max(kept.values()) < 2 * 400 / len(NODES)
    assert "n2" == keeper(job(targets=("n2", "n99")), NODES)
    assert "" == keeper(job(targets=("n99",)), NODES)


def test_a_keeper_that_leaves() -> None:
    """When a keeper is gone, another one of the nodes is it, and only of its jobs."""
    jobs = [job(id=f"{number:012x}") for number in range(100)]
    before = {each.id: keeper(each, NODES) for each in jobs}
    after = {each.id: keeper(each, NODES[1:]) for each in jobs}

    assert {id for id, name in before.items() if name == "n1"} == {
        id for id in before if before[id] != after[id]
    }


def test_when_a_wish_is_due() -> None:
    """Each wish is due by its own time."""
    quick = Wish(Reference("ghcr.io", "a/b"), ("*",), refresh=60.0)
    slow = replace(quick, refresh=3600.0)
    some = job(wishes=(quick, slow), resolved=(NOW, NOW))

    assert [[], [0], [0, 1]] == [due(some, NOW + later) for later in (59, 60, 3600)]


@dataclass
class Keeping:
    """A refresher that looks when the test says so."""

    registry: FakeRegistry
    board: MemoryBoard
    jobs: dict[str, Job] = field(default_factory=dict)
    now: float = NOW
    looks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    looked: int = 0

    async def pause(self, seconds: float) -> None:
        """Until the next look."""
        self.looked += 1
        await self.looks.acquire()

    async def look(self, later: float) -> Job:
        """Have it look after so many seconds; the job as it is then."""
        self.now += later
        begun = self.looked
        self.looks.release()
        await until(lambda: self.looked > begun)
        (found,) = await self.board.jobs()
        self.jobs[found.id] = found
        return found

    async def begin(self, lookup: Lookup, *wishes: Wish) -> Job:
        """Put a job of wishes up."""
        images: list[Image] = []
        for wish in wishes:
            images += await lookup.wished(wish)
        made = job(images=tuple(images), wishes=wishes, resolved=(NOW,) * len(wishes))
        await self.board.post(made)
        self.jobs[made.id] = made
        return made


@pytest.fixture
async def keeping(tmp_path: Path) -> AsyncIterator[tuple[Keeping, Lookup]]:
    """A refresher on a real node's ways to a scripted registry, which has three tags."""
    registry = FakeRegistry()
    for tag in ("v1.0", "v1.1", "v2.0"):
        registry.add_image("team/app", tag, tag.encode())
    async with (
        registry.serve(),
        running_node(tmp_path, registries=plain(registry)) as running,
    ):
        lookup = Lookup(running.node.remotes, running.node.library.tags)
        keep = Keeping(registry, MemoryBoard())
        refresher = Refresher(
            keep.board,
            lookup,
            lambda: keep.jobs,
            lambda job: True,
            clock=lambda: keep.now,
            pause=keep.pause,
        )
        async with beside(refresher.run):
            await until(lambda: keep.looked)
            yield keep, lookup


def wish_for(registry: FakeRegistry, *tags: str) -> Wish:
    """A wish for tags of the scripted registry."""
    return Wish(Reference(registry.name, "team/app"), tags, refresh=60.0)


def meant(some: Job) -> dict[str | None, Digest]:
    """What the tags of a job mean."""
    return {image.reference.tag: image.digest for image in some.images}


async def test_tags_that_move_come_and_go(keeping: tuple[Keeping, Lookup]) -> None:
    """A look finds new tags and moved ones, not those that are gone; before its time, nothing."""
    keep, lookup = keeping
    first = await keep.begin(lookup, wish_for(keep.registry, "v1.*"))
    moved = keep.registry.add_image("team/app", "v1.0", b"moved")
    keep.registry.add_image("team/app", "v1.2", b"new")
    keep.registry.repositories["team/app"].manifests.pop("v1.1")
    early = await keep.look(59)
    late = await keep.look(1)

    assert {"v1.0", "v1.1"} == set(meant(first))
    assert first == early
    assert ({"v1.0", "v1.2"}, 2) == (set(meant(late)), late.revision)
    assert moved == str(meant(late)["v1.0"])
    assert (NOW + 60,) == late.resolved


async def test_a_registry_that_fails(keeping: tuple[Keeping, Lookup]) -> None:
    """What cannot be looked up means what it meant, and is looked up again at its next time."""
    keep, lookup = keeping
    first = await keep.begin(lookup, wish_for(keep.registry, "v1.*", "v2.0"))
    keep.registry.answer("tags/list", 500, times=None)
    late = await keep.look(60)

    assert first.images == late.images
    assert (2, (NOW + 60,)) == (late.revision, late.resolved)


async def test_a_tag_that_is_named_must_be_there(keeping: tuple[Keeping, Lookup]) -> None:
    """At the first look a tag that is named and not there is an error; patterns may mean none."""
    keep, lookup = keeping

    assert () == await lookup.wished(wish_for(keep.registry, "v9.*"))
    with pytest.raises(Exception, match="v9"):
        await lookup.wished(wish_for(keep.registry, "v9"))


async def test_pins_do_not_stand_in_the_way(tmp_path: Path) -> None:
    """What a job has pinned here is asked of its registry all the same, or it could never move."""
    registry = FakeRegistry()
    registry.add_image("team/app", "1", b"old")
    async with registry.serve(), running_node(tmp_path, registries=plain(registry)) as running:
        lookup = Lookup(running.node.remotes, running.node.library.tags)
        reference = Reference(registry.name, "team/app", "1")
        (old,) = await lookup.images([reference])
        tags = running.node.library.tags
        tags._policy.hold("a job", {reference: old.digest}, 1e12)
        moved = registry.add_image("team/app", "1", b"new")
        remote = running.node.remotes.remote(registry.name)

        assert old.digest == (await tags.resolve(remote, reference)).descriptor.digest
        assert [moved] == [str(each.digest) for each in await lookup.images([reference])]


async def test_the_node_s_own_images(keeping: tuple[Keeping, Lookup]) -> None:
    """Images of the node's own registry are refused: other nodes have nowhere to get them."""
    with pytest.raises(UsageError, match="this node's own"):
        await keeping[1].images([Reference.parse("localhost/a:1")])
