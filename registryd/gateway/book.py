"""``gateway.db``: imports, images, their names and lists, in one SQLite file beside the cache.

Everything blocks; each method is one transaction, and decides within it, so that two answers never
rest on the same moment.
Invariants:
- what was said to a caller is on disk before it is said: a commit is synced;
- an image is there with its name and its list, or not at all;
- of a name each caller sees the newest image that they may read, and none else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from cache.database import keep_private, open_database, sql_errors, transaction
from cache.errors import StoreUnusable
from cache.schema import migrate
from registryd.gateway.names import ImageName
from registryd.gateway.record import Account, Image, Lookup, Request
from registryd.gateway.rows import acl_of, acl_text, image_of, image_row, request_of, request_row
from registryd.gateway.states import UNDER_WAY, State

_log = logging.getLogger(__name__)

FILE: Final = "gateway.db"
#: Lookups that are remembered for the metrics.
KEPT_LOOKUPS: Final = 10_000
#: Seconds for which a failure is shown: long enough to be read the next morning.
KEPT_FAILURES: Final = 86400.0
#: Imports that wait or are worked on: of one user, and of all. Of one user as many failures are
#: kept.
MOST_OF_ONE: Final = 256
MOST: Final = 10_000

_SCHEMA: Final = (
    """
    CREATE TABLE requests (
        itype TEXT NOT NULL, tag TEXT NOT NULL, uid INTEGER NOT NULL, state TEXT NOT NULL,
        message TEXT NOT NULL, exit_code INTEGER NOT NULL, account TEXT NOT NULL,
        acl TEXT NOT NULL, created REAL NOT NULL, changed REAL NOT NULL,
        with_login INTEGER NOT NULL, kind TEXT NOT NULL, file TEXT NOT NULL, form TEXT NOT NULL,
        path TEXT NOT NULL,
        PRIMARY KEY (itype, tag, uid)
    ) WITHOUT ROWID;
    CREATE TABLE images (
        id TEXT PRIMARY KEY, itype TEXT NOT NULL, state TEXT NOT NULL, private INTEGER NOT NULL,
        content TEXT NOT NULL, size INTEGER NOT NULL, form TEXT NOT NULL, setup TEXT NOT NULL,
        last_pull REAL NOT NULL, last_lookup REAL NOT NULL
    ) WITHOUT ROWID;
    -- one puller's list for one image
    CREATE TABLE lists (
        id TEXT NOT NULL, uid INTEGER NOT NULL, acl TEXT NOT NULL, PRIMARY KEY (id, uid)
    ) WITHOUT ROWID;
    -- named counts up: what was named last, whatever the clock said
    CREATE TABLE names (
        itype TEXT NOT NULL, tag TEXT NOT NULL, id TEXT NOT NULL, named INTEGER NOT NULL,
        PRIMARY KEY (itype, tag, id)
    ) WITHOUT ROWID;
    CREATE INDEX names_by_id ON names (id);
    CREATE TABLE lookups (
        time REAL NOT NULL, user TEXT NOT NULL, uid INTEGER NOT NULL, itype TEXT NOT NULL,
        tag TEXT NOT NULL, id TEXT NOT NULL
    );
    """,
)


class QueueFull(StoreUnusable):
    """Raised when as many imports wait as may."""


class Book:
    """The rows. Every method raises StoreUnusable, and DiskFull on writing."""

    def __init__(self, path: Path) -> None:
        known = path.exists() and path.stat().st_size > 0
        keep_private(path)
        self._path = path
        self._db, fresh = open_database(path, partial(migrate, steps=_SCHEMA, file=FILE))
        if fresh and known:
            _log.warning("%s was damaged, and is put aside: its images are to be pulled anew", path)
        with sql_errors(path):
            self._db.execute("PRAGMA synchronous = FULL")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # imports

    def request(self, key: tuple[str, str, int]) -> Request | None:
        """An import by its key."""
        with sql_errors(self._path):
            return self._request(key)

    def settle(
        self,
        name: ImageName,
        account: Account,
        decide: Callable[[Image | None, Request | None], Request | None],
    ) -> tuple[Image | None, Request | None]:
        """Have it decided whether an import begins, and write that down.

        ``decide`` gets the image and the import that the caller has under the name; the import
        that it gives is there from now on. Gives what the caller has then. Raises QueueFull.
        """
        key = (name.itype, name.tag, account.uid)
        with sql_errors(self._path), transaction(self._db):
            image, request = self._newest(name, account), self._request(key)
            begun = decide(image, request)
            if begun is None:
                return image, request
            self._check_room(account)
            self._forget_failures(account, begun.changed)
            self._put(begun)
            return image, begun

    def put(self, request: Request) -> None:
        """Write an import down as it stands now; its list is what was last asked for."""
        with sql_errors(self._path), transaction(self._db):
            before = self._request(request.key)
            self._put(request if before is None else replace(request, acl=before.acl))

    def recall(self, now: float) -> None:
        """After a start: what was under way is pending again, and what was expiring has expired."""
        words = "the daemon was restarted: begun anew"
        marks = ", ".join("?" * len(UNDER_WAY))
        with sql_errors(self._path), transaction(self._db):
            self._db.execute(
                f"UPDATE requests SET state = 'PENDING', message = ?, changed = ?"  # noqa: S608 (question marks)
                f" WHERE state != 'PENDING' AND state IN ({marks})",
                (words, now, *sorted(UNDER_WAY)),
            )
            self._forget_old(now)

    def next(self, busy: Iterable[tuple[str, str, int]]) -> Request | None:
        """The import that has waited longest and that nobody is ``busy`` with.

        It is PENDING, or of one that is on its way the database did not take the last step.
        """
        taken, marks = set(busy), ", ".join("?" * len(UNDER_WAY))
        with sql_errors(self._path):
            rows = self._db.execute(
                f"SELECT * FROM requests WHERE state IN ({marks})"  # noqa: S608 (question marks)
                " ORDER BY created, itype, tag, uid LIMIT ?",
                (*sorted(UNDER_WAY), len(taken) + 1),
            ).fetchall()
            free = (each for each in map(request_of, rows) if each.key not in taken)
            found = next(free, None)
            return None if found is None else replace(found, state="PENDING", message="")

    def requests(self, account: Account) -> list[Request]:
        """The caller's imports that are not READY, the oldest first; to an admin everybody's."""
        with sql_errors(self._path):
            rows = self._db.execute(
                "SELECT * FROM requests WHERE ?1 OR uid = ?2 ORDER BY created, itype, tag, uid",
                (account.admin, account.uid),
            )
            return [request_of(row) for row in rows]

    def files(self) -> set[str]:
        """The files that imports still need."""
        with sql_errors(self._path):
            rows = self._db.execute("SELECT file FROM requests WHERE file != ''")
            return {str(file) for (file,) in rows}

    def publish(self, request: Request, image: Image) -> bool:
        """The import is done: the image is READY, with its name and the puller's list.

        Nothing is done, and False, where another list was asked for meanwhile.
        """
        acl = acl_text(request.acl)
        with sql_errors(self._path), transaction(self._db):
            asked = self._request(request.key)
            if asked is not None and asked.acl != request.acl:
                return False
            self._db.execute(
                f"INSERT INTO images VALUES ({', '.join('?' * 10)})"  # noqa: S608 (question marks)
                " ON CONFLICT (id) DO UPDATE SET state = excluded.state,"
                " private = excluded.private, content = excluded.content, size = excluded.size,"
                " form = excluded.form, setup = excluded.setup, last_pull = excluded.last_pull,"
                " last_lookup = max(last_lookup, excluded.last_lookup)",
                image_row(image),
            )
            uid = request.account.uid
            self._db.execute("INSERT OR REPLACE INTO lists VALUES (?, ?, ?)", (image.id, uid, acl))
            self._db.execute(
                "INSERT OR REPLACE INTO names"
                " SELECT ?, ?, ?, coalesce(max(named), 0) + 1 FROM names",
                (request.name.itype, request.name.tag, image.id),
            )
            self._forget(request.key)
            return True

    # images

    def image(self, id: str) -> Image | None:
        """An image by its id with all its names, whoever may read it."""
        with sql_errors(self._path):
            image = self._image(id)
            rows = self._db.execute("SELECT itype, tag FROM names WHERE id = ?", (id,))
            names = tuple(sorted(ImageName(*row) for row in rows))
            return None if image is None else replace(image, names=names)

    def newest(self, name: ImageName, account: Account | None) -> Image | None:
        """What the caller finds under a name: the newest image that they may read."""
        with sql_errors(self._path):
            return self._newest(name, account)

    def looked_up(self, lookups: Sequence[Lookup]) -> None:
        """Put the expiry of images off, and remember who has looked them up."""
        last = {each.id: each.time for each in lookups}
        with sql_errors(self._path), transaction(self._db):
            self._db.executemany(
                "UPDATE images SET last_lookup = max(last_lookup, ?) WHERE id = ?",
                [(time, id) for id, time in last.items()],
            )
            self._db.executemany(
                "INSERT INTO lookups VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (each.time, each.user, each.uid, each.name.itype, each.name.tag, each.id)
                    for each in lookups[-KEPT_LOOKUPS:]
                ],
            )
            self._db.execute(
                "DELETE FROM lookups WHERE rowid <= (SELECT max(rowid) FROM lookups) - ?",
                (KEPT_LOOKUPS,),
            )

    def lookups(self, limit: int) -> list[Lookup]:
        """The last lookups, the newest first."""
        with sql_errors(self._path):
            rows = self._db.execute(
                "SELECT time, user, uid, itype, tag, id FROM lookups ORDER BY rowid DESC LIMIT ?",
                (limit,),
            )
            return [
                Lookup(when, user, uid, ImageName(itype, tag), id)
                for when, user, uid, itype, tag, id in rows
            ]

    def images(self, account: Account | None) -> list[Image]:
        """The images that the caller may read, each with the names that they find it by."""
        with sql_errors(self._path):
            ids = self._db.execute("SELECT id FROM images WHERE state = 'READY' ORDER BY id")
            found = [image for (id,) in ids.fetchall() if (image := self._image(id))]
            mine = {each.id: each for each in found if each.readable(account)}
            shown: dict[str, list[ImageName]] = {id: [] for id in mine}
            for name, ids_of_name in self._names():
                newest = next((id for id in ids_of_name if id in mine), None)
                if newest is not None:
                    shown[newest].append(name)
            return [replace(mine[id], names=tuple(sorted(names))) for id, names in shown.items()]

    def expiring(self, ids: Sequence[str]) -> None:
        """These images are looked up no more; their files go next."""
        with sql_errors(self._path), transaction(self._db):
            for id in ids:
                self._db.execute("UPDATE images SET state = 'EXPIRING' WHERE id = ?", (id,))

    def expired(self, id: str) -> None:
        """The files of an image are gone: so is all that is known of it."""
        with sql_errors(self._path), transaction(self._db):
            self._db.execute("DELETE FROM images WHERE id = ? AND state = 'EXPIRING'", (id,))
            self._db.execute("DELETE FROM names WHERE id = ?", (id,))
            self._db.execute("DELETE FROM lists WHERE id = ?", (id,))

    def ids(self, *states: State, unused_since: float | None = None) -> list[str]:
        """The images in these states, which nobody has looked up since then."""
        marks = ", ".join("?" * len(states))
        with sql_errors(self._path):
            rows = self._db.execute(
                f"SELECT id FROM images WHERE state IN ({marks})"  # noqa: S608 (question marks)
                " AND (? IS NULL OR last_lookup < ?) ORDER BY id",
                (*states, unused_since, unused_since),
            )
            return [str(id) for (id,) in rows]

    # inside a transaction

    def _request(self, key: tuple[str, str, int]) -> Request | None:
        row = self._db.execute(
            "SELECT * FROM requests WHERE itype = ? AND tag = ? AND uid = ?", key
        ).fetchone()
        return None if row is None else request_of(row)

    def _put(self, request: Request) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            request_row(request),
        )

    def _forget(self, key: tuple[str, str, int]) -> None:
        self._db.execute("DELETE FROM requests WHERE itype = ? AND tag = ? AND uid = ?", key)

    def _check_room(self, account: Account) -> None:
        (of_all, of_one) = self._db.execute(
            "SELECT count(*), coalesce(sum(uid = ?), 0) FROM requests WHERE state != 'FAILURE'",
            (account.uid,),
        ).fetchone()
        if of_one >= MOST_OF_ONE or of_all >= MOST:
            raise QueueFull(f"{of_one} imports of yours wait, {of_all} in all: try again later")

    def _forget_failures(self, account: Account, now: float) -> None:
        """Forget failures that are old, and of one user those beyond the last few."""
        self._forget_old(now)
        self._db.execute(
            "DELETE FROM requests WHERE (itype, tag, uid) IN ("
            " SELECT itype, tag, uid FROM requests WHERE state = 'FAILURE' AND uid = ?"
            " ORDER BY changed DESC LIMIT -1 OFFSET ?)",
            (account.uid, MOST_OF_ONE),
        )

    def _forget_old(self, now: float) -> None:
        self._db.execute(
            "DELETE FROM requests WHERE state = 'FAILURE' AND changed < ?", (now - KEPT_FAILURES,)
        )

    def _newest(self, name: ImageName, account: Account | None) -> Image | None:
        if name.itype == "id":
            ids: Iterator[str] = iter((name.tag,))
        else:
            rows = self._db.execute(
                "SELECT id FROM names WHERE itype = ? AND tag = ? ORDER BY named DESC, id",
                (name.itype, name.tag),
            ).fetchall()
            ids = (str(id) for (id,) in rows)
        for id in ids:
            image = self._image(id)
            if image is not None and image.readable(account):
                return replace(image, names=() if name.itype == "id" else (name,))
        return None

    def _image(self, id: str) -> Image | None:
        row = self._db.execute(
            "SELECT * FROM images WHERE id = ?",
            (id,),
        ).fetchone()
        if row is None:
            return None
        lists = self._db.execute("SELECT uid, acl FROM lists WHERE id = ?", (id,))
        return image_of(row, {uid: acl_of(acl) for uid, acl in lists})

    def _names(self) -> Iterator[tuple[ImageName, list[str]]]:
        """Each name with its images, the newest first."""
        rows = self._db.execute("SELECT itype, tag, id FROM names ORDER BY named DESC, id")
        by_name: dict[ImageName, list[str]] = {}
        for itype, tag, id in rows:
            by_name.setdefault(ImageName(itype, tag), []).append(id)
        yield from by_name.items()
