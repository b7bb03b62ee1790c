"""The SQLite file beneath the index: open it, prove it, put a damaged one aside, transactions.

Invariants:
- a file that is torn, or no database, is put aside and never used; one that merely cannot be read
  or written now (full disk, locked) is left alone;
- a transaction that could not be committed is rolled back, so that the next one can begin.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from cache.errors import DiskFull, StoreUnusable
from cache.schema import migrate

#: What SQLite says of a file that is torn, or none of its own (primary result codes).
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@contextmanager
def sql_errors(path: Path) -> Iterator[None]:
    """Turn sqlite3.Error into DiskFull or StoreUnusable, with the path in the line."""
    try:
        yield
    except sqlite3.Error as error:
        if is_full(error):
            line = f"{path}: {error}; free space or give the cache more room"
            raise DiskFull(line) from error
        raise StoreUnusable(f"{path}: {error}") from error


def keep_private(path: Path) -> None:
    """Make the file its owner's alone, for it holds secrets; made if it is not there yet."""
    with suppress(OSError):  # what is wrong with it is SQLite's to say
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(fd, 0o600)
        finally:
            os.close(fd)


def is_full(error: sqlite3.Error) -> bool:
    """Whether there was no room for a write."""
    return _reason(error) == sqlite3.SQLITE_FULL


def _reason(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)  # not there when the module itself objects
    return code & 0xFF


def open_database(
    path: Path,
    upgrade: Callable[[sqlite3.Connection], bool] = migrate,
    meanwhile: Callable[[], object] = lambda: None,
) -> tuple[sqlite3.Connection, bool]:
    """The open file, and whether it is fresh: it was missing or damaged, and knows nothing.

    ``upgrade`` brings its tables up to date, and says whether there were none; ``meanwhile`` is
    done while the file is proven. Raises StoreUnusable or DiskFull.
    """
    with sql_errors(path):
        try:
            return _connect(path, upgrade, meanwhile)
        except sqlite3.DatabaseError as error:
            if _reason(error) not in _DAMAGED:
                raise
        _put_aside(path)
        return _connect(path, upgrade, meanwhile)


def _connect(
    path: Path, upgrade: Callable[[sqlite3.Connection], bool], meanwhile: Callable[[], object]
) -> tuple[sqlite3.Connection, bool]:
    # The store calls from one thread at a time, which need not be the one that opened.
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -8192")
        with ThreadPoolExecutor(1, "cache-proof") as beside:
            proof = beside.submit(_prove_whole, db)
            meanwhile()
            proof.result()
        return db, upgrade(db)
    except BaseException:
        db.close()
        raise


def read_only(path: Path) -> sqlite3.Connection:
    """Another connection to a database that is open, by which nothing can be changed."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def _prove_whole(db: sqlite3.Connection) -> None:
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        error = sqlite3.DatabaseError(verdict)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _put_aside(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(file.with_name(file.name + ".damaged"))


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All statements of the block, or none of them."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:  # after a failure; a full disk may have ended it already
            db.execute("ROLLBACK")
