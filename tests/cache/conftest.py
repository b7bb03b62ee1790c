"""A cache root, a store on it, and a clock that only a test moves."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache.files import Files
from cache.store import BlobStore
from tests.cache.gates import GatedExecutor
from tests.cache.ingests import begun

pytest.register_assert_rewrite(
    *(f"tests.contract.{name}" for name in ("arrivals", "blob_store", "kept_content"))
)


class Clock:
    """Unix seconds that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of ``store``."""
    return Clock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache root that is not there yet."""
    return tmp_path / "cache"


@pytest.fixture
async def store(root: Path, clock: Clock) -> AsyncIterator[BlobStore]:
    """An empty store."""
    async with BlobStore.open(root, clock=clock) as store:
        yield store


@pytest.fixture
def files(root: Path):
    """A prepared root without a store."""
    files = Files(root)
    files.prepare()
    yield files
    files.release()


@pytest.fixture
def workers():
    """Threads whose hops a test can stop."""
    with GatedExecutor() as workers:
        yield workers


@pytest.fixture
async def ingest(files, workers):
    """An ingest of the sample in ``ingests``, of a size not yet known."""
    async with begun(files, workers) as ingest:
        yield ingest
