"""A door that lets some logins in, a store whose time a test sets, and access over both."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from cache.store import BlobStore
from registryd.access import Access
from registryd.ports import Remotes
from tests.fakes.door import TTL, Door, Time


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
async def store(tmp_path: Path, time: Time) -> AsyncIterator[BlobStore]:
    async with BlobStore.open(tmp_path / "c", clock=lambda: time.now) as opened:
        yield opened


@pytest.fixture
def access(store: BlobStore, door: Door) -> Access:
    return Access(store, cast(Remotes, door), ttl=TTL)
