"""Repositories in the index: what is attached to what, and which there are."""

import sqlite3
from contextlib import closing

from cache.content import Descriptor, Digest
from cache.index import Index
from cache.repositories import Referrer
from cache.schema import MIGRATIONS

SUBJECT = Digest.of(b"subject")
ARTIFACT = Descriptor.of("application/m", b"artifact")


def attach(index, repository="localhost/a", descriptor=ARTIFACT, notes=None):
    """Put an artifact into a repository, attached to SUBJECT."""
    index.add_blob(descriptor.digest, descriptor.size, 1.0, repository)
    index.repositories.refer(repository, SUBJECT, Referrer(descriptor, "x/y", notes or {}))


def listed(index, repository="localhost/a", room=1000, limit=None, last=""):
    """The digests in a page, and whether there is more."""
    page = index.repositories.referrers(repository, SUBJECT, None, last, limit, room)
    return [referrer.descriptor.digest for referrer in page.referrers], page.more


def test_an_older_file_gets_the_table(tmp_path):
    """A cache.db of the first schema keeps what it has and takes referrers from now on."""
    with closing(sqlite3.connect(tmp_path / "cache.db")) as db:
        db.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1;")
        db.execute("INSERT INTO members VALUES ('localhost/old', 'sha256:0')")
        db.commit()
    with closing(Index(tmp_path / "cache.db")) as index:
        attach(index)

        assert index.repositories.exists("localhost/old")
        assert ([ARTIFACT.digest], False) == listed(index)


def test_who_is_no_member_is_not_recorded():
    """A manifest that was collected meanwhile does not come back as a referrer."""
    with closing(Index(":memory:")) as index:
        index.repositories.refer("localhost/a", SUBJECT, Referrer(ARTIFACT))
        index.add_blob(ARTIFACT.digest, ARTIFACT.size, 1.0, "localhost/a")

        assert ([], False) == listed(index)


def test_referrers_leave_with_their_manifest():
    """Dropped from one repository it leaves that list; collected, it leaves all."""
    with closing(Index(":memory:")) as index:
        for repository in ("localhost/a", "localhost/b", "localhost/c"):
            attach(index, repository)
        index.drop_member("localhost/a", ARTIFACT.digest)
        kept = [len(listed(index, f"localhost/{name}")[0]) for name in "abc"]
        index.collect([ARTIFACT.digest], 2.0, lambda digests: None)
        # As after a new push of the same bytes, without their subject.
        index.add_blob(ARTIFACT.digest, ARTIFACT.size, 3.0, "localhost/b")

        assert [0, 1, 1] == kept
        assert ([], False) == listed(index, "localhost/b")


def test_what_the_disk_lost_is_not_listed():
    """A manifest whose file was gone at start is not listed."""
    with closing(Index(":memory:")) as index:
        attach(index)
        index.reconcile([ARTIFACT.digest], {}, 2.0)

        assert ([], False) == listed(index)


def test_pages_end_by_number_and_by_room():
    """A page has at most so many entries and bytes of annotations, but always one."""
    with closing(Index(":memory:")) as index:
        each = [Descriptor.of("application/m", bytes([number])) for number in range(4)]
        for descriptor in each:
            attach(index, descriptor=descriptor, notes={"k": 80 * "v"})
        order = sorted((descriptor.digest for descriptor in each), key=str)

        assert (order, False) == listed(index)
        assert (order, False) == listed(index, limit=4)
        assert (order[:2], True) == listed(index, room=200)
        assert (order[:1], True) == listed(index, room=1)
        assert (order[2:3], True) == listed(index, limit=1, last=str(order[1]))
        assert (order[3:], False) == listed(index, limit=1, last=str(order[2]))


def test_repositories_below_a_prefix():
    """Only what begins with the prefix, taken as it is, is listed."""
    with closing(Index(":memory:")) as index:
        for repository in ("localhost/b", "localhost/a", "localhostile/c", "LOCALHOST/d"):
            attach(index, repository)
            index.set_name(f"{repository}:1", repository, ARTIFACT, 1.0)

        assert ["localhost/a", "localhost/b"] == index.repositories.below("localhost/")
        assert ["localhost/a", "localhost/b"] == index.repositories.holding(
            "localhost/", ARTIFACT.digest, 9
        )
        assert ["localhost/a"] == index.repositories.holding("localhost/", ARTIFACT.digest, 1)
