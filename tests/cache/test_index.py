"""The index by itself: what is whole, what may go, what a failure leaves."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from cache.content import Descriptor, Digest
from cache.database import open_database, sql_errors, transaction
from cache.errors import DiskFull, StoreUnusable
from cache.index import Index, Links
from cache.kept_rows import unreferenced


@pytest.fixture
def index(tmp_path):
    """A new index."""
    index = Index(tmp_path / "cache.db")
    yield index
    index.close()


def thing(name):
    """A descriptor for a name."""
    return Descriptor.of("application/x", str(name).encode())


def no_room(digests):
    """Nobody should need room in these tests."""
    raise AssertionError(digests)


def add(index, name, *children, rule="all"):
    """Record a blob and what it points to."""
    links = Links("application/m", [thing(child) for child in children], rule) if children else None
    return index.add_blob(thing(name).digest, 1, 1.0, links=links)


def test_a_chain_of_any_depth(index):
    """Indexes of indexes, deeper than Python recurses, are judged all the same."""
    for at in range(3000):
        add(index, at, at + 1)
    index.set_name("deep", "r", thing(0), 1.0)

    assert not index.is_complete(thing(0))
    assert ["deep"] == add(index, 3000)
    assert index.is_complete(thing(0))


def test_children_shared_at_every_level(index):
    """Ways that double with every level are not all walked: this would never end."""
    for level in range(60):
        for side in "ab":
            add(index, f"{level}{side}", f"{level + 1}a", f"{level + 1}b")
    add(index, "60a")

    assert not index.is_complete(thing("0a"))

    add(index, "60b")
    assert index.is_complete(thing("0a"))


@pytest.mark.parametrize("rule", ["all", "any"])
def test_what_leads_back_to_itself_is_never_whole(index, rule):
    """No content can truly point to itself; a claim that it does ends in "no", and ends."""
    add(index, "a", "b", rule=rule)
    add(index, "b", "a", rule=rule)

    assert not index.is_complete(thing("a"))


def test_a_way_out_of_a_circle_is_enough(index):
    """Where one child is enough, a claim that others lead back does no harm, and ends."""
    add(index, "a", "b", "leaf", rule="any")
    add(index, "b", "a", rule="any")
    add(index, "leaf")

    assert index.is_complete(thing("a"))


@given(st.data())
def test_whole_means_what_the_rules_say(data):
    """Against the plain recursive definition, on graphs of every shape."""
    count = data.draw(st.integers(1, 8))
    graph = {
        at: (
            data.draw(st.sampled_from(["all", "any"])),
            data.draw(st.sets(st.integers(at + 1, count), max_size=4)) if at < count else set(),
        )
        for at in range(count + 1)
    }
    held = data.draw(st.sets(st.sampled_from(sorted(graph))))

    def whole(at):
        rule, children = graph[at]
        if at not in held:
            return False
        return not children or (any if rule == "any" else all)(whole(child) for child in children)

    with closing(Index(":memory:")) as index:
        for at, (rule, children) in graph.items():
            add(index, at, *children, rule=rule)
        index.reconcile([thing(at).digest for at in graph if at not in held], {}, 1.0)

        assert [whole(at) for at in graph] == [index.is_complete(thing(at)) for at in graph]


@given(
    links=st.dictionaries(st.integers(0, 9), st.sets(st.integers(0, 9), min_size=1, max_size=3)),
    names=st.sets(st.integers(0, 9)),
    leased=st.sets(st.integers(0, 9)),
    asked=st.sets(st.integers(0, 9)),
)
def test_what_is_kept_is_what_can_be_reached(links, names, leased, asked):
    """Collection drops exactly what was asked for and cannot be reached from names and leases."""
    with closing(Index(":memory:")) as index:
        for at in range(10):
            add(index, at, *links.get(at, ()))
        for at in names:
            index.set_name(f"name{at}", "r", thing(at), 1.0)
        index.hold("lease", [thing(at).digest for at in leased], 10.0)
        kept, fresh = set(), names | leased
        while fresh:
            kept |= fresh
            fresh = {child for at in fresh for child in links.get(at, ())} - kept
        gone = index.collect([thing(at).digest for at in asked], 5.0, no_room)

        assert {thing(at).digest for at in asked - kept} == set(gone)


def test_what_was_dropped_is_known_no_more(index):
    """With a blob go the links that start at it and its memberships."""
    add(index, "a", "b")
    index.add_member("r", [thing("a").digest])
    index.collect([thing("a").digest], 1.0, no_room)

    assert [] == index.children(thing("a").digest)
    assert not index.is_member("r", thing("a").digest)
    assert index.expected_size(thing("b").digest) is None


def test_the_names_of_a_digest(index):
    """All names that mean the same content, sorted."""
    add(index, "a")
    for name in ("two", "one"):
        index.set_name(name, "r", thing("a"), 1.0)
    index.set_name("other", "r", thing("b"), 1.0)

    assert ["one", "two"] == [entry.name for entry in index.names_of(thing("a").digest)]


def test_setting_a_name_tells_what_it_was(index):
    """The name now, and the name before."""
    add(index, "a")
    first, none = index.set_name("n", "r", thing("a"), 1.0)
    second, before = index.set_name("n", "r", thing("b"), 2.0)

    assert none is None
    assert first == before
    assert (thing("b"), False, 2.0) == (second.descriptor, second.complete, second.checked)
    assert second == index.drop_name("n")
    assert index.drop_name("n") is None


class FullOnce(Index):
    """An index whose next removal meets a fault of the disk."""

    fault = sqlite3.SQLITE_FULL

    @override
    def _drop(self, digests):
        fault, self.fault = self.fault, 0
        if fault:
            error = sqlite3.OperationalError("the disk is at fault")
            error.sqlite_errorcode = fault
            raise error
        super()._drop(digests)


def test_a_full_disk_gives_room_before_it_is_written_down(tmp_path):
    """Where not even a removal fits in, the files go first; what is kept is not among them."""
    with closing(FullOnce(tmp_path / "cache.db")) as index:
        for name in ("gone", "kept"):
            add(index, name)
        index.hold("lease", [thing("kept").digest], 10.0)
        removed = []
        asked = [thing("gone").digest, thing("kept").digest]

        assert {thing("gone").digest: 1} == index.collect(asked, 5.0, removed.extend)
        assert [thing("gone").digest] == removed
        assert {} == unreferenced(index._db, 5.0)


def test_another_fault_removes_no_file(tmp_path):
    """Only want of room lets files go before their rows."""
    with closing(FullOnce(tmp_path / "cache.db")) as index:
        index.fault = sqlite3.SQLITE_IOERR
        add(index, "a")
        with pytest.raises(sqlite3.OperationalError):
            index.collect([thing("a").digest], 5.0, no_room)

        assert {thing("a").digest: 1} == unreferenced(index._db, 5.0)


# the file beneath


def test_a_failure_inside_a_transaction_undoes_it(tmp_path):
    """All of it or nothing; the next one can begin."""
    db, fresh = open_database(tmp_path / "cache.db")
    with closing(db):
        with pytest.raises(KeyError), transaction(db):
            db.execute("INSERT INTO members VALUES ('r', 'd')")
            raise KeyError
        with transaction(db):
            db.execute("INSERT INTO members VALUES ('r', 'e')")

        assert fresh
        assert [("e",)] == db.execute("SELECT digest FROM members").fetchall()


def test_a_file_that_may_not_grow_is_disk_full(tmp_path):
    """The transaction that did not fit is undone, and the next one can begin."""
    path = tmp_path / "cache.db"
    db, _ = open_database(path)
    with closing(db):
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
        line = pytest.raises(DiskFull, match=r"cache\.db: database or disk is full; free space")
        with line, sql_errors(path), transaction(db):
            for at in range(10_000):
                db.execute("INSERT INTO members VALUES ('r', ?)", (f"digest {at}",))
        db.execute("PRAGMA max_page_count = 100000")
        with transaction(db):
            db.execute("INSERT INTO members VALUES ('r', 'd')")

        assert [(1,)] == db.execute("SELECT count(*) FROM members").fetchall()


def test_a_file_that_is_known_is_not_fresh(tmp_path):
    """Fresh is only what knows nothing."""
    for expected in (True, False):
        db, fresh = open_database(tmp_path / "cache.db")
        db.close()

        assert expected == fresh


def test_every_other_fault_is_unusable(tmp_path):
    """Also what the module itself objects to, which has no code."""
    line = pytest.raises(StoreUnusable, match=r"/x/cache\.db: Cannot operate on a closed")
    with line, sql_errors(Path("/x/cache.db")):
        db = sqlite3.connect(":memory:")
        db.close()
        db.execute("SELECT 1")


def test_digests_come_back_as_digests(index):
    """What is stored as text is a Digest again."""
    add(index, "a")

    assert {thing("a").digest: 1} == index.closure(thing("a").digest)
    assert isinstance(next(iter(unreferenced(index._db, 1.0))), Digest)
