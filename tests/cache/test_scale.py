"""No operation costs more because the cache is large: counted in steps of SQLite, never in time."""

from contextlib import closing

import pytest

from cache.content import Descriptor, Digest
from cache.graph import Graph
from cache.index import Index, Links
from tests.cache.test_index import no_room, thing

FEW, MANY = 20, 500
#: Layers of an image: the first is its family's.
LAYERS, FAMILY = 4, 10
#: Steps after which SQLite counts one.
EACH = 10


def filled(images):
    """An index of so many images, of the same shape each."""
    index = Index(":memory:")
    blobs, links, names, members = set(), [], [], []
    for number in range(images):
        own = [f"{number}/{at}" for at in range(1, LAYERS)]
        parent, children = f"image{number}", [f"base{number // FAMILY}", *own]
        blobs.update([parent, *children])
        links += [(parent, child) for child in children]
        names.append((f"r{number}:1", f"r{number}", str(thing(parent).digest)))
        members += [(f"r{number}", str(thing(each).digest)) for each in (parent, *children)]
    texts = {name: str(thing(name).digest) for name in blobs}
    db = index._db
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO blobs (digest, size, added, used) VALUES (?, 1, 1, 1)",
        [(each,) for each in texts.values()],
    )
    db.executemany(
        "INSERT INTO links VALUES (?, ?, 1, 't', 'all')", [(texts[a], texts[b]) for a, b in links]
    )
    db.executemany("INSERT INTO names VALUES (?, ?, ?, 't', 1, 1, 1)", names)
    db.executemany("INSERT INTO members VALUES (?, ?)", members)
    db.executemany("INSERT INTO grants VALUES (?, '*', 9)", [(name[1],) for name in names])
    db.execute("COMMIT")
    return index


IMAGE, OWN, BASE = thing("image7").digest, thing("7/1").digest, thing("base0").digest
NEW = Descriptor.of("t", b"new")
OPERATIONS = {
    "what a name means": lambda index: index.name("r7:1"),
    "the names of a repository": lambda index: index.names("r7"),
    "whose a blob is": lambda index: index.is_member("r7", OWN),
    "who has a grant": lambda index: index.grants.until("r7", ("*", "uid:7")),
    "a media type": lambda index: index.media_type(IMAGE),
    "an expected size": lambda index: index.expected_size(OWN),
    "whether it is whole": lambda index: index.is_complete(thing("image7")),
    "what it points to": lambda index: index.children(IMAGE),
    "a closure": lambda index: index.closure(IMAGE, made=True),
    "a last use": lambda index: index.last_used([IMAGE, OWN, BASE]),
    "uses": lambda index: index.touch({IMAGE: 5.0, OWN: 5.0, BASE: 5.0}),
    "a new blob": lambda index: index.add_blob(
        NEW.digest, 3, 2.0, "r7", Links("t", [thing("7/1")], "all")
    ),
    "a new name": lambda index: index.set_name("r7:2", "r7", thing("image7"), 2.0),
    "a check of a name": lambda index: index.check_name("r7:1", IMAGE, 3.0),
    "a name less": lambda index: index.drop_name("r7:2"),
    "a lease": lambda index: (index.hold("l", [OWN], 9.0), index.release("l")),
    "what may not go": lambda index: index.collect([OWN, BASE], 5.0, no_room),
    "what may go": lambda index: index.collect([NEW.digest], 5.0, no_room),
    "a lost layer of one image": lambda index: index.lose(OWN),
    "a lost layer of a family": lambda index: index.lose(BASE),
    "a start that finds no difference": lambda index: index.reconcile([], {}, 1.0),
    "a start that finds one": lambda index: index.reconcile([IMAGE], {OWN: 1}, 1.0),
}


def steps(index, act):
    """The steps that SQLite takes for an act, in units of ``EACH``."""
    taken = 0

    def count():
        nonlocal taken
        taken += 1

    index._db.set_progress_handler(count, EACH)
    try:
        act(index)
    finally:
        index._db.set_progress_handler(None, 0)
    return taken


def test_no_operation_grows_with_the_cache():
    """Many times as many images, the same number of steps but for a few of chance."""
    with closing(filled(FEW)) as few, closing(filled(MANY)) as many:
        grown = {
            name: pair
            for name, act in OPERATIONS.items()
            if (pair := (steps(few, act), steps(many, act)))[1] > pair[0] * 1.2 + 3
        }

    # Sweeping the grants looks at each of them once; that is at a start, and of one table.
    assert set() == {name for name in grown if not name.startswith("a start")}
    assert all(big < MANY for _, big in grown.values())


def test_a_list_costs_what_has_changed():
    """The graph is brought up to date by a few questions, however many images it has."""
    asked = {}
    for images in (FEW, MANY):
        with closing(filled(images)) as index:
            graph = Graph()
            graph.load(index._db)
            graph.shown(None)
            index.changes.take()
            index.set_name("r7:2", "r7", thing("image7"), 2.0)
            index.touch({OWN: 5.0})
            statements = []
            index._db.set_trace_callback(statements.append)
            graph.update(index._db, index.changes.take())
            found = graph.shown(None)
            index._db.set_trace_callback(None)
            asked[images] = len(statements)

            assert images + 1 == len(found)
    assert {FEW: 2, MANY: 2} == asked


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_digits_of_a_digest_lead_back_to_it(algorithm):
    """The index gives digits alone at a start, for many digests take long to make."""
    digest = Digest.of(b"x", algorithm)
    with closing(Index(":memory:")) as index:
        index.add_blob(digest, 1, 1.0)

        assert {digest.hex: 1} == index.known()
        assert digest == Digest.of_hex(digest.hex)
