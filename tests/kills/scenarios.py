"""The work that is killed step by step: each way in which something comes, goes or changes."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from cache.schema import MIGRATIONS
from tests.kills import deeds
from tests.kills.checks import absent
from tests.kills.deeds import Pushed
from tests.kills.node import Died, Node
from tests.kills.rig import Rig
from tests.kills.rounds import Scenario
from tests.kills.steps import Mode
from tests.real.stories import UP

MINE = Pushed.made(50, 20_000, 250_000)
#: Less than what ``full`` holds and the large image together.
BOUND = "2600kB"
FULL = [f"{UP}/m{number}:1" for number in range(5)]


def scenarios(rig: Rig) -> list[Scenario]:
    """All of them; what they begin from is made here."""
    large = max(rig.upstream.images["c"].items(), key=lambda item: item[1])[0]
    make_damaged(rig)
    return [
        Scenario("ingest", "empty", [deeds.pull("c")]),
        Scenario("resume", "half", [deeds.pull("c")], starting=True),
        Scenario("many", "held", [deeds.pulls("c", large)]),
        Scenario("tag", "held", _tags()),
        Scenario("rmi", "held", [deeds.rmi("localhost/y:1"), deeds.rmi(f"{UP}/b:1")]),
        Scenario("evict", "full", [deeds.pull("c", *FULL, f"{UP}/a:1", f"{UP}/b:1")],
                 {"cache": {"max_size": BOUND}}),
        Scenario("gc", "full", _collecting()),
        Scenario("push", "held", [MINE.to("localhost/n")], final=_read_back),
        Scenario("push through", "held", NewName(), final=_read_back),
        Scenario("convert", "held", [deeds.convert(f"{UP}/a:1")]),
        Scenario("verify", "spoilt", [deeds.verify(), deeds.pull("a")], incomplete=True),
        Scenario("stop", "held", [deeds.tag(f"{UP}/a:1", "localhost/t:1"), deeds.stop()]),
        Scenario("start", "strays", [deeds.pull("a")], starting=True),
        Scenario("restore", "lost", [deeds.pull("a")], starting=True, lost=True),
        *(Scenario(f"migrate {v}", f"old{v}", [deeds.pull("a")], starting=True)
          for v in range(1, len(MIGRATIONS))),
    ]  # fmt: skip


def _tags() -> list[deeds.Deed]:
    return [
        deeds.tag(f"{UP}/a:1", "localhost/new:1"),
        deeds.tag(f"{UP}/b:1", "localhost/x:1"),
        deeds.tag("localhost/y:1", "localhost/other:1"),
    ]


def _collecting() -> list[deeds.Deed]:
    return [
        deeds.pin(f"{UP}/m0:1"),
        deeds.collect(FULL[1:], free="1GB"),
    ]


class NewName:
    """A push to a repository that nobody has pushed to before, each round."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self) -> Sequence[deeds.Deed]:
        return [MINE.to(f"{UP}/n{next(self._numbers)}")]


def _read_back(rig: Rig, node: Node, done: Sequence[deeds.Deed]) -> Sequence[str]:
    """What was pushed is given, and is upstream where it should be."""
    (name,) = done[0].makes
    repository = name.removesuffix(":1")
    faults = []
    for digest, raw in MINE.contents:
        if node.get(f"/v2/{repository}/blobs/{digest}") != raw:
            faults.append(f"{digest} is given otherwise")
    if repository.startswith(UP):
        behind = repository.removeprefix(f"{UP}/")
        faults += rig.upstream.lacks(behind, deeds.digest_of(MINE.manifest))
    return faults


def make_damaged(rig: Rig) -> None:
    """Caches that something has happened to: by their files, as no daemon would leave them."""
    folder = rig.folder / "templates"
    if (folder / "half").exists():
        return

    def from_held(name: str) -> Path:
        return Path(shutil.copytree(folder / "held", folder / name))

    half(rig)
    strays(from_held("strays"))
    spoil(from_held("spoilt"))
    lost = from_held("lost")
    for path in lost.glob("cache.db*"):
        path.unlink()
    for version in range(1, len(MIGRATIONS)):
        age(from_held(f"old{version}"), version)


def half(rig: Rig) -> None:
    """A daemon was killed while a large layer came: some of it is here, and in the journal."""
    root = rig.copy("held")
    node, _ = rig.start(root)
    rig.nursery.steps.arm(Mode.KILL, 3, match="write journal")
    with suppress(Died):
        node.ask("pull", reference=f"{UP}/c:1")
    rig.clear()
    shutil.copytree(root, rig.folder / "templates" / "half")


def strays(root: Path) -> None:
    """Everything that a kill can leave in ``ingest/``, and a blob that no row tells of."""
    raw = b"nobody knows me"
    for name in ("upload-1.data", "put-1.data", "draft-1", "index.json.new", "oci-layout.new"):
        (root / "ingest" / name).write_bytes(raw)
    path = root / "blobs" / deeds.digest_of(raw).replace(":", "/")
    path.write_bytes(raw)
    path.chmod(0o444)
    some = sorted(root.glob("blobs/sha256/*"))[0]
    for suffix in ("data", "ranges"):
        (root / "ingest" / f"sha256-{some.name}.{suffix}").write_text("0 1\n")


def spoil(root: Path) -> None:
    """The disk has changed a bit in the layer that only one image has."""
    index = json.loads((root / "index.json").read_bytes())["manifests"]
    digest = next(e["digest"] for e in index if f"{UP}/a:1" in e["annotations"].values())
    assert not list(absent(root, digest))
    manifest = json.loads((root / "blobs" / digest.replace(":", "/")).read_bytes())
    path = root / "blobs" / manifest["layers"][1]["digest"].replace(":", "/")
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


def age(root: Path, version: int) -> None:
    """The database as an older registryd had it."""
    with closing(sqlite3.connect(root / "cache.db")) as db:
        known = {
            table: db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
            for table in ("blobs", "links", "names", "members")
        }
    for path in root.glob("cache.db*"):
        path.unlink()
    with closing(sqlite3.connect(root / "cache.db")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        for step in MIGRATIONS[:version]:
            db.executescript(step)
        for table, rows in known.items():
            width = len(db.execute(f"PRAGMA table_info({table})").fetchall())
            marks = ", ".join("?" * width)
            db.executemany(
                f"INSERT INTO {table} VALUES ({marks})",  # noqa: S608
                [row[:width] for row in rows],
            )
        db.execute(f"PRAGMA user_version = {version}")
        db.commit()
