"""Story: a disk that has changed what was on it; what it says is never given out again."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from tests.mounts.stage import until
from tests.real.conftest import Start, Upstream
from tests.real.images import Images
from tests.real.stories import Ctl, Daemon, blob_reads, blobs_of, daemon, told


@pytest.fixture
def node(start: Start, everyones: Upstream) -> Daemon:
    """A daemon that holds nothing yet."""
    return start(everyones.sections)


def spoil(node: Daemon, digest: str) -> None:
    """Change one bit of a blob's file, as a bad disk would."""
    path = node.root / "blobs" / digest.replace(":", "/")
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(100)
        bit = file.read(1)[0] ^ 1
        file.seek(100)
        file.write(bytes([bit]))
    path.chmod(0o444)


def test_what_a_disk_has_changed_is_fetched_again(
    node: Daemon, everyones: Upstream, images: Images
) -> None:
    """The wrong layer is found, put aside and named with its image; it alone is fetched again, by
    the daemon itself, and what was made of the image is made again when it is asked for."""
    name, registry = everyones.name("gzip"), everyones.registry
    made = node.ctl.json("convert", name)["blob"]
    clean = node.ctl.json("cache", "verify")
    sizes = {each["digest"]: each["size"] for each in node.ctl.json("cache", "ls")["blobs"]}
    layer = max(images.blobs("gzip") & sizes.keys(), key=lambda digest: sizes[digest])
    before = blob_reads(registry)
    for digest in (layer, made):
        spoil(node, digest)
    ran = node.ctl("cache", "verify", name, "--progress", "none")
    until(lambda: node.metric("registryd_scrub_mended_total") >= 1, "the layer is here")
    listed = [each["reference"] for each in node.ctl.json("images")["images"]]
    status, content = node.get(f"/v2/{name.rpartition(':')[0]}/blobs/{layer}")
    node.ctl.ok("pull", "-q", name)
    again = node.ctl.json("convert", name)
    last = node.ctl.json("cache", "verify")

    assert ([], len(sizes)) == (clean["corrupt"], clean["blobs"])
    assert 5 == ran.code
    assert "2 blobs of the cache put aside as wrong" in ran.err.splitlines()[-1]
    lines = {line.partition(": ")[0]: line for line in ran.out.splitlines()}
    assert {layer, made} == set(lines)
    assert f"needed by {name}; now {node.root}/quarantine/" in lines[layer]
    assert "needed by no image; now " in lines[made]
    assert name in listed
    assert (200, sizes[layer]) == (status, len(content))
    assert Counter({layer: 1}) == blob_reads(registry) - before
    assert (True, made) == (again["made"], again["blob"])
    assert [] == last["corrupt"]
    assert images.blobs("gzip") <= blobs_of(node.root)
    assert 2 == len(os.listdir(node.root / "quarantine"))


def test_the_daemon_finds_it_by_itself(
    start: Start, everyones: Upstream, images: Images, tmp_path: Path
) -> None:
    """A scrub that SIGHUP turns on finds the flipped bit, says so, and fetches the layer again with
    nobody's help; a runtime gets the right bytes, and all of the cache is proven."""
    folder, name, registry = tmp_path / "n", everyones.name("gzip"), everyones.registry
    cache = {"root": folder / "root", "scrub": "0"}
    node = start({**everyones.sections, "cache": cache}, folder)
    node.ctl.ok("pull", "-q", name)
    sizes = {each["digest"]: each["size"] for each in node.ctl.json("cache", "ls")["blobs"]}
    layer = max(images.blobs("gzip") & sizes.keys(), key=lambda digest: sizes[digest])
    before = blob_reads(registry)
    spoil(node, layer)
    config = folder / "config.toml"
    config.write_text(config.read_text().replace('"scrub" = "0"', '"scrub" = "1ms"'))
    node.process.send_signal(signal.SIGHUP)
    until(lambda: node.metric("registryd_scrub_mended_total") >= 1, "the layer is here")
    status, content = node.get(f"/v2/{name.rpartition(':')[0]}/blobs/{layer}")
    said = node.ctl.json("status")["scrub"]
    shown = node.ctl.ok("status")

    assert (200, sizes[layer]) == (status, len(content))
    assert Counter({layer: 1}) == blob_reads(registry) - before
    assert images.blobs("gzip") <= blobs_of(node.root)
    assert (1, 1, 0.001) == (said["bad"], said["fetched_again"], said["period_seconds"])
    assert said["all_proven_since"]
    assert "1 put aside, 1 of them fetched again" in shown
    assert f"quarantined: blob={layer}" in node.log
    assert f"fetched again: blob={layer} from={name.rpartition(':')[0]}" in node.log
    assert [layer.replace(":", "-")] == os.listdir(node.root / "quarantine")


def test_what_cannot_be_verified_is_one_line(node: Daemon) -> None:
    """A name or digest that the cache does not hold is said to be none."""
    for target in ("up.test/lib/none:1", "sha256:" + "0" * 64):
        ran = node.ctl("cache", "verify", target)

        assert (2, True) == (ran.code, "is not in the cache" in told(ran))


def test_an_index_that_knows_too_little_is_rebuilt_from_the_blobs(
    everyones: Upstream, images: Images, tmp_path: Path
) -> None:
    """Links that cache.db has lost come back from the manifests, without a daemon; a runtime is
    served without the registry then. Of a daemon, a blob that somebody has removed is missed at
    once, and fetched again; what is no blob goes. What is right stays."""
    folder, name, registry = tmp_path / "n", everyones.name("gzip"), everyones.registry
    with daemon(folder, everyones.sections) as node:
        node.ctl.ok("pull", "-q", name)
        node.ctl.ok("convert", "-q", name)
        right = node.ctl.json("cache", "repair")
        listed = node.ctl.json("images")["images"]
    with closing(sqlite3.connect(node.root / "cache.db")) as db, db:
        db.execute("DELETE FROM links WHERE rule != 'made'")
        db.execute("INSERT INTO members VALUES ('up.test/gone', 'sha256:' || hex(zeroblob(32)))")
    alone = Ctl(folder / "home", {"REGISTRYD_ROOT": str(node.root)})
    shutil.copytree(node.root, folder / "copy")
    copy = alone.with_environ(REGISTRYD_ROOT=str(folder / "copy"))
    dry = copy.json("cache", "repair", "--dry-run")
    done = alone.json("cache", "repair")
    again = alone.json("cache", "repair")
    before = blob_reads(registry)
    with daemon(folder, everyones.sections) as node:
        listed_again = node.ctl.json("images")["images"]
        layer = max(images.blobs("gzip") & blobs_of(node.root))
        status, _ = node.get(f"/v2/{name.rpartition(':')[0]}/blobs/{layer}")
        served = blob_reads(registry) - before
        (node.root / "blobs" / layer.replace(":", "/")).unlink()
        (node.root / "blobs" / "sha256" / "notes.txt").write_text("by hand")
        live = node.ctl.json("cache", "repair")
        until(lambda: node.metric("registryd_scrub_mended_total") >= 1, "the blob is here")
        found = node.ctl.json("images")["images"]
        other = node.ctl.ok("cache", "repair")

    assert ([], False) == (right["changes"], right["dry_run"])
    assert dry["changes"] == done["changes"]
    kinds = Counter(change["what"] for change in done["changes"])
    assert {"linked", "rows dropped"} == set(kinds)
    assert [] == again["changes"]
    keys = ("reference", "digest", "size", "platforms")
    assert [[e[k] for k in keys] for e in listed] == [[e[k] for k in keys] for e in listed_again]
    assert (200, Counter()) == (status, served)
    said = {change["what"]: change["of"] for change in live["changes"]}
    assert {"put aside": layer, "removed": f"{node.root}/blobs/sha256/notes.txt"} == said
    assert len(listed) == len(found)
    assert "0 changes" in other
