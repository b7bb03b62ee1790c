"""A cache of every older registryd, opened by this one: nothing that it knew is lost."""

import hashlib
import json
import sqlite3
from contextlib import closing

import pytest

from cache import schema
from cache.content import Descriptor, Digest
from cache.errors import StoreUnusable
from cache.store import BlobStore
from tests.cache.samples import MANIFEST_TYPE, entries, layer, parent
from tests.contract.blob_store import NAME, REPOSITORY

NOW = 1_000_000.0
SOON = NOW + 500
LAYERS = [layer("first"), layer("second")]
CONTENT, ROOT, _ = parent(*(descriptor for _, descriptor in LAYERS))
SIGNATURE, SIGNED, _ = parent(LAYERS[0][1])
REFERRER = "repository, subject, digest, size, media_type, artifact_type, annotations"
LOST = Descriptor.of("text/x", b"is not here any more")
TEXTS = [*(content for content, _ in LAYERS), CONTENT, SIGNATURE]
VERSIONS = range(1, len(schema.MIGRATIONS) + 1)


def rows():
    """What a cache in use has, by table: the columns that each had when it was made."""
    blobs = [(str(Digest.of(text)), len(text), "", NOW - 9, NOW - 5) for text in TEXTS]
    blobs[2] = (*blobs[2][:2], MANIFEST_TYPE, *blobs[2][3:])
    children = [descriptor for _, descriptor in LAYERS]
    root, signed = str(ROOT.digest), str(SIGNED.digest)
    return {
        ("blobs", "digest, size, media_type, added, used"): blobs,
        ("links", "parent, child, size, media_type, rule"): [
            (root, str(child.digest), child.size, child.media_type, "all") for child in children
        ],
        ("names", "name, repository, digest, media_type, size, complete, checked"): [
            (NAME, REPOSITORY, root, MANIFEST_TYPE, ROOT.size, 1, NOW - 7),
            (f"{NAME}-half", REPOSITORY, str(LOST.digest), "text/x", LOST.size, 0, NOW - 7),
        ],
        ("members", "repository, digest"): [(REPOSITORY, row[0]) for row in blobs],
        ("grants", "repository, principal, expires"): [(REPOSITORY, "uid:7", SOON)],
        ("leases", "lease, digest, expires"): [("of a process that has ended", root, SOON)],
        ("referrers", REFERRER): [
            (REPOSITORY, root, signed, SIGNED.size, MANIFEST_TYPE, "text/sign", '{"k": "v"}')
        ],
        ("secrets", "name, value"): [("salt", b"s" * 32)],
        ("pins", "owner, name, digest, reference, expires"): [
            ("", "mine", root, NAME, None), ("job", "j", root, NAME, SOON),
        ],
    }  # fmt: skip


def older(root, version):
    """A cache as that version has left it: files, index.json, and its own tables."""
    folder = root / "blobs" / "sha256"
    folder.mkdir(parents=True)
    for text in TEXTS:
        (folder / hashlib.sha256(text).hexdigest()).write_bytes(text)
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": []}))
    with closing(sqlite3.connect(root / "cache.db", isolation_level=None)) as db:
        for step in range(version):
            db.executescript(f"{schema.MIGRATIONS[step]};PRAGMA user_version = {step + 1}")
        there = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
        for (table, columns), values in rows().items():
            if table in there:
                marks = ", ".join("?" * (columns.count(",") + 1))
                db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)  # noqa: S608
        return there


def dump(path):
    """All that a database says, and which version it is of."""
    with closing(sqlite3.connect(path)) as db:
        return [*db.execute("PRAGMA user_version"), *db.iterdump()]


@pytest.mark.parametrize("version", VERSIONS)
async def test_all_that_an_older_cache_knew_is_there(root, clock, version):
    """Content, names, links, members, grants, and what that version had of the rest; twice."""
    clock.now = NOW
    there = older(root, version)
    for _ in range(2):
        async with BlobStore.open(root, clock=clock) as store:
            held = {Digest.of(text): await store.read(Digest.of(text), limit=999) for text in TEXTS}
            name = await store.resolve(NAME)
            half = await store.resolve(f"{NAME}-half")
            members = [await store.is_member(REPOSITORY, digest) for digest in held]
            covered = await store.grants.covers(REPOSITORY, ["uid:7"])
            pins = {
                (pin.owner, pin.name, pin.digest, pin.expires) for pin in await store.pins.all()
            }
            referrers = await store.repositories.referrers(REPOSITORY, ROOT.digest, room=9999)
            salt = await store.grants.secret("salt")
            children = await store.children(ROOT.digest)
            await store.made.of(ROOT.digest)
            due = await store.scrub.due(0, 99)

            assert {Digest.of(text): text for text in TEXTS} == held
            assert (ROOT, True, NOW - 7) == (name.descriptor, name.complete, name.checked)
            assert (LOST, False) == (half.descriptor, half.complete)
            assert [True] * len(TEXTS) == members
            assert covered
            assert {each for _, each in LAYERS} == set(children)
            assert MANIFEST_TYPE == await store.media_type(ROOT.digest)
            assert [] == store.lost_names
            assert ("secrets" in there) == (salt == b"s" * 32)
            wanted = {("", "mine", ROOT.digest, None), ("job", "j", ROOT.digest, SOON)}
            assert (wanted if "pins" in there else set()) == pins
            signed = [SIGNED.digest] if "referrers" in there else []
            assert signed == [each.descriptor.digest for each in referrers.referrers]
            assert set(held) == set(due)  # nothing says that an older process has proven it
        assert {NAME: str(ROOT.digest)} == entries(root)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_step_that_fails_leaves_the_version_before_whole(root, version):
    """Were it the last statement of a step: nothing of that step is there, and it can be tried
    again by a registryd that does it right."""
    older(root, version)
    path = root / "cache.db"
    before = dump(path)
    steps = [*schema.MIGRATIONS[:version], "CREATE TABLE t (a); DELETE FROM blobs; SELECT nope;"]
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as db,
        pytest.raises(sqlite3.OperationalError, match="nope"),
    ):
        schema.migrate(db, steps)
    after = dump(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        fresh = schema.migrate(db)

    assert before == after
    assert not fresh


async def test_going_back_is_refused_and_changes_nothing(root):
    """An older registryd on a newer cache says so in a line that names the way out."""
    older(root, len(schema.MIGRATIONS))
    with closing(sqlite3.connect(root / "cache.db")) as db:
        db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    before = dump(root / "cache.db")
    with pytest.raises(StoreUnusable, match=r"upgrade it, or go back .* docs/disk\.md"):
        async with BlobStore.open(root):
            pass

    assert before == dump(root / "cache.db")
