"""Story: a cluster in which nodes die, are refused, run full, or see different members.

The bound of every test: the registry sends no chunk more than once more than needed, and where it
has sent one again, the nodes' own count of double fetches is no smaller.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cache.content import Digest
from registryd.cluster.geometry import Geometry
from registryd.cluster.placement import Placement, blob_key
from tests.fakes.http import Reply, Seen, reply
from tests.fakes.registry import digest_of, error
from tests.real.faulting import SIZE, Crew, Upstream, crew, layer, owned
from tests.real.runtimes import need
from tests.real.stories import UP

GEOMETRY = Geometry(SIZE)


async def test_nothing_wrong_costs_one_fetch(tmp_path: Path) -> None:
    """Four nodes at once: the registry sends each byte once, and nobody tells of a second time."""
    upstream = Upstream()
    digest = upstream.put(layer())
    async with crew(tmp_path, upstream, 4) as nodes:
        nodes.good(await nodes.pull())

        await nodes.have(digest)
        assert SIZE == upstream.chunk_bytes(digest).total()
        assert 0 == await nodes.metric("double_fetches_total")


async def test_the_owner_is_killed(tmp_path: Path) -> None:
    """The owner of a chunk dies in the middle of it: the others take it from where they are."""
    upstream = Upstream()
    async with crew(tmp_path, upstream, 4) as nodes:
        victim = nodes[1].id
        content = layer(lambda digest: len(owned(digest, nodes.names, victim)) >= 2)
        digest = upstream.put(content)
        chunk = owned(Digest.of(content), nodes.names, victim)[0]
        hold = upstream.hold(digest, GEOMETRY.span(chunk)[0] + GEOMETRY.chunk // 2)
        pulling = asyncio.create_task(nodes.pull(2, 3, 4))
        dying = asyncio.create_task(nodes.pull(1))
        await upstream.held(hold, pulling)
        assert victim == nodes.of_door(hold.door).id

        await asyncio.to_thread(nodes[1].kill)
        await dying
        nodes.good(await pulling)

        await nodes.have(digest, 2, 3, 4)
        again = await nodes.check_cost(digest, 2, 3, 4)
        theirs = owned(Digest.of(content), nodes.names, victim)
        assert set(again) <= set(theirs), again
        assert await nodes.metric("double_fetches_total", 2, 3, 4) >= 1


LIMITED = error(429, "TOOMANYREQUESTS", "you have reached your pull rate limit")


def too_many(*, but: int, paths: str) -> Callable[[int, Seen], Reply | None]:
    """429 by every door but one, for requests whose path the pattern is found in."""

    def refuses(door: int, seen: Seen) -> Reply | None:
        if door == but or not re.search(paths, seen.line):
            return None
        return reply(429, LIMITED.body, Content_Type="application/json", Retry_After="3600")

    return refuses


async def test_429_to_all_but_one(tmp_path: Path) -> None:
    """The registry gives blobs to one node alone: that one gets all of them for everybody."""
    upstream = Upstream()
    digest = upstream.put(layer())
    async with crew(tmp_path, upstream, 4) as nodes:
        able = nodes.doors[3]
        upstream.refuses = too_many(but=able, paths="/blobs/")

        nodes.good(await nodes.pull())

        await nodes.have(digest)
        again = await nodes.check_cost(digest)
        assert not again, again


async def test_429_for_manifests_too(tmp_path: Path) -> None:
    """By a digest that all know, the one node that is let in is enough for manifests as well."""
    upstream = Upstream()
    digest = upstream.put(layer())
    root = upstream.repositories["a"].manifests["1"][1]
    async with crew(tmp_path, upstream, 4) as nodes:
        upstream.refuses = too_many(but=nodes.doors[3], paths="/(blobs|manifests)/")

        nodes.good(await nodes.pull(image=f"{UP}/a@{digest_of(root)}"))

        await nodes.have(digest)
        assert not await nodes.check_cost(digest)


async def test_a_full_disk(tmp_path: Path) -> None:
    """One node has no room: it says so in one line, and the others end right.

    It has to give up what it had got, and may get its own chunks for the others once more.
    """
    upstream = Upstream()

    def own(number: int, made: Crew) -> Mapping[str, Any]:
        if number != 2:
            return {}
        root = tmp_path / "small"
        root.mkdir()
        return {"before": on_small_disk(root), "root": root}

    async with crew(tmp_path, upstream, 4, own=own) as nodes:
        full = nodes[2].id
        content = layer(lambda digest: len(owned(digest, nodes.names, full)) >= 2)
        digest = upstream.put(content)

        rans = await nodes.pull()

        assert 1 == rans[2].code, rans[2]
        (line,) = rans[2].err.splitlines()
        assert "space" in line.lower() and str(nodes[2].daemon.root) in line, line
        nodes.good({number: rans[number] for number in (1, 3, 4)})
        await nodes.have(digest, 1, 3, 4)
        theirs = owned(Digest.of(content), nodes.names, full)
        await nodes.check_cost(digest, untold=theirs)


def on_small_disk(root: Path) -> tuple[str, ...]:
    """A command's mount of its own: a disk that has room for half of the image."""
    need("mount")
    mount = f'mount -t tmpfs -o size={SIZE // 2},mode=700 registryd "$0" && exec "$@"'
    namespace = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
    return *namespace, "sh", "-c", mount, str(root)


async def test_views_that_differ(tmp_path: Path) -> None:
    """Each node's list lacks another node: all end right, whoever is asked by whom it knows not.

    A chunk may come once for each node that somebody takes for its owner.
    """
    upstream = Upstream()
    digest = upstream.put(layer())
    views = {1: (1, 2, 3), 2: (2, 3, 4), 3: (1, 3, 4), 4: (1, 2, 4)}

    def own(number: int, made: Crew) -> Mapping[str, Any]:
        return {"cluster": {"peers": [made.names[other - 1] for other in views[number]]}}

    async with crew(tmp_path, upstream, 4, own=own) as nodes:
        nodes.good(await nodes.pull())

        await nodes.have(digest)
        sent = upstream.chunk_bytes(digest)
        for chunk, count in sent.items():
            owners = {
                Placement([nodes.names[other - 1] for other in view])
                .ranked(blob_key(Digest.parse(digest)), chunk, 1)
                for view in views.values()
            }  # fmt: skip
            assert count <= len(owners) * GEOMETRY.length(chunk), (chunk, count, owners)
