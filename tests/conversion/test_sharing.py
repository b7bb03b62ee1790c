"""What other nodes have made, brought here chunk by chunk, or given up."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from cache.content import Descriptor, Digest
from cache.store import BlobStore
from registryd.cluster.exchange import Exchange
from registryd.cluster.peer_lines import PeerLines
from registryd.config import TransferConfig
from registryd.conversion.elsewhere import Elsewhere
from registryd.conversion.recipe import Recipe
from registryd.conversion.run import Run
from registryd.conversion.sharing import Sharing
from registryd.oci.manifest import Document, Manifest
from registryd.transfer.cached import CachedSink
from registryd.transfer.copy import copy_image
from registryd.transfer.flight import Flights
from registryd.transfer.library import Library
from registryd.transfer.tag_policy import TagPolicy
from tests.conversion.test_conversions import LOW, sample
from tests.conversion.test_elsewhere import IMAGE, NAME, NODES, Answers, last, made
from tests.fakes.endpoints import MemorySource
from tests.fakes.peer_client import KnownHolders, ScriptedPeers, Turn

CONTENT = random.Random(3).randbytes(5 << 20)
BLOB = Descriptor.of(Recipe().media_type, CONTENT)
MADE = made(blobs=(BLOB,))
IMPATIENT = TransferConfig(attempts=1, connect_timeout=0.1)


@asynccontextmanager
async def brought(
    root: Path, *turns: Turn, said: Document = MADE, held: bytes = b""
) -> AsyncIterator[tuple[Manifest | None, BlobStore]]:
    """What came of a conversion whose maker does this when it is asked for chunks."""
    peers = ScriptedPeers(CONTENT)
    company = Exchange(KnownHolders("e:1", [*NODES, "e:1"]), peers).company
    lines = Answers([last(said)])
    async with (
        BlobStore.open(root) as store,
        Flights.open(store, IMPATIENT) as flights,
    ):
        library = Library(store, flights, policy=TagPolicy({}), clock=lambda: 0.0)
        await copy_image(MemorySource(sample(LOW)), CachedSink(library, store, NAME))
        if held:
            await store.put(held, Descriptor.of(BLOB.media_type, held))
        sharing = Sharing(Elsewhere(company, cast("PeerLines", lines)), flights, store)
        for node in NODES:
            peers.script(node, turns if node == "c:1" else ())

        async def nothing(run: Run) -> None:
            return None

        yield await sharing.bring(None, NAME, Run(IMAGE, Recipe(), nothing)), store


@pytest.mark.parametrize(
    "turns",
    [(), (Turn("a:1"),), (Turn("give"), Turn("a:1"), Turn("b:1"))],
    ids=["given", "redirected", "again"],
)
async def test_it_is_kept_as_one_of_ours(tmp_path: Path, turns: tuple[Turn, ...]) -> None:
    """By the maker, or whom that names, it comes whole, is proven, and is kept with the image."""
    async with brought(tmp_path / "cache", *turns) as (found, store):
        blob = store.find(BLOB.digest)

        assert found is not None
        assert (MADE.digest, [MADE.descriptor]) == (found.digest, await store.made.of(IMAGE.digest))
        assert blob is not None
        assert CONTENT == blob.path.read_bytes()
        whole = await store.closure(IMAGE.digest, made=True)
        assert set(store.held) == set(whole)
        assert [] == os.listdir(store.root / "ingest")


@pytest.mark.parametrize("does", ["gone", "cut", "busy", "denied", "wrong"])
async def test_what_does_not_come_is_made_here(tmp_path: Path, does: str) -> None:
    """Whatever the maker does with its chunks, nothing wrong is kept, and this node makes it."""
    async with brought(tmp_path / "cache", *[Turn(does)] * 50) as (found, store):
        assert found is None
        assert store.find(BLOB.digest) is None
        assert [] == await store.made.of(IMAGE.digest)
        assert Digest.of(LOW) in store.held


async def test_another_size_of_what_is_here_is_not_believed(tmp_path: Path) -> None:
    """A maker whose manifest gives a blob that is held another size: nothing of it is kept."""
    said = made(blobs=(Descriptor(BLOB.media_type, BLOB.digest, BLOB.size - 1),))
    async with brought(tmp_path / "cache", said=said, held=CONTENT) as (found, store):
        assert found is None
        assert [] == await store.made.of(IMAGE.digest)
        assert store.find(said.digest) is None
