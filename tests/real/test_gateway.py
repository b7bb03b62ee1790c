"""Story: images imported for many users: private ones, lists, a queue that outlives the daemon.

The daemon has no login of its own; ann's password opens the registry. Other users can be had by
root alone, so an ordinary user's run leaves this file out.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.real.conftest import PASSWORD, USER, Start, Upstream
from tests.real.stories import UP, Daemon, Sections
from tests.real.test_users import Person, person

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other users")

NAME = f"{UP}/lib/gzip:1"
CREDS = f"{USER}:{PASSWORD}"


@pytest.fixture
def sections(guarded: Upstream) -> Sections:
    """A daemon without a login."""
    return {"registries": {UP: {"endpoint": guarded.registry.url}}}


@pytest.fixture
def node(sections: Sections, start: Start, place: Path) -> Daemon:
    """A daemon whose socket every user can reach."""
    place.chmod(0o755)
    return start(sections, place / "n")


@pytest.fixture
def ann(place: Path, node: Daemon) -> Person:
    """Who has the password."""
    return person(place, node, "ann", 61001)


@pytest.fixture
def eve(place: Path, node: Daemon) -> Person:
    """Who has not."""
    return person(place, node, "eve", 61002)


def test_a_private_image_is_its_puller_s(
    ann: Person, eve: Person, node: Daemon, guarded: Upstream
) -> None:
    """ann's image is hers: eve sees neither it, nor its name, nor its state; whom ann names reads
    it too, and it is a whole squashfs that nobody finds by a path."""
    id = guarded.images.digest("gzip").partition(":")[2]
    pulled = ann.ctl("gateway", "pull", "--creds", CREDS, NAME)
    shown = json.loads(ann.ctl("gateway", "show", NAME, "--format", "json").out)["image"]
    content = ann.ask("GET", f"/api/v1/gateway/content?image={NAME}", "-o", str(ann.home / "x"))

    assert (0, f"{id}\n") == (pulled.code, pulled.out), pulled
    assert [
        f"docker:{NAME}: {state}" for state in ("PENDING", "PULLING", "CONVERSION", "TRANSFER")
    ] == list(dict.fromkeys(line.partition(" (")[0] for line in pulled.err.splitlines()))
    assert (True, [61001], []) == (shown["private"], shown["users"], shown["groups"])
    assert 200 == content[0]
    assert shown["content"] == f"sha256:{hashlib.sha256((ann.home / 'x').read_bytes()).hexdigest()}"
    said = subprocess.run(["unsquashfs", "-cat", ann.home / "x", "etc/motd"], capture_output=True)
    assert b"hello\n" == said.stdout
    for words in (("lookup", NAME), ("show", NAME), ("lookup", f"id:{id}"), ("show", f"id:{id}")):
        assert 2 == eve.ctl("gateway", *words).code, words
    for words in (("images",), ("queue",)):
        ran = eve.ctl("gateway", *words, "--format", "json")
        assert (0, False) == (ran.code, UP in ran.out)
    assert 404 == eve.ask("GET", f"/api/v1/gateway/content?image={NAME}")[0]
    assert 404 == eve.ask("GET", f"/api/v1/gateway/content?image=id:{id}")[0]
    assert 403 == node.get(f"/api/v1/gateway/lookup?image={NAME}")[0]
    assert 3 == eve.ctl("gateway", "metrics").code
    assert 3 == ann.ctl("gateway", "expire", NAME).code
    files = [path for path in (node.root / "gateway").rglob("*") if path.is_file()]
    assert [(f"{id}.squashfs", 0o600)] == [
        (path.name, path.stat().st_mode & 0o777) for path in files
    ]
    # With her own list, and nothing is converted again.
    shared = ann.ctl("gateway", "pull", "--creds", CREDS, "--user", "61002,", NAME)
    assert "CONVERSION" not in shared.err
    assert f"{id}\n" == eve.ctl("gateway", "lookup", NAME).out
    assert [61001, 61002] == json.loads(eve.ctl("gateway", "show", NAME, "--format", "json").out)[
        "image"
    ]["users"]
    looked = node.ctl.json("gateway", "metrics")["lookups"]
    assert [("61002", f"docker:{NAME}", id)] == [(e["user"], e["name"], e["id"]) for e in looked]
    node.ctl.ok("gateway", "expire", f"docker:{NAME}")
    assert [2, 2] == [who.ctl("gateway", "lookup", NAME).code for who in (ann, eve)]
    assert [] == list((node.root / "gateway/images").iterdir())
