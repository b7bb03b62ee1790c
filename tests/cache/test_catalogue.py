"""All images at once: the same as asking for each."""

from contextlib import closing

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cache.content import Digest
from cache.database import transaction
from cache.eviction import Busy, choose
from cache.graph import SPARE, Graph
from cache.index import Index
from cache.pins import Pin
from cache.table_rows import read_table
from tests.cache import plain_eviction as plain
from tests.cache.test_index import add, thing

NOW, LATER = 9000.0, 9999.0
POINTS = st.integers(0, 7)
RULES = st.sampled_from(["all", "any"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), POINTS, st.sets(POINTS, max_size=3), RULES),
        st.tuples(st.just("name"), POINTS, POINTS),
        st.tuples(st.just("drop name"), POINTS),
        st.tuples(st.just("touch"), POINTS, st.integers(1, 99)),
        st.tuples(st.just("lose"), POINTS),
        st.tuples(st.just("collect"), POINTS),
        st.tuples(st.just("made"), POINTS, POINTS),
        st.tuples(st.just("hold"), POINTS),
        st.tuples(st.just("pin"), POINTS),
    ),
    max_size=8,
)  # fmt: skip


#: What is there before: an index of two manifests which share a layer, all three named.
FIRST = [
    ("add", 5, set(), "all"),
    ("add", 6, set(), "all"),
    ("add", 3, {5, 6}, "all"),
    ("add", 4, {6}, "all"),
    ("add", 0, {3, 4}, "any"),
    ("name", 0, 0),
    ("name", 1, 3),
    ("name", 2, 4),
]


def do(index, step):
    """One change of an index."""
    kind, *rest = step
    if kind == "add":
        add(index, rest[0], *sorted(rest[1] - {rest[0]}), rule=rest[2])
    elif kind == "name":
        index.set_name(f"r{rest[0] % 2}/n{rest[0]}", f"r{rest[0] % 2}", thing(rest[1]), 1.0)
    elif kind == "drop name":
        index.drop_name(f"r{rest[0] % 2}/n{rest[0]}")
    elif kind == "touch":
        index.touch({thing(rest[0]).digest: float(rest[1])})
    elif kind == "lose":
        index.lose(thing(rest[0]).digest)
    elif kind == "collect":
        index.collect([thing(rest[0]).digest], 5.0, lambda digests: None)
    elif kind == "made":
        index.made.add(thing(rest[0]).digest, thing(rest[1]))
    elif kind == "hold":
        index.hold("lease", [thing(rest[0]).digest], LATER)
    elif kind == "pin":
        pin = Pin("", "pin", thing(rest[0]).digest, "", None)
        index.pins.add(pin, 1.0)


def told(graph, visible):
    """What a graph says of the images of some repositories, in plain values."""
    return [
        (row.entry, row.image.size, row.image.used, sorted(row.image.whole), row.own)
        for row in graph.shown(visible)
    ]


async def test_what_has_gone_is_not_remembered_for_ever(store):
    """However many blobs come and go between two questions of all images."""

    async def churn(seed):
        blobs = [(str(Digest.of(f"{seed} {at}".encode())),) for at in range(SPARE)]
        with transaction(store._index._db):
            insert = "INSERT INTO blobs (digest, size, added, used) VALUES (?, 1, 0, 0)"
            store._index._db.executemany(insert, blobs)
            store._index._db.execute("DELETE FROM blobs")
        return await store.catalogue.shown()

    sizes = []
    for seed in range(5):
        await churn(seed)
        sizes.append(len(store.catalogue._graph._digests))

    assert max(sizes) <= 2 * SPARE


@given(STEPS, st.sampled_from([None, frozenset({"r0"})]))
@settings(max_examples=60)
def test_what_is_brought_up_to_date_is_as_if_read_anew(steps, visible):
    """After any changes, and that is what the index itself says."""
    with closing(Index(":memory:")) as index:
        graph, db = Graph(), index._db
        for step in FIRST:
            do(index, step)
        index.changes.take()
        graph.load(db)
        graph.shown(visible)
        for step in steps:
            do(index, step)
        graph.update(db, index.changes.take())
        anew = Graph()
        anew.load(db)
        names = [
            n for n in index.names() if n.complete and (not visible or n.repository in visible)
        ]
        closures = {n.name: index.closure(n.descriptor.digest, made=True) for n in names}

        assert told(anew, visible) == told(graph, visible)
        assert [
            (n.name, sum(closures[n.name].values()), index.last_used(closures[n.name]))
            for n in names
        ] == [(row.entry.name, row.image.size, row.image.used) for row in graph.shown(visible)]


@given(
    st.lists(st.tuples(STEPS, st.booleans()), max_size=4),
    st.sets(POINTS, max_size=1),
    st.integers(0, 20),
)
@example(
    # a name that goes and comes, and between the two what it means gets another link
    [([("drop name", 0), ("name", 2, 0)], False), ([("name", 2, 4), ("made", 4, 0)], False)],
    set(),
    0,
)
@settings(max_examples=100)
def test_what_goes_is_as_if_read_anew(rounds, arriving, wanted):
    """After any changes, decided upon after some of them: by numbers kept up to date the same goes
    as plainly by all rows."""
    busy = Busy(frozenset(thing(each).digest for each in arriving), alone=("r1/n1",))
    with closing(Index(":memory:")) as index:
        graph, db = Graph(), index._db
        for step in FIRST:
            do(index, step)
        index.changes.take()
        graph.load(db)
        found, expected = [], []
        for steps, is_decided in [([], True), *rounds, ([], True)]:
            for step in steps:
                do(index, step)
            graph.update(db, index.changes.take())
            if not is_decided:
                continue
            found.append(choose(read_table(graph, db, NOW), busy, wanted, NOW))
            expected.append(plain.choose(plain.read(db, NOW), busy, wanted, NOW))

        assert expected == found
