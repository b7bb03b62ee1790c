"""How an older ``cache.db`` becomes a newer one."""

import sqlite3

from cache import schema

ROW = ("parent", "child", 3, "text/x", "any")


def older(steps):
    """A file that has been through so many steps."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for step in range(steps):
        db.executescript(f"{schema.MIGRATIONS[step]};PRAGMA user_version = {step + 1}")
    return db


def test_links_stay_and_may_say_what_was_made():
    """The links of a file from before conversions are all there, with their index."""
    before = next(at for at, text in enumerate(schema.MIGRATIONS) if "'made'" in text)
    db = older(before)
    db.execute("INSERT INTO links VALUES (?, ?, ?, ?, ?)", ROW)

    assert not schema.migrate(db)
    db.execute("INSERT INTO links VALUES ('parent', 'other', 1, 'text/x', 'made')")
    assert [ROW] == db.execute("SELECT * FROM links WHERE rule = 'any'").fetchall()
    plan = str(db.execute("EXPLAIN QUERY PLAN SELECT 1 FROM links WHERE child = 'x'").fetchall())
    assert "links_by_child" in plan
    made = str(db.execute("EXPLAIN QUERY PLAN SELECT * FROM links WHERE rule = 'made'").fetchall())
    assert "links_made" in made  # else each name that is set has all links read
    assert schema.migrate(older(0))
