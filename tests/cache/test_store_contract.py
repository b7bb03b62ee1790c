"""The store on disk keeps the contract, and so does the one in memory, which may stand for it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cache.ingest import Ingest
from cache.store import BlobStore
from tests.contract.arrivals import ArrivalContract
from tests.contract.blob_store import BlobStoreContract, Time
from tests.contract.kept_content import KeptContentContract
from tests.contract.store import AnyStore, Pread, Store
from tests.fakes import blob_store as memory
from tests.fakes.ingest import MemoryIngest


class TestBlobStore(BlobStoreContract, ArrivalContract, KeptContentContract):
    """Each promise is asked of both."""

    @pytest.fixture(params=["disk", "memory"])
    def place(self, request: pytest.FixtureRequest) -> str:
        """Where the store is."""
        return str(request.param)

    @pytest.fixture
    async def store(self, place: str, root: Path, clock: Time) -> AsyncIterator[AnyStore]:
        """An empty one."""
        if place == "memory":
            in_memory: Store[MemoryIngest, bytes | bytearray] = memory.MemoryStore(clock)
            yield in_memory
            return
        async with BlobStore.open(root, clock=clock) as opened:
            on_disk: Store[Ingest, int] = opened
            yield on_disk

    @pytest.fixture
    def pread(self, place: str) -> Pread[Any]:
        """What reads from what its readers get."""
        disk: Pread[int] = os.pread
        return memory.pread if place == "memory" else disk
