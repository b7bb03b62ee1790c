"""The second line to the index."""

import asyncio
import sqlite3
import threading

import pytest

from cache.reader import Reader
from tests.cache.gates import turns


async def test_what_it_reads_at_the_end_is_closed_too(store, root):
    """Also where the first question is asked so late that nobody waits for its answer."""
    go = threading.Event()
    reader = Reader(root / "cache.db")
    reader._thread.submit(go.wait)
    asking = reader(lambda db: db.execute("SELECT 1").fetchone())
    closing = asyncio.ensure_future(reader.close())
    await turns()
    go.set()
    await closing

    assert (1,) == await asking
    with pytest.raises(sqlite3.ProgrammingError):
        reader._db.execute("SELECT 1")
