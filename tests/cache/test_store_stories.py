"""Random stories told to the store on disk and to the one in memory: they never differ.

The one asks rows by SQL, upwards and from memos; the other goes through all that it has, each time
anew. What happens is drawn from a number, so that a story that found a fault can be told again.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from cache.content import Descriptor, Digest
from cache.errors import CacheError
from cache.index import Links
from cache.layout import INDEX_FILE, parse_index
from cache.store import BlobStore
from tests.cache.conftest import Clock
from tests.cache.samples import layer, parent
from tests.contract.store import AnyStore, Lease
from tests.fakes.blob_store import MemoryStore

STEPS = 160
#: All else is asked after so many steps: it takes the store on disk a hundred questions.
PAUSE = 8
NAMES = [f"{repository}:{tag}" for repository in ("h/a", "h/b") for tag in "12"]
Piece = tuple[bytes, Descriptor, Links | None]


def pieces(chance: random.Random) -> list[Piece]:
    """Layers, manifests that share some of them, indexes of these, and what needs such indexes."""
    layers: list[Piece] = [(*layer(text * 3), None) for text in "abcde"]
    found = list(layers)
    for below, rule in ((layers, "all"), (found, "any"), (found, "all")):
        found += [parent(*_some(chance, below), rule=rule) for _ in range(3)]  # type: ignore[arg-type]
    return list({piece[1].digest: piece for piece in found}.values())


def _some(chance: random.Random, below: Sequence[Piece]) -> list[Descriptor]:
    return [descriptor for _, descriptor, _ in chance.sample(below, chance.randint(1, 3))]


class Story:
    """What happens to one store; two of the same number do the same."""

    def __init__(self, store: AnyStore, clock: Clock, number: int, leases: AsyncExitStack) -> None:
        self.store = store
        self.clock = clock
        self.chance = random.Random(number)
        self.pieces = pieces(self.chance)
        self.digests = [descriptor.digest for _, descriptor, _ in self.pieces]
        self._stack = leases
        self._leases: list[Lease] = []

    async def step(self) -> object:
        """The next thing that happens, and what comes of it."""
        often = [self._put, self._put, self._put, self._arrive, self._tag, self._tag, self._remove]
        acts = [*often, *often, self._untag, self._pin, self._unpin, self._hold, self._release,
                self._made, self._join, self._leave, self._use, self._wait, self._wait]  # fmt: skip
        act = self.chance.choice(acts)
        try:
            return act.__name__, await act()
        except CacheError as error:
            return act.__name__, type(error), str(error)

    async def _put(self) -> None:
        content, descriptor, links = self.chance.choice(self.pieces)
        repository = self.chance.choice(["", "h/a", "h/b"])
        await self.store.put(content, descriptor, links=links, repository=repository)

    async def _arrive(self) -> Digest:
        content, descriptor, _ = self.chance.choice(self.pieces)
        ingest = await self.store.ingest(descriptor.digest)
        await ingest.write(0, [content])
        return await self.store.commit(ingest, repository=self.chance.choice(["", "h/a"]))

    async def _tag(self) -> object:
        parents = [descriptor for _, descriptor, links in self.pieces if links]
        name, descriptor = self.chance.choice(NAMES), self.chance.choice(parents)
        return await self.store.tag(name, name[:3], descriptor)

    async def _untag(self) -> object:
        return await self.store.untag(self.chance.choice(NAMES))

    async def _remove(self) -> object:
        return await self.store.remove(self.chance.sample(self.digests, 9))

    async def _pin(self) -> object:
        digest, name = self.chance.choice(self.digests), self.chance.choice("pq")
        return await self.store.pins.add(digest, name=name, ttl=self.chance.choice([None, 10, 50]))

    async def _unpin(self) -> object:
        gone = await self.store.pins.drop(self.chance.choice("pq"))
        return sorted(pin.digest for pin in gone)

    async def _hold(self) -> None:
        if len(self._leases) < 2:
            self._leases.append(await self._stack.enter_async_context(self.store.lease(ttl=20)))
        await self.chance.choice(self._leases).hold(self.chance.choice(self.digests))

    async def _release(self) -> None:
        self._leases.clear()
        await self._stack.aclose()

    async def _made(self) -> None:
        (_, subject, links), (_, made, _) = self.chance.sample(self.pieces, 2)
        if links is None or made not in links.children:  # nothing is made of what contains it
            await self.store.made.record(subject.digest, made)

    async def _join(self) -> None:
        await self.store.add_member("h/a", *self.chance.sample(self.digests, 2))

    async def _leave(self) -> bool:
        return await self.store.drop_member("h/a", self.chance.choice(self.digests))

    async def _use(self) -> bytes:
        return await self.store.read(self.chance.choice(self.digests), limit=1000)

    async def _wait(self) -> None:
        self.clock.now += self.chance.choice([5, 10])

    async def listed(self, of: Collection[str] | None = None) -> list[object]:
        """All images, or those of some repositories."""
        rows = await self.store.catalogue.shown(of)
        return [(row.entry, row.image.size, row.image.used, row.own) for row in rows]

    async def told(self) -> dict[str, Any]:
        """All else that the store says of itself."""
        store, roots = self.store, [descriptor for _, descriptor, _ in self.pieces]
        return {
            "listed": await self.listed({"h/b"}),
            "held": [store.find(digest) is not None for digest in self.digests],
            "size": (len(store), store.size),
            "names": await store.names(),
            "resolved": [await store.resolve(name) for name in NAMES],
            "spare": await store.unreferenced(),
            "whole": [await store.is_complete(root) for root in roots],
            "closures": [await store.closure(d, made=made) for d in self.digests
                         for made in (False, True)],
            "children": [set(await store.children(digest)) for digest in self.digests],
            "made": [set(await store.made.of(digest)) for digest in self.digests],
            "sizes": [await store.expected_size(digest) for digest in self.digests],
            "kinds": [await store.media_type(digest) for digest in self.digests],
            "members": [await store.is_member(r, d) for d in self.digests for r in ("h/a", "h/")],
            "used": [await store.last_used([digest]) for digest in self.digests],
        }  # fmt: skip


@pytest.mark.parametrize("number", range(5))
async def test_both_stores_tell_the_same_story(store: BlobStore, clock: Clock, number: int) -> None:
    """Whatever happens, both give the same answers and refuse the same in the same words; and
    ``index.json`` has the names that are complete."""
    other = Clock()
    async with AsyncExitStack() as leases, AsyncExitStack() as others:
        disk = Story(store, clock, number, leases)
        memory = Story(MemoryStore(other), other, number, others)
        for at in range(STEPS):
            assert await disk.step() == await memory.step(), at
            assert await disk.listed() == await memory.listed(), at
            if at % PAUSE == 0:
                assert await disk.told() == await memory.told(), at
                whole = [(n.name, n.descriptor) for n in await store.names() if n.complete]
                assert whole == parse_index((store.root / INDEX_FILE).read_bytes()), at
